"""ScaLoRA (Zhang et al., ICML 2026, arXiv 2510.23818): increments that add up to a high rank.

Before an optimizer step the factors are rescaled, Ã = A diag(α), B̃ = B diag(β), and the frozen
weight takes the difference, W ← W + s (A Bᵀ − Ã B̃ᵀ): the layer's function stays, the direction of
its next increment changes. α and β bring one LoRA step closest to the full fine-tuning step
(`adapters.scalora.scaling`).

- `scalora-scalar`: one α and one β a layer (Theorem 3.5).
- `scalora`: a scale per column (Theorem 3.7), the scalar rule where that system has a negative entry.
- `scalora-i`: the column rule every `interval` steps (paper: 10).
- `scalora-nnls`, not in the paper: a scale per column always, the exact optimum under α², β² ≥ 0.

The paper leaves L to a sweep. `smoothness="auto"`, not in the paper either, chooses it at the first
scaling, such that the squared scales of all layers' columns have the geometric mean 1: with v = L η
[α²; β²] of `adapters.scalora.scaling`, L is the geometric mean of v / η over the positive entries (100 where
there is none); the traces that `scalora-nnls` leaves in the place of zeros are not among them. At the
first step A is zero and only B has scales: those of typical length stay. α and β do not depend on η then.

Deviations and open points: η is the peak learning rate, constant over the run (only L·η enters);
the moments follow the *other* factor's scales, by the chain rule (the lemma's own text was not
available); a zero column keeps scale 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.base import (
    AdapterError,
    check_count,
    check_full_precision,
    check_positive,
    weight_of,
)
from rankbench.adapters.lora import Lora, LowRankLinear
from rankbench.adapters.scalora.nnls import kept_alive, nonnegative_solution
from rankbench.adapters.scalora.scaling import column_solution, column_system, scalar_solution

SMOOTHNESS = 100.0
"""The default L."""


@dataclass(kw_only=True)
class ScaLora(Lora):
    """Column scaling with the scalar fallback, every `interval` steps.

    `smoothness` is the paper's L, or "auto"; `learning_rate` its η: the run's peak learning rate.
    `carry_moments=False` leaves the optimizer's moments as they are, for the paper's ablation; the
    gradients of the step follow all the same.
    """

    name: ClassVar[str] = "scalora"
    version: ClassVar[int] = 2
    moves_base: ClassVar[bool] = True
    smoothness: float | str = SMOOTHNESS
    learning_rate: float = 1e-3
    interval: int = 1
    carry_moments: bool = True
    _scaled_at: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    _shares: dict[str, list[Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _chosen: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.smoothness, str):
            if self.smoothness != "auto":
                raise AdapterError(f"smoothness must be a positive number or 'auto', not {self.smoothness!r}")
        else:
            check_positive(smoothness=self.smoothness)
        check_positive(learning_rate=self.learning_rate)
        check_count(interval=self.interval)
        if not isinstance(self.carry_moments, bool):
            raise AdapterError(f"carry_moments must be true or false, not {self.carry_moments!r}")

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """As LoRA's; refuses a half-precision weight, which would round the folds away."""
        super().check(linear)
        check_full_precision(linear)

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Rescale every layer's factors, moments and gradients, and fold the difference into W."""
        if step % self.interval:
            return
        groups: dict[tuple[Any, ...], list[LowRankLinear]] = defaultdict(list)
        for layer in self.layers.values():
            assert isinstance(layer, LowRankLinear)
            if layer.A.grad is not None:
                groups[(*layer.A.shape, *layer.B.shape, layer.A.device)].append(layer)
        if groups and self.smoothness == "auto" and self._chosen is None:
            self._chosen = self._choose(groups.values())
        flags = [self._rescale(group, optimizer) for group in groups.values()]
        if flags and flags[0]:
            self._scaled_at.append(step)
            for name, first in flags[0].items():
                found = torch.cat([flag[name].to(first.device) for flag in flags])
                self._shares.setdefault(name, []).append(found.float().mean())

    def _choose(self, groups: Iterable[list[LowRankLinear]]) -> Tensor:
        """The L of "auto", a scalar on the first group's device."""
        found = [self.solution(*_factors(group))[0].flatten() for group in groups]
        logs = torch.cat([v.to(found[0].device) for v in found]).log()
        positive = logs.isfinite()
        mean = torch.where(positive, logs, 0.0).sum() / positive.sum()
        return torch.nan_to_num(mean.exp() / self.learning_rate, nan=SMOOTHNESS)

    def _rescale(self, group: list[LowRankLinear], optimizer: Optimizer) -> dict[str, Tensor]:
        """Layers of one shape at once. Returns the flags of `solution`."""
        a, b, p, q = _factors(group)
        alpha, beta, flags = self.scales(a, b, p, q)
        for layer, left in zip(group, (a * (1 - alpha * beta)).unbind(), strict=True):
            weight_of(layer.base).addmm_(left, layer.B.t(), alpha=self.scale)
        alphas, betas = list(alpha.unbind()), list(beta.unbind())
        # The chain rule crosses the scales: A's gradient is s G B, so it takes B's.
        for factors, own, other in (
            ([layer.A for layer in group], alphas, betas),
            ([layer.B for layer in group], betas, alphas),
        ):
            torch._foreach_mul_(list[Tensor](factors), own)
            torch._foreach_mul_([_gradient(factor) for factor in factors], other)
            if self.carry_moments:
                _carry_moments(factors, other, optimizer)
        return flags

    def scales(self, a: Tensor, b: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """α, β (k, 1, r), and the flags, of what `solution` takes. With `smoothness="auto"` only once
        the first scaling has chosen it."""
        _, v, flags = self.solution(a, b, p, q)
        smoothness = self.smoothness if self._chosen is None else self._chosen.to(v.device)
        assert not isinstance(smoothness, str)
        squared = torch.nan_to_num(v / (smoothness * self.learning_rate), nan=1.0)
        alpha, beta = squared.sqrt().to(a.dtype).unflatten(1, (2, 1, -1)).unbind(1)
        return alpha, beta, flags

    def solution(
        self, a: Tensor, b: Tensor, p: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """v = L η [α²; β²], (k, 2r), for factors A (k, out, r), B (k, in, r) with gradients P, Q of
        their shapes; NaN where a scale stays 1. Twice: the rule's own, and what the factors take: a
        column that would lose both of them, and with them its gradients, keeps a trace. And flags,
        (k,) bool each, whose share of the layers is reported: `nonnegative`, whether the column
        system is."""
        system, target = column_system(a, b, p, q, self.scale)
        precision = torch.finfo(a.dtype).eps
        column, nonnegative = column_solution(system, target, precision)
        scalar = scalar_solution(system, target, precision).repeat_interleave(self.rank, dim=1)
        v = torch.where(nonnegative[:, None], column, scalar)
        return v, kept_alive(v, system, target), {"nonnegative": nonnegative}

    def diagnostics(self) -> dict[str, Any]:
        """The share of layers per flag and scaled step, and the smoothness that was chosen."""
        found: dict[str, Any] = {
            f"{name}_share": {"step": list(self._scaled_at), "share": [share.item() for share in shares]}
            for name, shares in self._shares.items()
        }
        return found if self._chosen is None else found | {"smoothness": self._chosen.item()}

    def extra_state(self) -> dict[str, Any]:
        """The diagnostics so far."""
        shares = {name: list(shares) for name, shares in self._shares.items()}
        return {"scaled_at": list(self._scaled_at), "shares": shares, "smoothness": self._chosen}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back the diagnostics and the chosen smoothness."""
        self._scaled_at, self._chosen = list(state["scaled_at"]), state["smoothness"]
        self._shares = {name: list(shares) for name, shares in state["shares"].items()}


@dataclass(kw_only=True)
class ScaLoraScalar(ScaLora):
    """One scale per factor instead of one per column."""

    name: ClassVar[str] = "scalora-scalar"

    def solution(
        self, a: Tensor, b: Tensor, p: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `scalora`'s; no flags."""
        system, target = column_system(a, b, p, q, self.scale)
        scalar = scalar_solution(system, target, torch.finfo(a.dtype).eps)
        v = scalar.repeat_interleave(self.rank, dim=1)
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

    def solution(
        self, a: Tensor, b: Tensor, p: Tensor, q: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `scalora`'s, with a further flag `solved`: other layers keep their scales for this step."""
        system, target = column_system(a, b, p, q, self.scale)
        v, nonnegative, solved = nonnegative_solution(system, target, torch.finfo(a.dtype).eps)
        return v, kept_alive(v, system, target), {"nonnegative": nonnegative, "solved": solved}


def _factors(group: list[LowRankLinear]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, B and their gradients, each stacked to (k, rows, r)."""
    return (
        _stack([layer.A for layer in group]),
        _stack([layer.B for layer in group]),
        _stack([_gradient(layer.A) for layer in group]),
        _stack([_gradient(layer.B) for layer in group]),
    )


def _stack(factors: list[Tensor]) -> Tensor:
    """(k, rows, r), copied in the layout in which the factors lie: by columns."""
    return torch.stack([factor.t() for factor in factors]).mT


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _carry_moments(factors: list[nn.Parameter], scales: list[Tensor], optimizer: Optimizer) -> None:
    """First moments follow the gradients, second moments their squares. The optimizer holds none
    before its first step."""
    held = [
        (optimizer.state[factor], scale)
        for factor, scale in zip(factors, scales, strict=True)
        if optimizer.state.get(factor)
    ]
    if held:
        torch._foreach_mul_([state["exp_avg"] for state, _ in held], [scale for _, scale in held])
        torch._foreach_mul_([state["exp_avg_sq"] for state, _ in held], [scale.square() for _, scale in held])
