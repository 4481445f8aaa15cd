"""Points of a space of hyperparameters: a scrambled Sobol sequence, the same everywhere and for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankbench.bench.suite.tuning import Span

Shares: TypeAlias = NDArray[np.float64]
"""How far between the ends of each dimension, 0 … 1."""


def sequence(dimensions: int, *names: str | int) -> Iterator[Shares]:
    """The endless sequence (Sobol 1967, scrambled after Owen 1998) that belongs to these names: the first n
    of a longer draw are the shorter draw."""
    from scipy.stats import qmc  # which a machine that runs what was chosen elsewhere may lack

    digest = hashlib.sha256("\n".join(map(str, names)).encode()).digest()
    engine = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(int.from_bytes(digest)))
    while True:
        yield engine.random(1)[0]


def point(space: Mapping[str, Span], shares: Shares) -> dict[str, Any]:
    """The hyperparameters at a place in a space."""
    return {key: span.at(float(share)) for (key, span), share in zip(space.items(), shares, strict=True)}
