"""ScaLoRA (Zhang et al., arXiv 2510.23818) with other rules for its scales, or fewer scalings.

- `scalora-scalar`: one α and one β a layer (Theorem 3.5).
- `scalora-i`: the column rule every `interval` steps (paper: 10).
- `scalora-nnls`, not in the paper: a scale per column always, the exact optimum under α², β² ≥ 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from rankbench.adapters.scalora.adapter import ScaLora, Solution
from rankbench.adapters.scalora.nnls import kept_alive, nonnegative_solution
from rankbench.adapters.scalora.scaling import scalar_solution


@dataclass(kw_only=True)
class ScaLoraScalar(ScaLora):
    """One scale per factor instead of one per column; no flags."""

    name: ClassVar[str] = "scalora-scalar"

    @override
    def rule(self, system: Tensor, target: Tensor, precision: float) -> Solution:
        v = scalar_solution(system, target, precision).repeat_interleave(self.rank, dim=1)
        return v, v, {}


@dataclass(kw_only=True)
class ScaLoraIntermittent(ScaLora):
    """Column scaling every `interval` steps, which divides its overhead by that."""

    name: ClassVar[str] = "scalora-i"
    interval: int = 10


@dataclass(kw_only=True)
class ScaLoraNnls(ScaLora):
    """The exact optimum per column, negative entries or not (`adapters.scalora.nnls`)."""

    name: ClassVar[str] = "scalora-nnls"

    @override
    def rule(self, system: Tensor, target: Tensor, precision: float) -> Solution:
        """A further flag is `solved`: other layers keep their scales for this step."""
        v, nonnegative, solved = nonnegative_solution(system, target, precision)
        return v, kept_alive(v, system, target), {"nonnegative": nonnegative, "solved": solved}
