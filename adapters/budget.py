"""AdaLoRA's rank budget (Zhang et al. 2023, arXiv 2303.10512, equation 12), which LoRA² shares.

b(t) = b₀ for t <= t_i, then b_T + (b₀ - b_T) (1 - (t - t_i) / (T - t_i - t_f))³, then b_T for the
last t_f steps. t counts finished optimizer steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rankbench.adapters.base import Ranked
from rankbench.adapters.errors import AdapterError, check_count, check_positive, check_steps


@dataclass(frozen=True)
class Schedule:
    """How many singular values may be non-zero, over all layers, after each step."""

    initial: int
    target: int
    start: int
    """The last step with the initial budget."""
    end: int
    """The first step with the target budget."""
    interval: int

    def at(self, step: int) -> int:
        """The budget after `step` optimizer steps."""
        if step <= self.start:
            return self.initial
        if step >= self.end:
            return self.target
        left = 1 - (step - self.start) / (self.end - self.start)
        return int(self.target + (self.initial - self.target) * left**3)

    def prunes(self, step: int) -> bool:
        """Whether values are zeroed after this step: every `interval` steps while the budget
        falls, every step once it is reached."""
        return step >= self.end or (step > self.start and step % self.interval == 0)


@dataclass(kw_only=True)
class Budgeted(Ranked):
    """Hyperparameters of an increment V diag(e) U whose least important e are pruned.

    `rank` is each layer's number of singular values at the start, `target_rank` their average over
    the layers at the end. `init_warmup` and `final_warmup` are steps, or fractions of
    `total_steps` if below 1; `mask_interval` is the number of steps between prunings.
    """

    example: ClassVar[dict[str, Any]] = {"rank": 3, "target_rank": 1, "mask_interval": 1}
    alpha: float = 16.0
    target_rank: int = 4
    orthogonality: float = 0.1
    """Weight of the orthogonality penalty."""
    beta1: float = 0.85
    """Smoothing of the sensitivity."""
    beta2: float = 0.85
    """Smoothing of its uncertainty."""
    init_warmup: float = 0.1
    final_warmup: float = 0.3
    mask_interval: int = 10
    total_steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(target_rank=self.target_rank, mask_interval=self.mask_interval)
        check_count(total_steps=self.total_steps)
        check_positive(alpha=self.alpha)
        if self.target_rank > self.rank:
            raise AdapterError(f"target_rank {self.target_rank} is above rank {self.rank}, where it starts")
        if self.orthogonality != 0:
            check_positive(orthogonality=self.orthogonality)
        betas = {"beta1": self.beta1, "beta2": self.beta2}
        check_positive(**betas)
        for key, value in betas.items():
            if value >= 1:
                raise AdapterError(f"{key} must lie between 0 and 1, not {value!r}")
        check_steps(init_warmup=self.init_warmup, final_warmup=self.final_warmup)
        schedule = self.schedule(1)
        if schedule.start >= schedule.end:
            raise AdapterError(
                f"init_warmup and final_warmup leave none of the {self.total_steps} steps to prune in; "
                "shorten them"
            )

    def schedule(self, layers: int) -> Schedule:
        """The budget over this many layers."""
        return Schedule(
            initial=self.rank * layers,
            target=self.target_rank * layers,
            start=self._steps(self.init_warmup),
            end=self.total_steps - self._steps(self.final_warmup),
            interval=self.mask_interval,
        )

    def _steps(self, warmup: float) -> int:
        return round(warmup * self.total_steps) if warmup < 1 else int(warmup)
