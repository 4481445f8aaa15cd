"""A suite of two short runs, and what tests do with it: written, run in a process, done without one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


def start(path: str, results: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "rankbench.bench", "run", path, "--results", str(results)]
    return subprocess.Popen(
        [*command, "--checkpoint-every", "0.2"], stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
