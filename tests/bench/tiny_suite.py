"""A suite of two short runs, and what tests do with it: written, run in a process, done without one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from rankbench.bench.backends.standing import keep
from rankbench.bench.records import FailureRecord, Folders, RunRecord
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Order, run
from rankbench.bench.suite import RunSpec

TINY: dict[str, Any] = {
    "seeds": [0],
    "experiments": {
        "tiny": {
            "task": {"name": "tiny-classification"},
            "model": "tiny-bert",
            "targets": ["query", "value"],
            "training": {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "observe": 2, "select": "best"},
            "adapters": {"lora": {"rank": 2}, "scalora": {"rank": 2}},
        }
    },
}


def with_changes(**changes: Any) -> dict[str, Any]:
    """The suite with other settings of its experiment; nothing is shared with TINY."""
    content = yaml.safe_load(yaml.safe_dump(TINY))
    content["experiments"]["tiny"] |= changes
    return content


def record_of(spec: RunSpec, folder: Path) -> RunRecord | FailureRecord:
    """One run without a suite, done and written."""
    job, folders = resolve(spec), Folders(folder)
    return keep(job, run(Order(job, folders.checkpoint(spec.cell))), folders)


def numbers(record: RunRecord) -> dict[str, Any]:
    """All of a record that does not depend on when and where it was made."""
    found = record.model_dump(exclude={"timings", "memory", "provenance"})
    del found["curve"]["seconds"]
    return found


def start(path: str, results: Path, *words: str, **how: Any) -> subprocess.Popen:
    """The command, with a checkpoint every fifth of a second; `how` as Popen takes it."""
    command = [sys.executable, "-m", "rankbench.bench", "run", path, "--results", str(results)]
    return subprocess.Popen(
        [*command, "--checkpoint-every", "0.2", *words], stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"}, **how,
    )  # fmt: skip


def wait_for(path: Path) -> None:
    wait_until(path.exists, str(path))


def wait_until(came: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not came():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)
