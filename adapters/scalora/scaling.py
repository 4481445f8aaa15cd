"""Optimal scales of low-rank factors (ScaLoRA, Zhang et al., arXiv 2510.23818): the small systems.

All functions are batched over layers (leading dimension k), without a host synchronisation: Gram
matrices in the factors' precision (float32 moves the scales by about 1e-4), the rest in float64.
With the gradients P = ∂loss/∂A and Q = ∂loss/∂B of y = x(W + s A Bᵀ)ᵀ,

    M = s² [ (AᵀA)∘(QᵀQ)   C∘C ; (C∘C)ᵀ   (BᵀB)∘(PᵀP) ],  C = AᵀP,  λ = [ |Q_i|² ; |P_i|² ]

and M v = λ gives [α²; β²] = v / (L η) (their Theorem 3.7; the scalar case, Theorem 3.5, sums
the blocks). A scale whose diagonal entry of M is zero belongs to a zero column: it has no
direction and decouples from the rest.

Columns that add the same step leave M singular up to rounding: v is not unique then, and a plain
solve returns noise divided by noise. Every rule therefore solves M + τ I, on M's unit diagonal, with
τ = `RIDGE` rounding errors `precision` of the products in M: of all v that are equally good it is the
shortest, in which such columns share. Let E be M's rounding, |E| ≤ τ/2, and w the best v ≥ 0 of the
exact system (both in the scale of the unit diagonal). The v ≥ 0 that solves M + E + τ I loses, in
vᵀM v / 2 − λᵀv, at most

    (M v − λ)·(v − w) ≤ −τ v·(v − w) + (τ/2) |v| (|v| + |w|) ≤ 9/8 τ |w|²,

whatever M's condition. Without τ the second term alone would stay, in |v|, which nothing bounds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DOUBLE = torch.finfo(torch.float64).eps
RIDGE = 32
"""τ, in rounding errors of M: above what products of a few thousand terms and matrices of a few dozen
rows gather."""
NEGLIGIBLE = 8
"""In τ, beside the largest entry of v: an entry that is zero comes out as some τ, of either sign. At an
optimum, what an entry adds to the bound is second order in it."""


def column_system(a: Tensor, b: Tensor, p: Tensor, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """M (k, 2r, 2r) and λ (k, 2r), from A, P (k, out, r), B, Q (k, in, r) and the multiplier s."""
    gram_a, gram_b, gram_p, gram_q = (_gram(x, x) for x in (a, b, p, q))
    cross = _gram(a, p).square()
    upper = torch.cat([gram_a * gram_q, cross], dim=2)
    lower = torch.cat([cross.mT, gram_b * gram_p], dim=2)
    target = torch.cat([_diagonal(gram_q), _diagonal(gram_p)], dim=1)
    return scale**2 * torch.cat([upper, lower], dim=1), target


def column_solution(system: Tensor, target: Tensor, precision: float = DOUBLE) -> tuple[Tensor, Tensor]:
    """v (k, 2r) with M v = λ, and whether it is the non-negative optimum, (k,) bool.

    `precision`: the relative rounding error of the factors' products. Entries that do not differ from
    zero beyond rounding are zero; those of zero columns are NaN and do not count against it.
    """
    return unrestricted(unit_diagonal(system, target, precision))


class UnitSystem(NamedTuple):
    """A system in the unknowns v / unit, in which M has a unit diagonal.

    `matrix` (k, 2r, 2r), with τ on its diagonal and the identity in the rows of zero columns; `goal` and
    `unit` (k, 2r); `empty` (k, 2r) bool, the zero columns; `ridge` is τ.
    """

    matrix: Tensor
    goal: Tensor
    unit: Tensor
    empty: Tensor
    ridge: float


def unit_diagonal(system: Tensor, target: Tensor, precision: float) -> UnitSystem:
    """M and λ scaled for a solve: A and B differ by orders of magnitude."""
    diagonal, ridge = _diagonal(system), RIDGE * precision
    empty = diagonal <= 0
    unit = torch.where(empty, 1.0, diagonal).rsqrt()
    scaled = system * unit[:, :, None] * unit[:, None, :]
    matrix = scaled + torch.diag_embed(empty.to(system.dtype) + ridge)
    return UnitSystem(matrix, target * unit, unit, empty, ridge)


def unrestricted(system: UnitSystem) -> tuple[Tensor, Tensor]:
    """`column_solution` of a scaled system."""
    v = settled(torch.linalg.solve_ex(system.matrix, system.goal).result, system.ridge)
    optimal = (torch.isfinite(v) & (v >= 0) | system.empty).all(dim=1)
    return torch.where(system.empty, torch.nan, v * system.unit), optimal


def scalar_solution(system: Tensor, target: Tensor, precision: float = DOUBLE) -> Tensor:
    """The two squared scales of the scalar rule times L η, (k, 2): non-negative least squares.

    Where the unrestricted answer is negative, the optimum lies on an edge: the scale with the smaller
    part in the step is 0. The other is found from it, not beside it, so that together they are right
    however close the two directions are. `precision` as in `column_solution`; the entry of a factor
    that is all zero is NaN.
    """
    blocks = system.unflatten(1, (2, -1)).unflatten(3, (2, -1)).sum(dim=(2, 4))
    halves = target.unflatten(1, (2, -1)).sum(dim=2)
    matrix, goal, unit, empty, ridge = unit_diagonal(blocks, halves, precision)
    # By Cauchy and Schwarz at most 1, which rounding may not know.
    coupling, one = matrix[:, 0, 1].clamp(max=1), 1 + ridge
    strong, weak = goal.amax(dim=1), goal.amin(dim=1)
    less = (one * weak - coupling * strong) / ((one - coupling) * (one + coupling))
    less = torch.where(less <= NEGLIGIBLE * ridge * strong, 0.0, less)
    more = (strong - coupling * less) / one
    first = goal[:, :1] >= goal[:, 1:]
    v = torch.where(first, torch.stack([more, less], dim=1), torch.stack([less, more], dim=1))
    return torch.where(empty, torch.nan, v * unit)


def settled(v: Tensor, ridge: float) -> Tensor:
    """v (k, n), in the scale of the unit diagonal, with zeros for what is `NEGLIGIBLE`."""
    return torch.where(v.abs() <= NEGLIGIBLE * ridge * v.abs().amax(dim=1, keepdim=True), 0.0, v)


def _gram(x: Tensor, y: Tensor) -> Tensor:
    return (x.mT @ y).double()


def _diagonal(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1)
