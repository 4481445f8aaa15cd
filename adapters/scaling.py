"""Optimal scales of low-rank factors (ScaLoRA, Zhang et al., arXiv 2510.23818): the small systems.

All functions are batched over layers (leading dimension k), without a host synchronisation: Gram
matrices in the factors' precision (float32 moves the scales by about 1e-4), the rest in float64.
With the gradients P = ∂loss/∂A and Q = ∂loss/∂B of y = x(W + s A Bᵀ)ᵀ,

    M = s² [ (AᵀA)∘(QᵀQ)   C∘C ; (C∘C)ᵀ   (BᵀB)∘(PᵀP) ],  C = AᵀP,  λ = [ |Q_i|² ; |P_i|² ]

and M v = λ gives [α²; β²] = v / (L η) (their Theorem 3.7; the scalar case, Theorem 3.5, sums
the blocks). A scale whose diagonal entry of M is zero belongs to a zero column: it has no
direction and decouples from the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def column_system(a: Tensor, b: Tensor, p: Tensor, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """M (k, 2r, 2r) and λ (k, 2r), from A, P (k, out, r), B, Q (k, in, r) and the multiplier s."""
    gram_a, gram_b, gram_p, gram_q = (_gram(x, x) for x in (a, b, p, q))
    cross = _gram(a, p).square()
    upper = torch.cat([gram_a * gram_q, cross], dim=2)
    lower = torch.cat([cross.mT, gram_b * gram_p], dim=2)
    return scale**2 * torch.cat([upper, lower], dim=1), torch.cat(
        [_diagonal(gram_q), _diagonal(gram_p)], dim=1
    )


def column_solution(system: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """v (k, 2r) with M v = λ, and whether it is the non-negative optimum, (k,) bool.

    Entries of zero columns are NaN in v and do not count against it.
    """
    return unrestricted(unit_diagonal(system, target))


class UnitSystem(NamedTuple):
    """A column system in the unknowns v / unit, in which M has a unit diagonal."""

    matrix: Tensor
    """(k, 2r, 2r); the identity in the rows of zero columns."""
    goal: Tensor
    """(k, 2r)"""
    unit: Tensor
    """(k, 2r)"""
    empty: Tensor
    """(k, 2r) bool: zero columns."""


def unit_diagonal(system: Tensor, target: Tensor) -> UnitSystem:
    """M and λ scaled for a solve: A and B differ by orders of magnitude."""
    diagonal = _diagonal(system)
    empty = diagonal <= 0
    unit = torch.where(empty, 1.0, diagonal).rsqrt()
    scaled = system * unit[:, :, None] * unit[:, None, :]
    return UnitSystem(scaled + torch.diag_embed(empty.to(system.dtype)), target * unit, unit, empty)


def unrestricted(system: UnitSystem) -> tuple[Tensor, Tensor]:
    """`column_solution` of a scaled system."""
    matrix, goal, unit, empty = system
    v = torch.linalg.solve_ex(matrix, goal).result * unit
    optimal = (torch.isfinite(v) & (v >= 0) | empty).all(dim=1)
    return torch.where(empty, torch.nan, v), optimal


def scalar_solution(system: Tensor, target: Tensor) -> Tensor:
    """The two squared scales of the scalar rule times L η, (k, 2): non-negative least squares.

    Where the unrestricted answer is negative or the system singular, the optimum lies on an edge:
    one scale is 0 and the other λ_i / M_ii, whichever edge lowers the bound more. The entry of a
    factor that is all zero is NaN.
    """
    blocks = system.unflatten(1, (2, -1)).unflatten(3, (2, -1)).sum(dim=(2, 4))
    halves = target.unflatten(1, (2, -1)).sum(dim=2)
    diagonal = _diagonal(blocks)
    empty = diagonal <= 0
    unit = torch.where(empty, 1.0, diagonal).rsqrt()
    goal = halves * unit
    coupling = (blocks[:, 0, 1] * unit[:, 0] * unit[:, 1])[:, None]
    inner = (goal - coupling * goal.flip(1)) / (1 - coupling.square())
    inside = (torch.isfinite(inner) & (inner >= 0)).all(dim=1, keepdim=True)
    first = goal[:, 0] >= goal[:, 1]
    better = torch.stack([first, ~first], dim=1)
    return torch.where(empty, torch.nan, torch.where(inside, inner, goal * better) * unit)


def _gram(x: Tensor, y: Tensor) -> Tensor:
    return (x.mT @ y).double()


def _diagonal(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1)
