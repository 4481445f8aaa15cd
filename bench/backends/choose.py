"""Which backend does a suite's runs: the one that is named, or what is fastest on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import length_hint
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from rankbench.bench.backends.seam import Backend, Results, here
from rankbench.bench.backends.workers import workers
from rankbench.bench.backends.workers.shares import cores, gpus
from rankbench.bench.cost.resources import resources_of
from rankbench.bench.cpu.memory import free
from rankbench.bench.cpu.quota import fitting
from rankbench.bench.extras import extra
from rankbench.bench.records import Folders
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.suite import ConfigError, RunSpec
from rankbench.bench.suite.slurm import Slurm

Name: TypeAlias = Literal["here", "workers", "ray", "slurm"]


def choose(
    name: Name | None,
    specs: Sequence[RunSpec],
    folders: Folders,
    slurm: Slurm,
    *,
    address: str | None = None,
    count: int | None = None,
    threads: int | None = None,
    share_gpus: bool = False,
) -> Backend:
    """The backend that the command line's options mean, for results in `folders`; `count` of
    workers, `threads` of a run, `address` of a Ray cluster. One run at a time is done in this process, unless
    workers are named.

    Raises ConfigError where the options do not fit together, or this machine.
    """
    if address and name != "ray":
        raise ConfigError("--address is of a Ray cluster; say --backend ray, too")
    if share_gpus and not count:
        raise ConfigError("--share-gpus: say how many --workers are to share them")
    if name == "ray":
        if count:
            raise ConfigError(
                "--backend ray: workers are of one machine; a cluster does what it has room for"
            )
        return _ray(address, threads)
    if name == "slurm":
        if count:
            raise ConfigError("--backend slurm: workers are of one machine; say --slurm array_parallelism=N")
        if folders.mirror:
            raise ConfigError("--backend slurm: --results must be a folder that all nodes share, not a URL")
        return _slurm(
            folders.root / "slurm", slurm.model_copy(update={"cpus": threads}) if threads else slurm
        )
    if name == "here" and (count or 1) > 1:
        raise ConfigError(f"--backend here does one run at a time; leave out --workers {count}")
    if name == "here" or (name is None and count == 1):
        return partial(_here, threads)
    if count:
        return workers(count, threads, share_gpus=share_gpus)

    def fitting(orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Results:
        # Not before there is something to do: it takes a second or two.
        found = fastest(specs, threads, length_hint(orders, len(specs)))
        chosen = workers(found, threads) if found > 1 or name else partial(_here, threads)
        yield from chosen(orders, listen)

    return fitting


def fastest(specs: Sequence[RunSpec], threads: int | None = None, missing: int | None = None) -> int:
    """Workers that do most of these runs in an hour, here: one a GPU; without one, one a thread that
    PyTorch would take. Fewer where fewer runs are `missing` (by default all), and where memory holds no
    more, by the estimate of `rankbench plan`."""
    places = len(gpus()) or min(torch.get_num_threads(), cores()) // (threads or 1)
    runs = len(specs) if missing is None else missing
    if min(places, runs) <= 1:
        return 1
    cells = {(spec.experiment, spec.entry): spec for spec in specs}
    tried = [attempt(partial(resources_of, spec)) for spec in cells.values()]
    needs = [need for need in tried if not isinstance(need, Failure)]  # what is refused says so in its run
    places //= max((need.gpus for need in needs), default=1)
    held = free() // max((need.memory for need in needs), default=1)
    return max(1, min(places, runs, held))


def device_of(name: Name | None, slurm: Slurm) -> str | None:
    """Of the machines that a chosen backend has, "cuda" or "cpu"; None where they are like this one."""
    if name == "ray":
        from rankbench.bench.backends.ray.cluster import device

        return device()
    return slurm.device if name == "slurm" else None


def _ray(address: str | None, threads: int | None) -> Backend:
    with extra("--backend ray", "ray", "ray"):
        from rankbench.bench.backends.ray.cluster import ray_cluster
    return ray_cluster(address, threads)


def _slurm(folder: Path, settings: Slurm) -> Backend:
    with extra("--backend slurm", "slurm", "submitit"):
        from rankbench.bench.backends.slurm import slurm
    return slurm(folder, settings)


def _here(threads: int | None, orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Results:
    with fitting(threads):
        yield from here(orders, listen)
