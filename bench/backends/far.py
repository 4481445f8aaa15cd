"""An order done on another machine than its driver's: by the same code and packages, or not at all."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rankbench.bench.backends.seam import Result
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.runner import Done, Listener, Order, run
from rankbench.bench.run.start import differing

SOURCES = ("adapters", "bench", "tasks")
"""What does a run."""


@dataclass(frozen=True)
class Unfit:
    """Why a machine cannot do runs of a driver: it would fail all of them, one after the other."""

    reason: str


@functools.cache
def code() -> str:
    """A hash of what does a run, installed or in a checkout: two of one version can differ."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def do_far(order: Order, listener: Listener) -> Result | Unfit:
    """Fetch what this machine has not got, and do the run. Raises Interrupted as `run` does."""
    with _reachable(order) as here:
        found = attempt(partial(differing, order.job))
        if isinstance(found, Failure):
            return found
        if found:
            return Unfit(f"differs from the driver's: {'; '.join(found)}")
        result = run(here, listener)
        if here is order or not isinstance(result, Done) or not isinstance(result.adapter, Path):
            return result
        return replace(result, adapter=result.adapter.read_bytes())  # its folder does not stay


@contextmanager
def _reachable(order: Order) -> Iterator[Order]:
    """With its state where the driver has it, if that folder is shared: the driver's lock is seen there. Else
    in a folder that goes with the run."""
    if order.checkpoint.with_suffix(".lock").exists():
        yield order
        return
    with tempfile.TemporaryDirectory() as folder:
        yield replace(order, checkpoint=Path(folder) / order.checkpoint.name)
