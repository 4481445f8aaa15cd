"""What a run is begun with, followed by and left with: all that who does it has to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankbench.bench.records import Curve, RunRecord
from rankbench.bench.run.job import Job

POLL_SECONDS = 0.2
"""Between two looks at whether a listener says to stop, while a run is done in another process."""


@dataclass(frozen=True)
class Order:
    """A run to be done, wherever: it can be pickled."""

    job: Job
    checkpoint: Path
    """Where its state lies while it is unfinished."""
    checkpoint_seconds: float = 60.0
    checkpoint_url: str = ""
    """Where a copy of it is kept, if results lie at a URL."""

    @property
    def trained(self) -> Path:
        """Where the adapter is written at the end, if it is to be saved: its file may be as large as the
        model, and is moved from there."""
        return self.checkpoint.with_suffix(".safetensors")


@dataclass(frozen=True)
class Done:
    """What a run leaves: it can be pickled, as a Failure can."""

    record: RunRecord
    predictions: bytes
    """Item by item, as Parquet."""
    adapter: Path | bytes | None = None
    """The file that is to lie beside the record, or what is in it where it was written elsewhere; None where
    it was not to be saved."""


@dataclass(frozen=True)
class Listener:
    """How a run is followed: `tick` after each step, `stopped` to ask for an early end."""

    tick: Callable[[Curve], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False
