"""What Slurm is asked besides taking an array: which tasks it still has, how one ended, and to end some.

Not `sacct`, by which submitit knows an end: a cluster may keep no accounts, and a task that was preempted for
good never ends there. The queue is the scheduler's own.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Collection

from rankbench.bench.suite import ConfigError

COMMANDS = ("sbatch", "srun", "squeue", "scancel")


def require() -> None:
    """Raise ConfigError where this machine has no Slurm."""
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise ConfigError(
                f"--backend slurm: no {command} on this machine; start it where Slurm's commands are, "
                "or leave --backend out"
            )


def queued() -> set[str] | None:
    """The user's tasks that wait or run, as 123_4; None where Slurm does not answer."""
    options = ["--user", getpass.getuser(), "--array", "--noheader", "--format=%i"]
    done = subprocess.run(["squeue", *options], capture_output=True, text=True)
    return None if done.returncode else set(done.stdout.split())


def state(task: str) -> str:
    """How a task ended, as OUT_OF_MEMORY; empty where Slurm keeps no accounts."""
    if shutil.which("sacct") is None:
        return ""
    options = ["--jobs", task, "--allocations", "--noheader", "--parsable2", "--format=State"]
    done = subprocess.run(["sacct", *options], capture_output=True, text=True)
    words = done.stdout.split()  # of one that was cancelled: CANCELLED by 1000
    return words[0] if words and not done.returncode else ""


def end(tasks: Collection[str]) -> None:
    """Have those that wait leave the queue, and those that run save their state and end."""
    for asked in (["--state=PENDING"], ["--state=RUNNING", "--signal=TERM"]):
        # Some have ended by now, which scancel takes for a mistake.
        subprocess.run(["scancel", *asked, *tasks], capture_output=True)
