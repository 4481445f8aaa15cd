"""Which backend does a suite's runs: by its name, or what is fastest on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from rankbench.bench.backends.seam import Backend, Result, here
from rankbench.bench.backends.shares import gpus
from rankbench.bench.backends.workers import workers
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.suite import ConfigError
from rankbench.bench.suite.slurm import Slurm

Name: TypeAlias = Literal["here", "workers", "slurm"]


def choose(
    name: Name | None,
    root: Path,
    slurm: Slurm,
    *,
    count: int | None = None,
    threads: int | None = None,
    share_gpus: bool = False,
) -> Backend:
    """The backend that the command line's options mean, for results under `root`; `count` of workers,
    `threads` of a run.

    Raises ConfigError where they do not fit together, or this machine.
    """
    if name == "slurm":
        if count or share_gpus:
            raise ConfigError("--backend slurm: workers are of one machine; say --slurm array_parallelism=N")
        return _slurm(root / "slurm", slurm.model_copy(update={"cpus": threads}) if threads else slurm)
    count = count or fastest()
    if name == "here" or (name is None and count == 1):
        return _here(threads) if threads else here
    return workers(count, threads, share_gpus=share_gpus)


def fastest() -> int:
    """Workers that do most on this machine: one a GPU; without one, a single run with all cores."""
    return max(1, len(gpus()))


def _slurm(folder: Path, settings: Slurm) -> Backend:
    try:
        from rankbench.bench.backends.slurm import slurm
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise ConfigError("--backend slurm needs submitit: pip install 'rankbench[slurm]'") from None
    return slurm(folder, settings)


def _here(threads: int) -> Backend:
    def backend(
        orders: Iterator[Order], listen: Callable[[Order], Listener]
    ) -> Iterator[tuple[Order, Result]]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield from here(orders, listen)
        finally:
            torch.set_num_threads(before)

    return backend
