"""ScaLoRA's column problem solved exactly: non-negative least squares in the 2r scales of each layer.

    min ½ vᵀM v − λᵀv  over  v ≥ 0,     M, λ of `adapters.scalora.scaling`

The paper's rule takes M⁻¹λ where that is non-negative and one scale per factor where it is not.
Here the layers of the second kind go on, by principal pivoting (Júdice and Pires 1994; Kim and Park
2011 for blocks): one solve of M gives v on a set of free columns and M v − λ on the others, whatever
is negative changes sides, until nothing is. What is left then satisfies the optimality conditions:
it is the optimum, not an approximation that more rounds would improve.

Batched over layers (leading dimension k) and of fixed length, so that nothing waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankbench.adapters.scalora.scaling import DOUBLE, settled, unit_diagonal, unrestricted

BLOCKS = 3
"""Exchanges of all that is negative; later ones take only the worst, as blocks can go in circles."""
EXCHANGES = 11
"""Enough for every column system met in training: most layers take two. There is no proof of that number,
so what it leaves unsolved is told apart: of random factors of rank 16 whose columns are parallel up to a
relative 1e-8 … 1e-2, one in eleven, which takes up to fifteen; of rank 8, none. Matrices of no such structure
(dense, ill-conditioned) of size 12 took up to 24."""
TOLERANCE = 1e-11
"""What counts as negative, against the largest entry of λ in the scale in which M's diagonal is 1."""
KEPT = 1e-6
"""What is left of a column, squared, in the place of nothing."""


def nonnegative_solution(
    system: Tensor, target: Tensor, precision: float = DOUBLE, exchanges: int = EXCHANGES
) -> tuple[Tensor, Tensor, Tensor]:
    """The optimal v (k, 2r); whether it is M⁻¹λ, then bit for bit `column_solution`'s, (k,) bool;
    whether it was reached within the exchanges, (k,) bool.

    `precision`: the relative rounding error of the products in M. Entries of zero columns and of
    layers that were not solved are NaN.
    """
    scaled = unit_diagonal(system, target, precision)
    column, inside = unrestricted(scaled)
    slack = -torch.eye(system.shape[-1], dtype=system.dtype, device=system.device)
    floor = -TOLERANCE * scaled.goal.abs().amax(dim=1, keepdim=True)

    def complementary(free: Tensor) -> Tensor:
        """z (k, 2r): v where free, M v − λ elsewhere."""
        return torch.linalg.solve_ex(torch.where(free[:, None, :], scaled.matrix, slack), scaled.goal).result

    free = ~(column < 0)
    z = complementary(free)
    for exchange in range(1, exchanges):
        wrong = z < floor if exchange < BLOCKS else z <= torch.minimum(z.amin(dim=1, keepdim=True), floor)
        free = free ^ wrong
        z = complementary(free)
    solved = inside | (z >= floor).all(dim=1)
    optimum = settled(torch.where(free, z, 0.0).clamp(min=0), scaled.ridge) * scaled.unit
    optimum = torch.where(scaled.empty | ~solved[:, None], torch.nan, optimum)
    return torch.where(inside[:, None], column, optimum), inside, solved


def kept_alive(v: Tensor, system: Tensor, target: Tensor) -> Tensor:
    """v, but columns whose A and B both vanish are left at `KEPT` of what each would be alone.

    A's gradient is a multiple of B and the other way round: a column without either stays so. The
    next scaling sets any length, so a trace is enough to come back.
    """
    gone = ~(v.unflatten(1, (2, -1)) > 0).any(dim=1).repeat(1, 2) & (v == 0)
    return torch.where(gone, KEPT * target / system.diagonal(dim1=-2, dim2=-1), v)
