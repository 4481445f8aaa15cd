"""Where a number was made: the source's commit, the packages, the machine."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

from rankbench.bench.run import software

SOURCES = ("adapters", "bench", "reports", "tasks", "pyproject.toml", "constraints.txt")
"""What a number can depend on: a change elsewhere leaves the commit clean."""


def provenance(**hashes: str) -> dict[str, Any]:
    """Commit, versions, machine, threads, and the given hashes of data and weights."""
    return {**_static_provenance(), "threads": torch.get_num_threads(), **hashes}


@functools.cache
def _static_provenance() -> dict[str, Any]:
    return {
        **_commit(),
        "packages": software.versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _commit() -> dict[str, Any]:
    """The source's commit; null outside a checkout (an installed package)."""
    root = Path(__file__).parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", __file__) is None:
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "--", *SOURCES)
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
