"""What a run asks of the machine that does it, for backends that choose one."""

from __future__ import annotations

from dataclasses import dataclass

from rankbench.bench.cost.estimate import peak_bytes
from rankbench.bench.suite import RunSpec

BESIDE = 1.5 * 1024**3
"""Bytes of a process beside what is counted: Python, the libraries, the data, what an allocator keeps.
The records of `laptop`'s first shape, 64 steps of 16, had 0.5 to 0.9 GiB above the count."""


@dataclass(frozen=True)
class Resources:
    """Of all processes of a run together."""

    cpus: int
    """Cores, if each process computes with one thread."""
    gpus: int
    """Where the machine has any: one a process."""
    memory: int
    """Bytes of main memory; of a GPU's own it needs less."""


def resources_of(spec: RunSpec) -> Resources:
    """What one run needs, estimated without a download. Raises the packages' own errors for what cannot be
    attached."""
    count = spec.training.processes
    return Resources(cpus=count, gpus=count, memory=round(count * (BESIDE + peak_bytes(spec))))
