"""One seed of a run, several independent streams: initialisation, data order, dropout."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of a run; other purposes and seeds give unrelated ones."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of a run."""
    return torch.Generator().manual_seed(stream(seed, purpose))
