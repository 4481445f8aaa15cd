"""What reports find open, for a command that trains. It is judged in a process of its own: what that reads
and imports would count as memory of the runs that this one does after it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeAlias

from rankbench.bench.processes import deaf
from rankbench.bench.records import RecordError

Cell: TypeAlias = tuple[str, str]
"""Experiment and label."""


def undecided(suite_folder: Path, runs: Collection[str]) -> set[Cell]:
    """The cells that a claim still needs, by the records of these runs.

    Raises RecordError where they cannot be judged.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with deaf():
            found = pool.submit(_undecided, suite_folder, runs)
        try:
            return found.result()
        except ModuleNotFoundError as error:
            reason = f"that needs {error.name}; install it, or say --seeds N"
        except BrokenProcessPool:
            reason = "the process died that did it; the same command goes on"
    raise RecordError(f"what is decided cannot be judged: {reason}")


def _undecided(suite_folder: Path, runs: Collection[str]) -> set[Cell]:
    from rankbench.reports.claims.undecided import undecided as found
    from rankbench.reports.frames import load
    from rankbench.reports.study import Study

    return found(Study(load(suite_folder, runs)))
