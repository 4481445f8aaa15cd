"""What a suite, or `--slurm KEY=VALUE`, says of how Slurm is to do its runs. It identifies no run."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydantic import Field, ValidationError, model_validator

from rankbench.bench.records.reader import YAMLError, parse_yaml
from rankbench.bench.suite.blocks import ConfigError, Strict

EARLY_SECONDS = 60
"""By which Slurm may be early in asking a task to save its state."""
START_SECONDS = 60
"""In which a task has imported all it needs, and can be asked: it dies if it is before."""


class Slurm(Strict):
    """What the tasks of an array ask for. What is left out is Slurm's default, or follows from the run."""

    partition: str | None = None
    account: str | None = None
    time: int = Field(default=240, gt=0)
    """Minutes that a task may take; a run that needs more saves its state, and is queued again."""
    signal_delay: int = Field(default=90, gt=0)
    """Seconds before that limit in which it must do so: more than a step takes."""
    timeouts: int = Field(default=20, ge=0)
    """How often a run may need more."""
    cpus: int | None = Field(default=None, gt=0)
    """And threads, of a run."""
    gpus: int | None = Field(default=None, ge=0)
    """Of a run. Without it, runs have a GPU where the driver's own machine has one."""
    memory: float | None = Field(default=None, gt=0)
    """GiB of main memory, of a run."""
    array_parallelism: int = Field(default=256, gt=0)
    """Tasks of an array that run at once."""
    array_size: int = Field(default=500, gt=0)
    """Tasks of an array: at most Slurm's MaxArraySize, and a few less than the files that a process may open,
    since the driver holds a lock for each. More runs are more arrays, one after the other."""
    setup: list[str] = Field(default=[])
    """Lines of shell before a task, as `module load cuda`."""
    sbatch: dict[str, str | int] = Field(default={})
    """Any other option of sbatch's, as `qos: long`."""

    @property
    def device(self) -> str | None:
        """Of the nodes; None where it is that of the driver's machine."""
        return None if self.gpus is None else "cuda" if self.gpus else "cpu"

    @model_validator(mode="after")
    def _time_to_start_in(self) -> Slurm:
        least = math.ceil((self.signal_delay + EARLY_SECONDS + START_SECONDS) / 60)
        if self.time < least:
            raise ValueError(
                f"time: with a signal_delay of {self.signal_delay} s, {self.time} minutes may be over before "
                f"a run has begun; ask for {least} or more"
            )
        return self

    def changed_by(self, words: Iterable[str]) -> Slurm:
        """With what the command line says instead, each as KEY=VALUE, the value as in a suite file.

        Raises ConfigError for what cannot be used.
        """
        said = self.model_dump(exclude_unset=True)
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise ConfigError(f"--slurm {word!r}: write KEY=VALUE, as in --slurm partition=gpu")
            try:
                said[key] = parse_yaml(value)
            except YAMLError:
                raise ConfigError(f"--slurm {word!r}: the value is not YAML") from None
        try:
            return Slurm.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--slurm: {where + ': ' if where else ''}{message}") from None
