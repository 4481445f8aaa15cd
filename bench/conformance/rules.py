"""How a broken rule is told."""

from __future__ import annotations

import torch
from torch import Tensor


class Broken(AssertionError):
    """A rule that does not hold; the message says in one line what is the case instead."""


def demand(holds: object, otherwise: str) -> None:
    """Raise Broken, with what is the case otherwise, where it does not hold."""
    if not holds:
        raise Broken(otherwise)


def demand_close(found: Tensor, expected: Tensor, *, rtol: float, atol: float, otherwise: str) -> None:
    """Raise Broken where two tensors of one shape differ by more than atol + rtol · |expected| anywhere."""
    demand(found.shape == expected.shape, f"{otherwise}: {tuple(found.shape)} is not {tuple(expected.shape)}")
    if not torch.allclose(found, expected, rtol=rtol, atol=atol):
        raise Broken(f"{otherwise}, by up to {float((found - expected).abs().max()):.2g}")
