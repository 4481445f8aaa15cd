"""Choices on the disk: what trials have chosen for each entry, and of what exactly.

They are written into a suite's results. Copied beside the suite they are used in the place of trials, for as
long as everything is the same that trials would be made from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import TypeAdapter, ValidationError

from rankbench import tasks
from rankbench.bench import models
from rankbench.bench.records import fingerprint, write_atomically
from rankbench.bench.records.reader import YAMLError, read_yaml
from rankbench.bench.suite import ConfigError, Suite, plugged
from rankbench.bench.suite.blocks import Strict
from rankbench.bench.suite.tuning import refused, space_of
from rankbench.tasks.metrics import UNKNOWN, find

HEAD = "# What the trials of each method chose (docs/tuning.md); `rankbench tune` and `run` write it.\n"
WAY_OUT = "take it from version control, or delete it and have the trials done"


class Choice(Strict):
    """What one entry got."""

    chosen: dict[str, Any]
    """Hyperparameter -> value."""
    trial: str
    """The label of the trial that was best."""
    metric: str
    loss: float
    """What it reached on the selection split; a metric of which more is better has its sign turned."""
    trials: int
    """So many were begun."""
    of: str
    """Hash of all that they were made from."""
    by: list[str]
    """Fingerprints of the trials of full length."""


def value(choice: Choice) -> float:
    """What the metric was, with its own sign."""
    return choice.loss if (find(choice.metric) or UNKNOWN).lower_is_better else -choice.loss


Choices: TypeAlias = dict[str, dict[str, Choice]]
"""Experiment -> entry -> choice."""
_SCHEMA = TypeAdapter(Choices)


def kept(suite: Suite, experiment: str) -> dict[str, Choice]:
    """The choices that come with the suite for entries of an experiment, of those that are still of what the
    suite says. Raises ConfigError for a file that cannot be read, and values that an adapter refuses."""
    if suite.choices is None or not suite.choices.exists():
        return {}
    found, block = read(suite.choices).get(experiment, {}), suite.experiments[experiment]
    choices = {
        label: found[label]
        for label in block.adapters
        if label in found and found[label].of == origin(suite, experiment, label)
    }
    for label, choice in choices.items():
        if why := refused(block.adapters[label], choice.chosen, block.training.steps):
            raise ConfigError(f"{suite.choices}: {experiment}: {label}: {why}; {WAY_OUT}")
    return choices


def read(path: Path) -> Choices:
    """Raises ConfigError with the file's name and the way out."""
    try:
        return _SCHEMA.validate_python(read_yaml(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}; {WAY_OUT}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {where}: {message}; {WAY_OUT}") from None


def write(path: Path, choices: Choices) -> bool:
    """Whether the file says something else now. Raises RecordError where it cannot be written."""
    told = {
        experiment: {label: choice.model_dump() for label, choice in entries.items()}
        for experiment, entries in choices.items()
    }
    content = (HEAD + yaml.safe_dump(told, sort_keys=False, width=100)).encode()
    if path.exists() and path.read_bytes() == content:
        return False
    write_atomically(path, content)
    return True


def origin(suite: Suite, experiment: str, label: str) -> str:
    """Hash of what an entry's trials are made from: the `tune` block, the ranges, task, model, targets,
    training and the entry itself, with the plug-ins, the data of its own and the model's folder that it uses.
    Versions are not in it."""
    block = suite.experiments[experiment]
    assert block.tune is not None
    spec, task = block.adapters[label], tasks.create(**block.task)
    data = {"source": task.source_pin()} if task.data_are_named else {}
    own = models.folder_identity(block.model)
    weights = {} if own is None else {"weights": own}
    used = plugged.used(plugged.named([spec.name], block.task["name"], task))
    return fingerprint(
        {
            "experiment": experiment,
            "entry": label,
            "adapter": spec.model_dump(),
            "tune": block.tune.model_dump(exclude={"space"}),
            "space": {key: span.model_dump() for key, span in space_of(spec, block.tune).items()},
            "task": {"name": block.task["name"], "options": task.options(), **data},
            "model": block.model.model_dump(),
            "targets": block.targets,
            "training": block.training.model_dump(),
            **weights,
            **plugged.hashes(used),
        }
    )
