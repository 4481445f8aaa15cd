"""Where a number was made: the packages and the kind of device, which can move it and are part of every
fingerprint; the source's commit and the machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

SOURCES = ("adapters", "bench", "reports", "tasks", "pyproject.toml", "constraints.txt")
"""What a number can depend on: a change elsewhere leaves the commit clean."""

PACKAGES = (
    "accelerate", "datasets", "evaluate", "lm-eval", "numpy", "peft",
    "scikit-learn", "scipy", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""One list for every run: they reach further than one would think. PEFT matches every adapter's targets,
lm-eval's seeds are drawn from NumPy."""


@functools.cache
def versions() -> dict[str, str]:
    """Package -> version, of those that are installed: costs are measured without some of them, too."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def device() -> str:
    """Where runs are trained: "cuda" or "cpu".

    The model of the card or the processor is in the provenance only: between two of a kind numbers differ
    by rounding, and machines that share a folder would renew each other's runs for ever.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def provenance(**hashes: str) -> dict[str, Any]:
    """Commit, versions, machine, threads, and the given hashes of data and weights."""
    return {**_static_provenance(), "threads": torch.get_num_threads(), **hashes}


@functools.cache
def _static_provenance() -> dict[str, Any]:
    return {
        **_commit(),
        "packages": versions(),
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
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
