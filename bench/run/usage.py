"""What a run uses up: wall time and memory at the peak, over all processes that worked on it."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rankbench.bench.cpu.allocator import give_back_freed_memory
from rankbench.bench.records import Memory


def reset_peak_memory() -> None:
    """Start a new peak, where the system lets a process do so (Linux). Memory that earlier work left
    with the process does not count towards it."""
    give_back_freed_memory()
    with suppress(OSError):  # it is not there, or may not be written
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> Memory:
    """Peaks since the last reset; resident memory of the whole process (since its start, where
    peaks cannot be reset), allocator figures on CUDA."""
    resident = _peak_since_reset()
    if resident is None:
        unit = 1024**2 if sys.platform == "darwin" else 1024
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if not torch.cuda.is_available():
        return Memory(peak_resident=resident)
    return Memory(
        peak_resident=resident,
        peak_allocated=torch.cuda.max_memory_allocated() / 1024**2,
        peak_reserved=torch.cuda.max_memory_reserved() / 1024**2,
    )


def _peak_since_reset() -> float | None:
    """In MiB; None where the system does not tell it: gVisor's status has no such line."""
    status = Path("/proc/self/status")
    rows = status.read_text().splitlines() if status.exists() else []
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith("VmHWM")), None)


@dataclass
class Usage:
    """What a run has used up over all its legs: one leg a process that worked on it.

    What a killed leg did after its last checkpoint was lost and is not counted.
    """

    legs: int = 1
    _earlier: float = 0.0
    _peak: Memory | None = None
    _started: float = field(default_factory=time.perf_counter)

    def add_earlier(self, seconds: float, peak: Memory, legs: int) -> None:
        """Go on from a checkpoint: what the legs before this one used."""
        self._earlier, self._peak, self.legs = seconds, peak, legs + 1

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self._earlier + time.perf_counter() - self._started

    @property
    def memory(self) -> Memory:
        """The largest peak, each figure for itself."""
        both = [peak.model_dump() for peak in (self._peak, peak_memory()) if peak]
        known = {key: [peak[key] for peak in both if peak[key] is not None] for key in both[0]}
        return Memory(**{key: max(values) for key, values in known.items() if values})
