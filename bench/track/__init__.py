"""Runs followed in a tracker (`rankbench run --track`): what the driver hears of a run is logged there, the
rest when the run ends, from its record. Nothing of a run depends on it."""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rankbench.bench.records import Curve, FailureRecord, Folders, RunRecord, write_atomically
from rankbench.bench.run.job import Job
from rankbench.bench.track.kinds import ONE_AT_A_TIME, Entry, Name, Opened, opened

LIVE_SECONDS = 1.0
"""Between two batches of steps of a run."""
TURN_SECONDS = 30.0
"""The same where the run is closed, since the tracker knows one open run a process: opening takes its time,
which the driver has not for each step of each worker."""


@dataclass
class _State:
    """What of a run is in its tracker: kept on the disk, for whoever goes on with it."""

    key: str
    logged: int = 0
    """Steps, from the first one on."""
    ended: bool = False


@dataclass
class _Run:
    path: Path
    """Of its state."""
    state: _State
    job: Job
    there: Opened | None = None
    """None where it is closed."""
    heard: Curve = field(default_factory=Curve)
    """Steps that are to be logged: those after the logged ones."""
    logged_at: float = -math.inf

    def hear(self, curve: Curve) -> None:
        """Its next steps, in whatever parts. Steps that follow on a gap wait for the record, which has them
        all."""
        last = self.heard.step[-1] if self.heard.step else self.state.logged
        new = curve.after(last)
        if new.step[:1] == [last + 1]:
            self.heard.extend(new)

    @property
    def is_due(self) -> bool:
        """Whether what was heard is to be logged now."""
        pause = LIVE_SECONDS if self.there else TURN_SECONDS
        return time.monotonic() - self.logged_at >= pause

    def log(self, there: Opened) -> None:
        """What was heard."""
        for step, values in _steps(self.heard):
            there.log(values, step)
            self.state.logged = step
        self.heard = Curve()
        self.keep()
        self.logged_at = time.monotonic()

    def log_end(self, there: Opened, record: RunRecord) -> None:
        """What only the record has."""
        for step, values in _measured(record):
            there.log(values, step)
        self.state.ended = True
        self.keep()

    def close(self) -> None:
        """In its tracker, until it is opened again."""
        there, self.there = self.there, None
        if there:
            there.close()

    def keep(self) -> None:
        write_atomically(self.path, json.dumps(asdict(self.state)).encode())


@dataclass
class Tracking:
    """A suite's runs in a tracker. What goes wrong there ends the tracking, in a line, and nothing else."""

    name: Name
    folders: Folders
    project: str
    """As the tracker is to call the suite."""
    _open: dict[str, _Run] = field(default_factory=dict)
    _stopped: bool = False

    def tick(self, job: Job, curve: Curve) -> None:
        """A run has done a step: all of its curve, or the end of it."""
        self._try(partial(self._tick, job, curve))

    def end(self, job: Job, record: RunRecord | FailureRecord) -> None:
        """A run has ended."""
        if isinstance(record, RunRecord):
            self._try(partial(self._end, job, record))
        self._try(partial(self._close, job.cell))

    def close(self) -> None:
        """No run is under way any more."""
        for cell in [*self._open]:
            self._try(partial(self._close, cell))

    def _tick(self, job: Job, curve: Curve) -> None:
        if run := self._of(job):
            run.hear(curve)
            if run.is_due:
                run.log(self._opened(run))

    def _end(self, job: Job, record: RunRecord) -> None:
        if run := self._of(job):
            run.hear(record.curve)
            run.log(self._opened(run))
            run.log_end(self._opened(run), record)

    def _of(self, job: Job) -> _Run | None:
        """None where all of it is there already."""
        if job.cell not in self._open:
            folder = self.folders.root / "tracked" / self.name / f"{job.cell}--{job.fingerprint[:8]}"
            path = folder / "rankbench.json"
            state = _State(**json.loads(path.read_bytes())) if path.exists() else _State(uuid.uuid4().hex)
            if state.ended:
                return None
            self._open[job.cell] = _Run(path, state, job)
        return self._open[job.cell]

    def _opened(self, run: _Run) -> Opened:
        """In its tracker; there alone, if that knows one open run a process."""
        if run.there is None:
            if self.name in ONE_AT_A_TIME:
                for other in self._open.values():
                    other.close()
            job, state, is_new = run.job, run.state, not run.path.exists()
            run.path.parent.mkdir(parents=True, exist_ok=True)
            config = {"fingerprint": job.fingerprint, **_flat(job.config)}
            entry = Entry(self.project, job.cell, run.path.parent, config, state.logged, state.key, is_new)
            run.there = opened(self.name, entry)
            state.key = run.there.key
            run.keep()
        return run.there

    def _close(self, cell: str) -> None:
        if run := self._open.pop(cell, None):
            if run.heard.step:
                run.log(self._opened(run))
            run.close()

    def _try(self, work: Callable[[], None]) -> None:
        if self._stopped:
            return
        try:
            work()
        except Exception as error:  # a tracker's package raises what it likes
            self._stopped = True
            first = next(iter(str(error).splitlines()), "") or type(error).__name__
            told = f"rankbench: tracking with {self.name} has ended: {first}; the runs go on"
            tqdm.write(told, file=sys.stderr)


def _steps(curve: Curve) -> Iterator[tuple[int, dict[str, float]]]:
    names = [name for name in Curve.model_fields if name != "step"]
    for step, *values in zip(curve.step, *(getattr(curve, name) for name in names), strict=True):
        yield step, {f"train/{name}": value for name, value in zip(names, values, strict=True)}


def _measured(record: RunRecord) -> Iterator[tuple[int, dict[str, float]]]:
    """Observations and scores, each at the step of its weights."""
    metrics = record.metrics
    for seen in record.observations:
        values = {} if seen.selection is None else {f"selection/{metrics.selection}": seen.selection}
        for kind in ("accumulated_rank", "gradient_rank"):
            values |= {f"{kind}/{layer}": float(rank) for layer, rank in getattr(seen, kind).items()}
        if values:
            yield seen.step, values
    split = record.config.get("scored_on", "test")
    of = "trial" if split == "selection" else split  # what observations read has that split's name
    for step, scores in {metrics.last_step: metrics.last, metrics.best_step: metrics.best}.items():
        yield step, {f"{of}/{name}": score for name, score in scores.items()}


def _flat(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; lists as texts."""
    flat: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            is_plain = value is None or isinstance(value, str | int | float)
            flat[f"{prefix}{key}"] = value if is_plain else json.dumps(value)
    return flat
