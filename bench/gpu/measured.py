"""What training costs on the device, and seeds of a suite: as many as there is time for, as ordinary records.

What time is up for is gone on with by the same command, or by `rankbench overhead` and `rankbench run`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial

import torch

from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.console import LINE_SECONDS, Progress
from rankbench.bench.cost.overhead import measure_all, unmeasured
from rankbench.bench.records import Folders
from rankbench.bench.run.failures import Failure, Interrupted, attempt
from rankbench.bench.run.job import resolve
from rankbench.bench.run.start import prepare
from rankbench.bench.suite import RunSpec, Suite, plan


class _Sparing(Progress):
    """Of rounds and steps says one now and then: what else is told must not drown in them."""

    def doing(self, text: str) -> None:
        """A line if none was said for a while."""
        if time.monotonic() - self._shown_at > LINE_SECONDS:
            super().doing(text)


def measure(suite: Suite, folders: Folders, stopped: Callable[[], bool]) -> tuple[int, list[str]]:
    """Measure what has no record yet, in the suite's order, and count what failed; with what is left. What a
    process has measured of an entry is kept. Raises RecordError for a folder that cannot be written."""
    folders.check_writable()
    _give_back_memory()
    missing, failed = unmeasured(suite, folders, keep_old_versions=False), 0
    progress = _Sparing(len(missing))
    try:
        while missing:
            failed += measure_all(suite, missing[:1], folders, progress, stopped)
            del missing[0]
    except Interrupted:
        pass
    finally:
        progress.close()
    return failed, missing


def possible(suite: Suite) -> tuple[list[RunSpec], list[str]]:
    """The runs whose data and packages are on this machine, and why others are not possible, a line an
    experiment."""
    specs = list(plan(suite))
    first = {spec.experiment: spec for spec in reversed(specs)}
    tried = {name: attempt(partial(_prepare, spec)) for name, spec in first.items()}
    lacking = {name: found.reason for name, found in tried.items() if isinstance(found, Failure)}
    there = [spec for spec in specs if spec.experiment not in lacking]
    return there, [f"{name}: {reason}" for name, reason in lacking.items()]


def _prepare(spec: RunSpec) -> None:
    from rankbench.bench.records import predictions  # noqa: F401 -- what is answered is kept by pyarrow

    prepare(resolve(spec))


def _give_back_memory() -> None:
    """Of the device, what this process has used and keeps: others need it now."""
    gc.collect()
    torch.cuda.empty_cache()


def train(suite: Suite, specs: list[RunSpec], folders: Folders, stopped: Callable[[], bool]) -> Outcome:
    """Do runs until all are done or time is up. Raises as `execute` does."""
    return execute(suite, specs, folders, stopped, Options(with_overhead=False))
