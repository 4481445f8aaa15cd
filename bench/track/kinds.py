"""accelerate's trackers, each begun so that a run that is gone on with goes on in the same run there."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from accelerate.tracking import (
    GeneralTracker,
    MLflowTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)

from rankbench.bench.extras import extra

Name: TypeAlias = Literal["tensorboard", "wandb", "mlflow", "trackio"]

Log: TypeAlias = Callable[[dict[str, float], int], None]
"""Values by their names, and the step that they are of."""


@dataclass(frozen=True)
class Entry:
    """A run, as its tracker is to know it."""

    project: str
    name: str
    folder: Path
    """What the tracker writes on this machine, if anything, lies here."""
    config: dict[str, Any]
    """Numbers, texts and None by dotted keys."""
    logged: int
    """Its first steps, as many, are in the tracker already."""
    key: str
    """What the tracker knows it by; of one that gives keys itself, nobody's until it has given it."""
    is_new: bool


@dataclass(frozen=True)
class Opened:
    """A run in its tracker, to be logged to and closed."""

    log: Log
    close: Callable[[], None]
    key: str


def require(name: Name) -> None:
    """Raises ConfigError with the way out where the tracker's package is missing."""
    with extra(f"--track {name}", name, name):
        importlib.import_module(name)


def opened(name: Name, entry: Entry) -> Opened:
    """Begin the run there, or go on with it. Raises whatever the tracker's package does."""
    return {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}[name](entry)


ONE_AT_A_TIME: tuple[Name, ...] = ("mlflow", "trackio")
"""Trackers with one open run a process."""


def _but_tensorboards(
    say: Callable[[threading.ExceptHookArgs], object], ended: threading.ExceptHookArgs
) -> None:
    """What a thread died of: of TensorBoard's, who logs to it is told by an exception of the same cause."""
    if not type(ended.thread).__module__.startswith("tensorboard."):
        say(ended)


def _tensorboard(entry: Entry) -> Opened:
    if getattr(threading.excepthook, "func", None) is not _but_tensorboards:
        threading.excepthook = partial(_but_tensorboards, threading.excepthook)
    # Steps that a killed process logged and did not count are hidden when they come again.
    purged = {} if entry.is_new else {"purge_step": entry.logged + 1}
    tracker = TensorBoardTracker(entry.folder.name, entry.folder.parent, **purged)
    return _begun(tracker, entry)


def _wandb(entry: Entry) -> Opened:
    """Steps are a value like others: its own count only rises, and observations come late."""
    begin = {"name": entry.name, "id": entry.key, "resume": "allow", "reinit": "create_new"}
    tracker = WandBTracker(entry.project, **begin, config=entry.config, dir=str(entry.folder))
    tracker.start()
    tracker.tracker.define_metric("*", step_metric="step")
    return Opened(lambda values, step: tracker.log({**values, "step": step}), tracker.finish, entry.key)


def _mlflow(entry: Entry) -> Opened:
    tracker = MLflowTracker(entry.project, run_name=entry.name, run_id=None if entry.is_new else entry.key)
    found = _begun(tracker, entry)
    return replace(found, key=tracker.tracker.info.run_id)


def _trackio(entry: Entry) -> Opened:
    """It knows runs by their names alone."""
    name = f"{entry.name}--{entry.key[:8]}"
    tracker = TrackioTracker(entry.project, name=name, resume="allow", config=entry.config)
    return _begun(tracker, entry, with_config=False)


def _begun(tracker: GeneralTracker, entry: Entry, *, with_config: bool = True) -> Opened:
    tracker.start()
    if entry.is_new and with_config:
        tracker.store_init_configuration(entry.config)
    return Opened(lambda values, step: tracker.log(values, step=step), tracker.finish, entry.key)
