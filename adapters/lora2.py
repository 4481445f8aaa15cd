"""LoRA² (Zhang et al. 2024, arXiv 2408.06854): a diagonal between two low-rank planes.

    Δ = s · V₂ U₂ diag(e) V₁ U₁        U₁ (k, in), V₁ (r, k), e (r), U₂ (k, r), V₂ (out, k)

k is the outer width, r the number of singular values e, s = alpha / r. e starts at zero, the rest
at N(0, 0.02²). With P = V₂ U₂ and Q = V₁ U₁, each layer's penalty is the paper's equation 5, in squared
Frobenius norms:

    uv   ‖V₂ᵀV₂ - I‖² + ‖U₂U₂ᵀ - I‖²      the factors of P
    UV   ‖V₁ᵀV₁ - I‖² + ‖U₁U₁ᵀ - I‖²      the factors of Q
    PQ   ‖PᵀP - I‖² + ‖QQᵀ - I‖²           the planes themselves, by (r, r) matrices

The importance of e_i is AdaLoRA's smoothed sensitivity × uncertainty of |p · ∂p|, its own plus the
means over row i of V₁ and column i of U₂; the large outer U₁ and V₂ are not scored. By AdaLoRA's
budget (`adapters.budget`) the least important e over all layers are zeroed.

Deviations and open points:
- The paper gives no weight. Ours multiplies the mean over layers of the sum of the six squares, so that
  it means the same on a deeper model. The authors' release has 0.1 (0.3 on RTE and STS-B) on the mean
  over factors of unsquared norms, and never uses P and Q: of a 768 × 768 layer at k = r = 8 that is
  0.1 × 2.4 at the start, where ours is 0.1 × 39.5.
- Of V₁ and U₂ the smaller Gram matrix is taken: the larger one's norm² is the same plus |k - r|. Where
  k < r, PᵀP and QQᵀ have rank k, and PQ cannot fall below 2 (r - k).
- As in AdaLoRA's release, importance is taken after the optimizer step, with gradients that
  include the penalty's and are clipped; a zeroed e may return until the next pruning; importance
  stays as it is once the budget has reached its target, so the same e are zeroed from then on.
- The outer factors would add one number to all e of a layer: not to their order, as the paper says, but
  the threshold is over all layers. In a run of MiniLM (movie sentiment, 24 prunings) it changed 1 choice in
  3,704.
- Ties at the threshold are broken so that exactly the budget is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.base import AdapterError, check_count, check_rank, weight_of
from rankbench.adapters.budget import Budgeted
from rankbench.adapters.low_rank import LowRankLayer, share_inputs

REGULARISERS = ("uv", "UV", "PQ")
"""The three terms of equation 5, by the paper's names."""


class TwoPlaneLinear(LowRankLayer):
    """A frozen layer with `U1` (k, in), `V1` (r, k), `e` (r), `U2` (k, r), `V2` (out, k), `scale`."""

    def __init__(
        self,
        base: nn.Linear | Conv1D,
        rank: int,
        width: int,
        scale: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(base)
        weight = weight_of(base)
        out_features, in_features = weight.shape
        dtype = torch.promote_types(weight.dtype, torch.float32)

        def drawn(rows: int, columns: int) -> nn.Parameter:
            start = torch.empty(rows, columns, dtype=dtype).normal_(std=0.02, generator=generator)
            return nn.Parameter(start.to(weight.device))

        self.U1, self.V1 = drawn(width, in_features), drawn(rank, width)
        self.e = nn.Parameter(torch.zeros(rank, dtype=dtype, device=weight.device))
        self.U2, self.V2 = drawn(width, rank), drawn(out_features, width)
        self.scale = scale

    def factors(self) -> tuple[Tensor, Tensor]:
        """V₂ U₂ diag(e) V₁ (out, k) and U₁ᵀ (in, k): no product over tokens is wider than k."""
        return self.V2 @ self._middle(), self.U1.t()

    def _middle(self) -> Tensor:
        return (self.U2 * self.e) @ self.V1


@dataclass(kw_only=True)
class Lora2(Budgeted):
    """LoRA² with outer width `width` (k) and `rank` singular values (r)."""

    name: ClassVar[str] = "lora2"
    version: ClassVar[int] = 2
    width: int = 8
    regularisers: Sequence[str] = REGULARISERS
    """Which terms the penalty has: all but in the paper's ablation."""
    _sensitivity: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    _uncertainty: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(width=self.width)
        given = self.regularisers
        named = isinstance(given, list | tuple) and all(name in REGULARISERS for name in given)
        if not named or not given or len(set(given)) < len(given):
            raise AdapterError(
                f"regularisers must be some of {', '.join(REGULARISERS)}, each once, not {given!r}; "
                "for none, set orthogonality to 0"
            )

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if the rank or the width does not fit the layer."""
        check_rank(self.rank, linear)
        if self.width > min(weight_of(linear).shape):
            raise AdapterError(
                f"width {self.width} is above {min(weight_of(linear).shape)}, the smaller side"
            )

    @override
    def install(
        self, model: nn.Module, selected: dict[str, nn.Linear | Conv1D], generator: torch.Generator | None
    ) -> None:
        super().install(model, selected, generator)
        share_inputs(self.layers)

    def wrap(self, linear: nn.Linear | Conv1D, generator: torch.Generator | None) -> TwoPlaneLinear:
        """A `TwoPlaneLinear` that starts equal to the layer."""
        return TwoPlaneLinear(linear, self.rank, self.width, self.alpha / self.rank, generator)

    def penalty(self) -> Tensor | float:
        """`orthogonality` times the mean over layers of the terms in `regularisers`."""
        if not self.orthogonality:
            return 0.0
        terms = self._terms()
        return self.orthogonality * torch.stack([terms[name] for name in self.regularisers]).sum()

    def _terms(self) -> dict[str, Tensor]:
        """Each of `REGULARISERS`, the mean over layers; layers of one shape at once."""
        groups: dict[torch.Size, list[TwoPlaneLinear]] = defaultdict(list)
        for layer in self._planes():
            groups[weight_of(layer.base).shape].append(layer)
        found: dict[str, list[Tensor]] = {name: [] for name in REGULARISERS}
        for group in groups.values():
            u1, v1, u2, v2 = (
                torch.stack([getattr(layer, name) for layer in group]) for name in ("U1", "V1", "U2", "V2")
            )
            gram_u1, gram_v2 = u1 @ u1.mT, v2.mT @ v2
            found["uv"] += [_from_identity(gram_v2), _from_identity(_thin_gram(u2))]
            found["UV"] += [_from_identity(_thin_gram(v1)), _from_identity(gram_u1)]
            # PᵀP and QQᵀ from the Gram matrices at hand: neither plane is formed.
            found["PQ"] += [_from_identity(u2.mT @ gram_v2 @ u2), _from_identity(v1 @ gram_u1 @ v1.mT)]
        return {name: torch.stack(norms).sum() / len(self.layers) for name, norms in found.items()}

    @override
    @torch.no_grad()
    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """Score the singular values and, where the schedule says so, zero the least important."""
        done, schedule = step + 1, self.schedule(len(self.layers))
        if done <= schedule.end:
            self._observe()
        if schedule.prunes(done):
            self._prune(schedule.at(done))

    def _observe(self) -> None:
        """Smooth the sensitivity of every scored entry and its uncertainty."""
        values = torch.stack([_scored(layer.e, layer.V1, layer.U2) for layer in self._planes()])
        gradients = torch.stack(
            [_scored(*(_gradient(p) for p in (layer.e, layer.V1, layer.U2))) for layer in self._planes()]
        )
        sensitivity = (values * gradients).abs()
        if self._sensitivity is None or self._uncertainty is None:
            self._sensitivity, self._uncertainty = torch.zeros_like(values), torch.zeros_like(values)
        self._sensitivity.lerp_(sensitivity, 1 - self.beta1)
        self._uncertainty.lerp_((sensitivity - self._sensitivity).abs(), 1 - self.beta2)

    def importance(self) -> Tensor:
        """The score of every singular value, (layers, r), after at least one step."""
        assert self._sensitivity is not None
        assert self._uncertainty is not None
        own, v1, u2 = (self._sensitivity * self._uncertainty).split([1, self.width, self.width], dim=2)
        return own.squeeze(2) + v1.mean(dim=2) + u2.mean(dim=2)

    def _prune(self, budget: int) -> None:
        score = self.importance()
        kept = score.flatten().topk(budget).indices
        keep = torch.zeros_like(score).flatten().scatter_(0, kept, 1.0)
        values = [layer.e.data for layer in self._planes()]
        torch._foreach_mul_(values, list(keep.view_as(score).unbind()))

    def diagnostics(self) -> dict[str, Any]:
        """Singular values left per layer, the terms of the penalty before their weight (those left out of
        it too), and the share of scored entries saved against scoring every factor."""
        if not self.layers:
            return {}
        left = torch.stack([layer.e.count_nonzero() for layer in self._planes()]).tolist()
        scored = sum(p.numel() for layer in self._planes() for p in (layer.e, layer.V1, layer.U2))
        outer = sum(p.numel() for layer in self._planes() for p in (layer.U1, layer.V2))
        return {
            "rank": dict(zip(self.layers, left, strict=True)),
            "orthogonality": {name: term.item() for name, term in self._terms().items()},
            "scores_saved": outer / (outer + scored),
        }

    def extra_state(self) -> dict[str, Any]:
        """The smoothed importance of every scored entry."""
        if self._sensitivity is None or self._uncertainty is None:
            return {}
        return {"sensitivity": self._sensitivity.clone(), "uncertainty": self._uncertainty.clone()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back the importance, on the layers' device."""
        device = self._planes()[0].e.device
        self._sensitivity, self._uncertainty = (
            state[key].to(device, copy=True) if key in state else None
            for key in ("sensitivity", "uncertainty")
        )

    def _planes(self) -> list[TwoPlaneLinear]:
        return [layer for layer in self.layers.values() if isinstance(layer, TwoPlaneLinear)]


def _scored(e: Tensor, v1: Tensor, u2: Tensor) -> Tensor:
    """One row per singular value: itself, its row of V₁, its column of U₂; (r, 1 + 2k)."""
    return torch.cat([e[:, None], v1, u2.mT], dim=1)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _thin_gram(x: Tensor) -> Tensor:
    return x @ x.mT if x.shape[-2] <= x.shape[-1] else x.mT @ x


def _from_identity(grams: Tensor) -> Tensor:
    return (grams - torch.eye(grams.shape[-1], dtype=grams.dtype, device=grams.device)).square().sum()
