"""What reports find open, for a command that trains. It is judged in a process of its own: what that reads
and imports would count as memory of the runs that this one does after it."""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from collections.abc import Collection
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

from rankbench.bench.processes import start
from rankbench.bench.records import RecordError

Cell: TypeAlias = tuple[str, str]
"""Experiment and label."""


def undecided(suite_folder: Path, runs: Collection[str]) -> set[Cell]:
    """The cells that a claim still needs, by the records of these runs.

    Raises RecordError where they cannot be judged, and what else goes wrong in that process.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_tell, args=(theirs, suite_folder, runs))
    start(child)
    theirs.close()
    try:
        told: set[Cell] | Exception = ours.recv()
    except EOFError:
        told = RecordError("the process died that judged what is decided; the same command goes on")
    finally:
        ours.close()
        child.join()
    if isinstance(told, ModuleNotFoundError):
        raise RecordError(f"judging what is decided needs {told.name}; install it, or say --seeds N")
    if isinstance(told, Exception):
        raise told
    return told


def _tell(channel: Connection, suite_folder: Path, runs: Collection[str]) -> None:
    """What is found, or the exception that was raised."""
    told: set[Cell] | Exception
    try:
        told = _undecided(suite_folder, runs)
    except Exception as error:
        error.add_note(traceback.format_exc())
        told = error
    with suppress(BrokenPipeError):  # there is nobody left to be told
        channel.send(told)


def _undecided(suite_folder: Path, runs: Collection[str]) -> set[Cell]:
    from rankbench.reports.claims.undecided import unasked
    from rankbench.reports.claims.undecided import undecided as found
    from rankbench.reports.frames import load
    from rankbench.reports.study import Study

    study = Study(load(suite_folder, runs))
    if silent := unasked(study):
        told = f"no claim speaks of {', '.join(silent)}: no further seeds of these; --seeds N does them"
        print(told, file=sys.stderr, flush=True)
    return found(study)
