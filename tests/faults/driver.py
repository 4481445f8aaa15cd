"""A driver as a process of its own, in a session of its own, and its workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults import DIES, NOTES

ROOT = Path(__file__).parents[2]

CLOCK = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Debian's libfaketime: a clock of their own for the processes that load it."""


@dataclass
class Driver:
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)

    def nurseries(self) -> list[psutil.Process]:
        """What workers are forked from: one at a time."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [one for one in children if "forkserver" in " ".join(one.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """But for those whose nursery is gone."""
        try:
            return [worker for nursery in self.nurseries() for worker in nursery.children()]
        except psutil.NoSuchProcess:
            return []


def start(command: Sequence[str], log: Path, notes: Path, dies: str, clock: Path | None) -> Driver:
    """What it says goes to `log`, what it saves is told in `notes`, it may be told to die (as
    `tests.faults.DIES` says), and its clock is off by what the file `clock` says at each moment."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", NOTES: str(notes), DIES: dies}
    if clock:
        environment |= {
            "LD_PRELOAD": str(CLOCK), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.command", *command],
            stdout=file, stderr=file, cwd=ROOT, env=environment, start_new_session=True,
        )  # fmt: skip
    return Driver(process, log)
