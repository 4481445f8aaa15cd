"""Checkpoints from which a killed run resumes bit for bit on the CPU."""

from __future__ import annotations

import io
import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adapters import Adapter
from bench.record import Curve, Observation, RecordError, write_atomically


@dataclass
class Progress:
    """What a run has produced so far; a checkpoint holds it beside weights and generators."""

    step: int = 0
    curve: Curve = field(default_factory=Curve)
    observations: list[Observation] = field(default_factory=list)
    best: dict[str, Any] | None = None
    """Of the best observation: `step`, `score`, `state` (the adapter's)."""


@dataclass
class Checkpoint:
    """One run's state on the disk: everything that training moved, the optimizer's and the
    schedule's state, the dropout generators, the curve so far, and the fingerprint it belongs to.

    The data order needs no state: it follows from the seed.
    """

    path: Path
    fingerprint: str
    every_seconds: float = 60.0
    _saved_at: float = field(default_factory=time.monotonic, init=False)

    def exists(self) -> bool:
        """Whether there is one for this very run; another run's leftover is not it."""
        return self.path.exists() and self._read()["fingerprint"] == self.fingerprint

    def due(self) -> bool:
        """Whether the last one is older than `every_seconds`."""
        return time.monotonic() - self._saved_at >= self.every_seconds

    def save(
        self, progress: Progress, adapter: Adapter, optimizer: Optimizer, scheduler: LRScheduler
    ) -> None:
        """Write it atomically. Raises RecordError where the disk is full or not writable."""
        buffer = io.BytesIO()
        torch.save(
            {
                "fingerprint": self.fingerprint,
                "step": progress.step,
                "curve": progress.curve.model_dump(),
                "observations": [seen.model_dump() for seen in progress.observations],
                "best": progress.best,
                "adapter": adapter.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "generators": _generator_states(),
            },
            buffer,
        )
        write_atomically(self.path, buffer.getvalue())
        self._saved_at = time.monotonic()

    def load(self, adapter: Adapter, optimizer: Optimizer, scheduler: LRScheduler) -> Progress:
        """Put everything back. Raises RecordError if the file is corrupt."""
        state = self._read()
        adapter.load_state_dict(state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["generators"]["cpu"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["generators"]["cuda"])
        return Progress(
            step=state["step"],
            curve=Curve(**state["curve"]),
            observations=[Observation(**seen) for seen in state["observations"]],
            best=state["best"],
        )

    def remove(self) -> None:
        """Delete it: the record is on the disk."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
            raise RecordError(
                f"checkpoint {self.path} is corrupt ({type(error).__name__}); delete it to start over"
            ) from error
        return state


def _generator_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}
