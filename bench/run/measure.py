"""What is measured beside the scores: accumulated rank, merge parity, memory, provenance."""

from __future__ import annotations

import functools
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn

from rankbench.adapters import Adapter
from rankbench.bench.cpu.allocator import give_back_freed_memory
from rankbench.bench.records import Memory, MergeParity
from rankbench.bench.run import software
from rankbench.tasks import Batch

RANK_TOLERANCE = 1e-3
"""Singular values below this share of the largest do not count: above float32 rounding of
(weight now - weight before), below anything that training has put there."""

PROBED_LAYERS = 6
SOURCES = ("adapters", "bench", "reports", "tasks", "pyproject.toml", "constraints.txt")
"""What a number can depend on: a change elsewhere leaves the commit clean."""


class RankProbe:
    """Rank of what training has added to a few evenly spaced layers, whatever the adapter."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.start = {name: adapter.weight(name).detach().clone() for name in _probed(adapter)}

    def ranks(self) -> dict[str, int]:
        """Layer name -> number of singular values of the update above `RANK_TOLERANCE` × the largest."""
        return {
            name: numerical_rank(self.adapter.weight(name).detach() - before)
            for name, before in self.start.items()
        }


class GradientRanks(NamedTuple):
    """Of the layers of `RankProbe`."""

    ranks: dict[str, int]
    """Layer name -> numerical rank of the loss's gradient by the layer's whole weight."""
    one_position: list[str]
    """The layers of which no more positions reach the loss than there are inputs: a pooler, or what comes
    before it in the last block. Their ranks are bounded by that number."""


def gradient_ranks(
    model: nn.Module, adapter: Adapter, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor], batch: Batch
) -> GradientRanks:
    """Ranks of gradients that training never forms, on one batch without dropout.

    Leaves gradients, mode and generators as they were.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, inputs, output: seen.update({name: (inputs[0].detach(), output)})

    handles = [adapter.layers[name].register_forward_hook(keep(name)) for name in _probed(adapter)]
    training, device = model.training, next(model.parameters()).device
    inputs = {key: value.to(device) for key, value in batch.inputs.items()}
    try:
        with torch.enable_grad():
            value = loss(model.eval(), inputs)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    by_output = torch.autograd.grad(value, [output for _, output in seen.values()])
    count = len(next(iter(batch.inputs.values())))
    ranks, one_position = {}, []
    for (name, (x, _)), dy in zip(seen.items(), by_output, strict=True):
        ranks[name] = numerical_rank(_rows(dy).mT @ _rows(x))
        if _rows(dy).any(dim=-1).sum() <= count:
            one_position.append(name)
    return GradientRanks(ranks, one_position)


def _rows(tensor: Tensor) -> Tensor:
    """(rows, features), in float32 at least: autocast mixes precisions, and bfloat16 would round the
    product above `RANK_TOLERANCE`."""
    return tensor.flatten(0, -2).to(torch.promote_types(tensor.dtype, torch.float32))


def _probed(adapter: Adapter) -> list[str]:
    names = list(adapter.layers)
    picked = torch.linspace(0, len(names) - 1, min(PROBED_LAYERS, len(names))).round().int().tolist()
    return [names[i] for i in picked]


def numerical_rank(matrix: Tensor) -> int:
    """Singular values above `RANK_TOLERANCE` × the largest; 0 for a matrix of zeros."""
    values = torch.linalg.svdvals(matrix.float() if matrix.dtype == torch.bfloat16 else matrix)
    return int((values > RANK_TOLERANCE * values[0]).sum()) if values[0] > 0 else 0


def merge_parity(before: Tensor, after: Tensor) -> MergeParity:
    """Outputs (items, outputs) of the same items unmerged and merged."""
    return MergeParity(
        largest_logit_difference=float((before - after).abs().max()),
        top1_flips=int((before.argmax(-1) != after.argmax(-1)).sum()),
        items=len(before),
    )


def reset_peak_memory() -> None:
    """Start a new peak, where the system lets a process do so (Linux). Memory that earlier work left
    with the process does not count towards it."""
    give_back_freed_memory()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> Memory:
    """Peaks since the last reset; resident memory of the whole process (since its start, where
    peaks cannot be reset), allocator figures on CUDA."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        resident = int(line.split()[1]) / 1024
    else:
        unit = 1024**2 if sys.platform == "darwin" else 1024
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if not torch.cuda.is_available():
        return Memory(peak_resident=resident)
    return Memory(
        peak_resident=resident,
        peak_allocated=torch.cuda.max_memory_allocated() / 1024**2,
        peak_reserved=torch.cuda.max_memory_reserved() / 1024**2,
    )


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
        now = peak_memory()
        if self._peak is None:
            return now
        return Memory(
            peak_resident=max(self._peak.peak_resident, now.peak_resident),
            peak_allocated=_larger(self._peak.peak_allocated, now.peak_allocated),
            peak_reserved=_larger(self._peak.peak_reserved, now.peak_reserved),
        )


def _larger(before: float | None, now: float | None) -> float | None:
    return max((value for value in (before, now) if value is not None), default=None)


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


def provenance(**hashes: str) -> dict[str, Any]:
    """Commit, versions, machine, threads, and the given hashes of data and weights."""
    return {**_static_provenance(), "threads": torch.get_num_threads(), **hashes}


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
