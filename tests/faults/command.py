"""The command `rankbench`, which notes each state that it saves, and can be told to die at the very moment
when a file gets its name. Its workers import this module, and do as it does."""

from __future__ import annotations

import fnmatch
import os
import select
import signal
import sys
import time
from typing import Any

from rankbench.bench.cli import main
from rankbench.bench.run.checkpoint import Checkpoint, Progress
from tests.faults import DIES, DYING, NOTES

save, replace = Checkpoint.save, os.replace
matched = 0


def noted(self: Checkpoint, progress: Progress, *state: Any) -> None:
    with open(os.environ[NOTES], "a") as file:
        file.write(f"{self.path.stem} {progress.step} {os.getpid()}\n")
    save(self, progress, *state)


def dying(source: Any, target: Any) -> None:
    global matched
    pattern, moment, number = os.environ[DIES].split()
    matched += fnmatch.fnmatch(str(target), pattern)
    if moment == "after":
        replace(source, target)
    if matched == int(number):
        print(DYING, file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if moment == "before":
        replace(source, target)


def sleep(seconds: float) -> None:
    """libfaketime 0.9.10 refuses what `time.sleep` asks for since Python 3.11: until a moment of a clock."""
    select.select((), (), (), seconds)


Checkpoint.save = noted
time.sleep = sleep
if os.environ[DIES]:
    os.replace = dying

if __name__ == "__main__":
    sys.exit(main())
