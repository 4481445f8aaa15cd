"""ScaLoRA (Zhang et al., ICML 2026, arXiv 2510.23818): increments that add up to a high rank.

Before an optimizer step the factors are rescaled, Ã = A diag(α), B̃ = B diag(β), and the frozen
weight takes the difference (`adapters.scalora.folding`): the layer's function stays, the direction of
its next increment changes. α and β bring one LoRA step closest to the full fine-tuning step
(`adapters.scalora.scaling`).
`scalora` has a scale per column (Theorem 3.7), and the scalar rule where that system has a negative entry.

The paper leaves L to a sweep. `smoothness="auto"`, not in the paper either, chooses it at the first
scaling, such that the squared scales of all layers' columns have the geometric mean 1: with v = L η
[α²; β²] of `adapters.scalora.scaling`, L is the geometric mean of v / η over the positive entries (100 where
there is none); the traces that `scalora-nnls` leaves in the place of zeros are not among them. At the
first step A is zero and only B has scales: those of typical length stay. α and β do not depend on η then.

A bfloat16 weight would round most of a fold away: it is kept as a pair (`adapters.pairs`), which trains bit
for bit as the same weight in float32 does under autocast.

Deviations and open points: η is the peak learning rate, constant over the run (only L·η enters);
the moments follow the *other* factor's scales, by the chain rule (the lemma's own text was not
available); a zero column keeps scale 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from rankbench.adapters.errors import AdapterError, check_count, check_positive
from rankbench.adapters.scalora.folding import factors, fold, groups_of
from rankbench.adapters.scalora.layers import FoldingLora
from rankbench.adapters.scalora.nnls import kept_alive
from rankbench.adapters.scalora.scaling import column_solution, column_system, scalar_solution

SMOOTHNESS = 100.0
"""The default L."""

Solution = tuple[Tensor, Tensor, dict[str, Tensor]]
"""v = L η [α²; β²], (k, 2r), NaN where a scale stays 1. Twice: the rule's own, and what the factors take: a
column that would lose both of them, and with them its gradients, keeps a trace. And flags, (k,) bool each,
whose share of the layers is reported."""


@dataclass(kw_only=True)
class ScaLora(FoldingLora):
    """Column scaling with the scalar fallback, every `interval` steps.

    `smoothness` is the paper's L, or "auto"; `learning_rate` its η: the run's peak learning rate.
    `carry_moments=False` leaves the optimizer's moments as they are, for the paper's ablation; the
    gradients of the step follow all the same.
    """

    name: ClassVar[str] = "scalora"
    version: ClassVar[int] = 2
    smoothness: float | str = SMOOTHNESS
    learning_rate: float = 1e-3
    interval: int = 1
    carry_moments: bool = True
    _scaled_at: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    _shares: dict[str, list[Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _chosen: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.smoothness, str):
            check_positive(smoothness=self.smoothness)
        elif self.smoothness != "auto":
            raise AdapterError(f"smoothness must be a positive number or 'auto', not {self.smoothness!r}")
        check_positive(learning_rate=self.learning_rate)
        check_count(interval=self.interval)
        if not isinstance(self.carry_moments, bool):
            raise AdapterError(f"carry_moments must be true or false, not {self.carry_moments!r}")

    @override
    @torch.no_grad()
    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Rescale every layer's factors, moments and gradients, and fold the difference into W."""
        groups = groups_of(self.layers.values()) if step % self.interval == 0 else []
        if not groups:
            return
        # The systems are of one size, whatever the layers' shapes: all are solved together, on one device.
        found = zip(*(column_system(*factors(group), self.scale) for group in groups), strict=True)
        device = groups[0][0].A.device
        system, target = (torch.cat([part.to(device) for part in parts]) for parts in found)
        precision = max(torch.finfo(group[0].A.dtype).eps for group in groups)
        if self.smoothness == "auto" and self._chosen is None:
            self._chosen = self._choose(system, target, precision)
        alpha, beta, flags = self.scales(system, target, precision)
        sizes = [len(group) for group in groups]
        for group, of_a, of_b in zip(groups, alpha.split(sizes), beta.split(sizes), strict=True):
            fold(group, of_a, of_b, optimizer, carry=self.carry_moments)
        if flags:
            self._scaled_at.append(step)
        for name, flag in flags.items():
            self._shares.setdefault(name, []).append(flag.float().mean())

    def _choose(self, system: Tensor, target: Tensor, precision: float) -> Tensor:
        """The L of "auto", a scalar."""
        logs = self.rule(system, target, precision)[0].flatten().log()
        positive = logs.isfinite()
        mean = torch.where(positive, logs, 0.0).sum() / positive.sum()
        return torch.nan_to_num(mean.exp() / self.learning_rate, nan=SMOOTHNESS)

    def scales(self, system: Tensor, target: Tensor, precision: float) -> Solution:
        """α, β (k, 1, r) in float64, and the flags, of what `rule` takes. With `smoothness="auto"` only once
        the first scaling has chosen it."""
        _, v, flags = self.rule(system, target, precision)
        smoothness = self.smoothness if self._chosen is None else self._chosen.to(v.device)
        assert not isinstance(smoothness, str)
        squared = torch.nan_to_num(v / (smoothness * self.learning_rate), nan=1.0)
        alpha, beta = squared.sqrt().unflatten(1, (2, 1, -1)).unbind(1)
        return alpha, beta, flags

    def rule(self, system: Tensor, target: Tensor, precision: float) -> Solution:
        """For M (k, 2r, 2r) and λ (k, 2r) of `column_system`, whose products have this relative `precision`;
        the flag `nonnegative` says whether the column system is."""
        column, nonnegative = column_solution(system, target, precision)
        scalar = scalar_solution(system, target, precision).repeat_interleave(self.rank, dim=1)
        v = torch.where(nonnegative[:, None], column, scalar)
        return v, kept_alive(v, system, target), {"nonnegative": nonnegative}

    @override
    def diagnostics(self) -> dict[str, Any]:
        """The share of layers per flag and scaled step, and the smoothness that was chosen."""
        found: dict[str, Any] = {
            f"{name}_share": {"step": list(self._scaled_at), "share": [share.item() for share in shares]}
            for name, shares in self._shares.items()
        }
        return found if self._chosen is None else found | {"smoothness": self._chosen.item()}

    @override
    def extra_state(self) -> dict[str, Any]:
        shares = {name: list(shares) for name, shares in self._shares.items()}
        return {"scaled_at": list(self._scaled_at), "shares": shares, "smoothness": self._chosen}

    @override
    def load_extra_state(self, state: dict[str, Any]) -> None:
        self._scaled_at, chosen = list(state["scaled_at"]), state["smoothness"]
        # Where the factors lie: fetched in every step, it would make the step wait.
        self._chosen = None if chosen is None else chosen.to(next(self.model.parameters()).device)
        self._shares = {name: list(shares) for name, shares in state["shares"].items()}
