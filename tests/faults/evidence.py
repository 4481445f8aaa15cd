"""What runs gave, and how they came there: to be compared with an undisturbed folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankbench.bench.records import read_runs
from tests.bench.tiny_suite import numbers

Found = dict[str, tuple[dict[str, Any], bytes]]


def results(folder: Path) -> Found:
    """Cell -> numbers and predictions of its record."""
    return {
        f"{one.task}--{one.adapter}--s{one.seed}": (
            numbers(one),
            (folder / "runs" / str(one.predictions)).read_bytes(),
        )
        for one in read_runs(folder)
    }


def done_again(notes: Path) -> list[int]:
    """For each process that went on with another's run, how many steps it did once more, by what
    `tests.faults.command` noted. A run that was spoilt begins anew, and that is no loss."""
    last: dict[str, tuple[int, str]] = {}
    found = []
    for line in notes.read_text().splitlines() if notes.exists() else []:
        cell, step, process = line.split()
        if process != "spoilt" and cell in last and last[cell][1] != process:
            found.append(max(0, last[cell][0] + 1 - int(step)))
        last[cell] = int(step), process
    return found
