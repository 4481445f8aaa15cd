"""The versions and the kind of device that can move a number: part of every fingerprint."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable

import torch

from rankbench import adapters

PACKAGES = (
    "accelerate", "datasets", "evaluate", "lm-eval", "numpy", "peft",
    "scikit-learn", "scipy", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""One list for every run: they reach further than one would think. PEFT matches every adapter's targets,
lm-eval's seeds are drawn from NumPy."""


@functools.cache
def versions() -> dict[str, str]:
    """Package -> version."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def of_adapters(names: Iterable[str]) -> dict[str, str]:
    """The same, with the packages that register adapters of these names."""
    return versions() | {key: value for name in names for key, value in adapters.package(name).items()}


def device() -> str:
    """Where runs are trained: "cuda" or "cpu".

    The model of the card or the processor is in the provenance only: between two of a kind numbers differ
    by rounding, and machines that share a folder would renew each other's runs for ever.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"
