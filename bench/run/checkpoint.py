"""Checkpoints from which a killed run resumes bit for bit on the CPU."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rankbench.adapters import Adapter
from rankbench.adapters.shards import in_parts, whole
from rankbench.bench.records import Curve, Memory, Observation, RecordError
from rankbench.bench.records.files import remove, writing
from rankbench.bench.run.sharding import cut_moments
from rankbench.bench.run.usage import Usage

CORRUPT = (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, KeyError, BadZipFile)
"""What reading a spoilt file raises."""


@dataclass
class Progress:
    """What a run has produced so far; a checkpoint holds it beside weights and generators."""

    step: int = 0
    curve: Curve = field(default_factory=Curve)
    observations: list[Observation] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """Of the best observation: `step`, `score`, `state` (the adapter's, on the CPU)."""

    def add(self, **entry: float) -> None:
        """One step more: its entry of each of the curve's lists."""
        self.step += 1
        for key, value in {"step": self.step, **entry}.items():
            getattr(self.curve, key).append(value)


@dataclass
class Checkpoint:
    """One run's state on the disk: everything that training moved, the optimizer's and the
    schedule's state, the dropout generators, the curve so far, what the run has used up, and the
    fingerprint it belongs to.

    The data order needs no state: it follows from the seed.
    """

    path: Path
    fingerprint: str
    every_seconds: float = 60.0
    usage: Usage = field(default_factory=Usage)
    """Time and peak memory of this leg, and of those that were resumed from."""
    _saved_at: float = field(default_factory=time.monotonic, init=False)

    def due(self) -> bool:
        """Whether the last one is older than `every_seconds`."""
        return time.monotonic() - self._saved_at >= self.every_seconds

    def save(
        self, progress: Progress, adapter: Adapter, optimizer: Optimizer, scheduler: LRScheduler
    ) -> None:
        """Write it atomically, tensor by tensor from where they lie: no second copy of the state is made.

        Of several processes the first one writes; all have to ask for it together. Weights and moments in
        parts are put together in its main memory, one after the other. Raises RecordError where the disk is
        full or not writable.
        """
        others = gather_object([generators()])[1:]
        state = {
            "fingerprint": self.fingerprint,
            "step": progress.step,
            "curve": progress.curve.model_dump(),
            "observations": [seen.model_dump() for seen in progress.observations],
            "best": progress.best,
            "adapter": put_together(adapter.state_dict(copy=False)),
            "optimizer": put_together(optimizer.state_dict()),
            "scheduler": scheduler.state_dict(),
            "generators": generators(),
            "others": others,
            "seconds": self.usage.seconds,
            "memory": self.usage.memory.model_dump(),
            "legs": self.usage.legs,
        }
        if PartialState().is_main_process:
            with writing(self.path) as file:
                torch.save(state, file)
        self._saved_at = time.monotonic()

    def resume(self, adapter: Adapter, optimizer: Optimizer, scheduler: LRScheduler) -> Progress | None:
        """Put everything back, the file being mapped and not read as a whole; None where there is no
        checkpoint of this very run (another one's leftover is not it).

        Raises RecordError if the file is corrupt.
        """
        if not self.path.exists():
            return None
        try:
            _check(self.path)
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except CORRUPT as error:
            raise RecordError(
                f"checkpoint {self.path} is corrupt ({type(error).__name__}); delete it to start over"
            ) from error
        if state["fingerprint"] != self.fingerprint:
            return None
        adapter.load_state_dict(state["adapter"])
        optimizer.load_state_dict(cut_moments(state["optimizer"], optimizer))
        scheduler.load_state_dict(state["scheduler"])
        rank = PartialState().process_index
        set_generators(state["others"][rank - 1] if rank else state["generators"])
        self.usage.add_earlier(state["seconds"], Memory(**state["memory"]), state["legs"])
        return Progress(
            step=state["step"],
            curve=Curve(**state["curve"]),
            observations=[Observation(**seen) for seen in state["observations"]],
            best=state["best"],
        )

    def remove(self) -> None:
        """Delete it: the record is on the disk."""
        remove(self.path)


def _check(path: Path) -> None:
    """By the checksums that are in the file, piece by piece: a mapped file is believed. Raises BadZipFile."""
    with ZipFile(path) as file:
        if spoilt := file.testzip():
            raise BadZipFile(spoilt)


def generators() -> dict[str, Any]:
    """The state of those that this process draws dropout from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_generators(state: dict[str, Any]) -> None:
    """Put back what `generators` gave."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def put_together(state: Any) -> Any:
    """What the first process writes: of what is in parts, the whole in its main memory."""
    if isinstance(state, Tensor) and in_parts(state):
        found = whole(state)
        return found.cpu() if PartialState().is_main_process else None
    if isinstance(state, dict):
        return {key: put_together(entry) for key, entry in state.items()}
    return state


def kept(state: Any) -> Any:
    """A copy of an adapter's state, or of a part of it, in main memory, to keep while training goes on; what
    is in parts is put together."""
    if isinstance(state, Tensor):
        return whole(state.detach()).to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: kept(entry) for key, entry in state.items()}
    return [kept(entry) for entry in state] if isinstance(state, list | tuple) else state
