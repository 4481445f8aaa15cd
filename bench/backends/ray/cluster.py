"""Runs on a Ray cluster: each is a task with the cores, GPUs and memory that it asks for.

Ray places the tasks and does those of a lost node or worker again on another. The driver hands out as much as
the cluster holds, nodes that join meanwhile included, and alone writes what comes back. Tasks end with their
driver; the next one goes on from what they saved.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial

import ray
from ray.exceptions import RayError

from rankbench.bench.backends.ray.tasks import Tasks
from rankbench.bench.backends.seam import Backend, Results
from rankbench.bench.backends.workers.shares import cores
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.suite import ConfigError

KNOCK_SECONDS = 10.0
"""Until a cluster that does not answer is not there."""

STORE_BYTES = 256 * 1024**2
"""Of memory for what comes back, in a cluster that is started for the command: a few runs' predictions."""


def ray_cluster(address: str | None = None, threads: int | None = None) -> Backend:
    """A backend of the cluster at `address` ("auto": the one of this machine), `threads` a run; without an
    address of a cluster that this machine alone is, until the command ends.

    Connects at once, unless this process is connected already. Raises ConfigError where there is no cluster.
    """
    if not ray.is_initialized():
        _connect(address)

    def backend(orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Results:
        tasks = Tasks(listen, threads or 1)
        try:
            yield from tasks.results(orders)
        except KeyboardInterrupt:
            tasks.kill()
            raise
        finally:
            tasks.dismiss()

    return backend


def device() -> str:
    """What runs are planned for on the cluster that this process is connected to, "cuda" or "cpu"."""
    return "cuda" if ray.cluster_resources().get("GPU") else "cpu"


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless the user asks
    connect = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    try:
        if not address:
            connect("local", num_cpus=cores(), include_dashboard=False, object_store_memory=STORE_BYTES)
            return
        if address != "auto":
            _knock(address)
        connect(address)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"no Ray cluster at {address or 'this machine'}: {first}") from error


def _knock(address: str) -> None:
    """Ray would wait for minutes. Raises OSError where nobody answers, ValueError for no HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("an address is HOST:PORT, or auto")
    socket.create_connection((host, int(port)), KNOCK_SECONDS).close()
