"""ScaLoRA (Zhang et al., ICML 2026, arXiv 2510.23818): increments that add up to a high rank.

Before an optimizer step the factors are rescaled, Ã = A diag(α), B̃ = B diag(β), and the frozen
weight takes the difference, W ← W + s (A Bᵀ − Ã B̃ᵀ): the layer's function stays, the direction of
its next increment changes. α and β bring one LoRA step closest to the full fine-tuning step
(`adapters.scaling`).

- `scalora-scalar`: one α and one β a layer (Theorem 3.5).
- `scalora`: a scale per column (Theorem 3.7), the scalar rule where that system has a negative entry.
- `scalora-i`: the column rule every `interval` steps (paper: 10).

Deviations and open points: η is the peak learning rate, constant over the run (only L·η enters);
the moments follow the *other* factor's scales, by the chain rule (the lemma's own text was not
available); a zero column keeps scale 1.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D

from adapters.base import AdapterError, check_count, check_positive, weight_of
from adapters.lora import Lora, LowRankLinear
from adapters.scaling import column_solution, column_system, scalar_solution


@dataclass(kw_only=True)
class ScaLora(Lora):
    """Column scaling with the scalar fallback, every `interval` steps.

    `smoothness` is the paper's L, `learning_rate` its η: the run's peak learning rate.
    """

    name: ClassVar[str] = "scalora"
    moves_base: ClassVar[bool] = True
    columns: ClassVar[bool] = True
    smoothness: float = 100.0
    learning_rate: float = 1e-3
    interval: int = 1
    _scaled_at: list[int] = field(default_factory=list, init=False, repr=False, compare=False)
    _nonnegative: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(smoothness=self.smoothness, learning_rate=self.learning_rate)
        check_count(interval=self.interval)

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """As LoRA's; refuses a half-precision weight, which would round the folds away."""
        super().check(linear)
        if weight_of(linear).dtype not in (torch.float32, torch.float64):
            raise AdapterError(
                f"the weight is {weight_of(linear).dtype} and would round small folds away; "
                "load the model in float32 and train with mixed precision instead"
            )

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
        flags = [self._rescale(group, optimizer) for group in groups.values()]
        if self.columns and flags:
            self._scaled_at.append(step)
            self._nonnegative.append(torch.cat([flag.to(flags[0].device) for flag in flags]).float().mean())

    def _rescale(self, group: list[LowRankLinear], optimizer: Optimizer) -> Tensor:
        """Layers of one shape at once. Returns (k,): whether the column system is non-negative."""
        a = _stack([layer.A for layer in group])
        b = _stack([layer.B for layer in group])
        p = _stack([_gradient(layer.A) for layer in group])
        q = _stack([_gradient(layer.B) for layer in group])
        alpha, beta, nonnegative = self.scales(a, b, p, q)
        for layer, left in zip(group, (a * (1 - alpha * beta)).unbind(), strict=True):
            weight_of(layer.base).addmm_(left, layer.B.t(), alpha=self.scale)
        alphas, betas = list(alpha.unbind()), list(beta.unbind())
        # The chain rule crosses the scales: A's gradient is s G B, so it takes B's.
        _scale_columns([layer.A for layer in group], alphas, betas, optimizer)
        _scale_columns([layer.B for layer in group], betas, alphas, optimizer)
        return nonnegative

    def scales(self, a: Tensor, b: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """α, β (k, 1, r) for factors A (k, out, r), B (k, in, r) with gradients P, Q of their
        shapes, and whether each layer's column system is non-negative, (k,) bool."""
        system, target = column_system(a, b, p, q, self.scale)
        scalar = scalar_solution(system, target)
        v = scalar.repeat_interleave(a.shape[-1], dim=1)
        nonnegative = torch.zeros(len(a), dtype=torch.bool, device=a.device)
        if self.columns:
            column, nonnegative = column_solution(system, target)
            v = torch.where(nonnegative[:, None], column, v)
        squared = torch.nan_to_num(v / (self.smoothness * self.learning_rate), nan=1.0)
        alpha, beta = squared.sqrt().to(a.dtype).unflatten(1, (2, 1, -1)).unbind(1)
        return alpha, beta, nonnegative

    def diagnostics(self) -> dict[str, Any]:
        """The share of layers whose column system is non-negative, per scaled step."""
        if not self._scaled_at:
            return {}
        share = [flag.item() for flag in self._nonnegative]
        return {"nonnegative_share": {"step": list(self._scaled_at), "share": share}}

    def extra_state(self) -> dict[str, Any]:
        """The diagnostics so far."""
        return {"scaled_at": list(self._scaled_at), "nonnegative": list(self._nonnegative)}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back the diagnostics."""
        self._scaled_at, self._nonnegative = list(state["scaled_at"]), list(state["nonnegative"])


@dataclass(kw_only=True)
class ScaLoraScalar(ScaLora):
    """One scale per factor instead of one per column."""

    name: ClassVar[str] = "scalora-scalar"
    columns: ClassVar[bool] = False


@dataclass(kw_only=True)
class ScaLoraIntermittent(ScaLora):
    """Column scaling every `interval` steps, which divides its overhead by that."""

    name: ClassVar[str] = "scalora-i"
    interval: int = 10


def _stack(factors: list[Tensor]) -> Tensor:
    """(k, rows, r), copied in the layout in which the factors lie: by columns."""
    return torch.stack([factor.t() for factor in factors]).mT


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _scale_columns(
    factors: list[nn.Parameter], own: list[Tensor], other: list[Tensor], optimizer: Optimizer
) -> None:
    """Factors by their own scales; gradients and first moments by the other factor's, second
    moments by its square. The optimizer holds no moments before its first step."""
    torch._foreach_mul_(list[Tensor](factors), own)
    torch._foreach_mul_([_gradient(factor) for factor in factors], other)
    held = [
        (optimizer.state[factor], scale)
        for factor, scale in zip(factors, other, strict=True)
        if optimizer.state.get(factor)
    ]
    if held:
        torch._foreach_mul_([state["exp_avg"] for state, _ in held], [scale for _, scale in held])
        torch._foreach_mul_([state["exp_avg_sq"] for state, _ in held], [scale.square() for _, scale in held])
