"""The shared loop: every adapter, on every task, is trained by these lines and no others.

It knows an adapter only by its contract (`penalty`, `before_step`, `after_step`) and a task only
by a summed loss over batches with weights. Only the synchronised step is timed; data, checkpoints
and observations lie outside the clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from rankbench.adapters import Adapter
from rankbench.bench.cpu.allocator import keep_freed_memory
from rankbench.bench.records import Curve, Observation
from rankbench.bench.run.checkpoint import Checkpoint, Progress, kept
from rankbench.bench.run.order import batches
from rankbench.bench.run.seeds import stream
from rankbench.bench.suite import ConfigError, Training
from rankbench.tasks import Batch

BIASES_AND_NORMS = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Lower-case names of what weight decay usually leaves out: the Trainer's."""


class RunFailed(Exception):
    """Training ended without a result, at a step and for a reason."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(f"{reason} at step {step}")
        self.reason, self.step = reason, step


class Interrupted(Exception):
    """The user stopped the run; its checkpoint is on the disk."""


def stop_if(stopped: Callable[[], bool]) -> None:
    """Raise Interrupted where the user asked to stop."""
    if stopped():
        raise Interrupted


@dataclass(frozen=True)
class Work:
    """What is trained on: encoded examples, how to batch them, and the summed loss of a batch."""

    examples: Sequence[dict[str, Any]]
    lengths: Sequence[int]
    collate: Callable[[Sequence[dict[str, Any]]], Batch]
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Watch:
    """What happens between steps. `observe` measures (after the given number of steps), `tick`
    reports progress, `stopped` says whether the user asked to stop."""

    observe: Callable[[int], Observation] = lambda step: Observation(step=step)
    lower_is_better: bool = False
    tick: Callable[[Curve], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False


def make_accelerator(precision: str = "no") -> Accelerator:
    """CUDA or the CPU, precision and processes. The process-wide state is reset: runs may differ
    in precision. Memory that a step frees is kept for the next."""
    keep_freed_memory()
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())


def make_optimizer(model: nn.Module, settings: Training) -> AdamW:
    """AdamW over what is trainable, in one fused kernel; weight decay as `settings.decay` says, by the
    rule of the transformers Trainer."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = set(trainable)
    if settings.weight_decay and settings.decay == "matrices":
        decayed &= set(get_parameter_names(model, [nn.LayerNorm], BIASES_AND_NORMS))
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trainable.items() if name in decayed]},
        {"params": [p for name, p in trainable.items() if name not in decayed], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def optimizer_step(
    accelerator: Accelerator,
    model: nn.Module,
    adapter: Adapter,
    optimizer: Any,
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    micro_batches: Sequence[Batch],
    *,
    step: int,
    weight: float,
    clip: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the part that is timed. `weight` is the number of loss terms over all
    micro-batches and processes. Returns task loss, penalty and gradient norm, on the device."""
    total = torch.zeros((), device=accelerator.device)
    penalty: Tensor | float = 0.0
    for position, batch in enumerate(micro_batches):
        is_last = position == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(model):
            part = loss(model, batch.inputs) / weight
            objective = part * accelerator.num_processes
            if is_last:
                penalty = adapter.penalty()
                objective = objective + penalty
            accelerator.backward(objective)
        total = total + part.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = accelerator.clip_grad_norm_(parameters, math.inf if clip is None else clip)
    adapter.before_step(optimizer, step)
    optimizer.step()
    adapter.after_step(optimizer, step)
    optimizer.zero_grad()
    return total, torch.as_tensor(penalty).detach(), torch.as_tensor(norm)


def train(
    model: nn.Module,
    adapter: Adapter,
    work: Work,
    settings: Training,
    seed: int,
    *,
    accelerator: Accelerator | None = None,
    watch: Watch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Progress:
    """Train an attached model, from its checkpoint if there is one, to the last step.

    Raises RunFailed where the loss is not finite, Interrupted after saving the checkpoint when
    the user asked to stop, ConfigError if the processes do not divide the micro-batches, or are
    several and there is a checkpoint.
    """
    accelerator = accelerator or make_accelerator(settings.precision)
    watch = watch or Watch()
    if settings.accumulation % accelerator.num_processes:
        raise ConfigError(
            f"accumulation {settings.accumulation} is not divisible by {accelerator.num_processes} processes"
        )
    if checkpoint is not None and accelerator.num_processes > 1:
        raise ConfigError("a checkpoint holds one process's generators; train without one, or in one process")
    inner_optimizer = make_optimizer(model, settings)
    wrapped, optimizer = accelerator.prepare(model, inner_optimizer)
    scheduler = get_scheduler(
        "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        inner_optimizer,
        round(settings.warmup * settings.steps),
        settings.steps,
    )
    plan = batches(work.lengths, settings.batch_size, settings.steps * settings.accumulation, seed)
    observed = {round(settings.steps * (i + 1) / settings.observe) for i in range(settings.observe)}

    torch.manual_seed(stream(seed, _dropout(accelerator.process_index)))
    resumed = checkpoint.resume(adapter, inner_optimizer, scheduler) if checkpoint is not None else None
    progress = resumed or Progress()

    def observe() -> None:
        _refuse_broken_weights(model, progress.step)
        with torch.random.fork_rng():
            seen = watch.observe(progress.step)
        progress.observations.append(seen)
        if seen.selection is None:
            return
        sign = -1 if watch.lower_is_better else 1
        if progress.best is None or sign * seen.selection > sign * progress.best["score"]:
            state = kept(adapter.state_dict(copy=False))
            progress.best = {"step": seen.step, "score": seen.selection, "state": state}

    while progress.step < settings.steps:
        step = progress.step
        mine = plan[step * settings.accumulation : (step + 1) * settings.accumulation]
        mine = mine[accelerator.process_index :: accelerator.num_processes]
        micro = [work.collate([work.examples[i] for i in indices]) for indices in mine]
        micro = [batch._replace(inputs=_to(batch.inputs, accelerator.device)) for batch in micro]
        weight = _total_weight(accelerator, micro)
        rate = float(scheduler.get_last_lr()[0])
        wrapped.train()
        _synchronise(accelerator)
        started = time.perf_counter()
        loss, penalty, norm = optimizer_step(
            accelerator, wrapped, adapter, optimizer, work.loss, micro,
            step=step, weight=weight, clip=settings.clip,
        )  # fmt: skip
        _synchronise(accelerator)
        seconds = time.perf_counter() - started
        scheduler.step()
        progress.step += 1
        value = accelerator.reduce(loss).item()
        for key, entry in {
            "step": progress.step,
            "loss": value,
            "penalty": penalty.item(),
            "gradient_norm": norm.item(),
            "learning_rate": rate,
            "seconds": seconds,
        }.items():
            getattr(progress.curve, key).append(entry)
        _refuse_divergence(progress.curve)
        if progress.step in observed:
            observe()
        watch.tick(progress.curve)
        if checkpoint is not None:
            done, stopped = progress.step == settings.steps, watch.stopped()
            if done or stopped or checkpoint.due():
                checkpoint.save(progress, adapter, inner_optimizer, scheduler)
            if stopped and not done:
                raise Interrupted
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    # After bf16 it leaves a bare `forward` on the instance, without what the class decorates its own with.
    vars(model).pop("forward", None)
    # The accelerator holds on to the optimizer; its state would stand beside what scoring needs.
    del optimizer, inner_optimizer, scheduler, resumed
    accelerator.free_memory()
    if settings.steps not in observed:
        _refuse_broken_weights(model, progress.step)
    return progress


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """Leave autocast off, which in training sits on the instance's `forward`: what is scored between
    steps is scored as the test split is."""
    autocast = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if autocast is not None:
            vars(model)["forward"] = autocast


def _dropout(process: int) -> str:
    """The stream of a process's dropout: with one for all, their examples would share masks."""
    return "dropout" if process == 0 else f"dropout of process {process}"


def _to(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {key: value.to(device, non_blocking=True) for key, value in inputs.items()}


def _total_weight(accelerator: Accelerator, micro_batches: Sequence[Batch]) -> float:
    own = float(sum(batch.weight for batch in micro_batches))
    if accelerator.num_processes == 1:
        return own
    return float(accelerator.reduce(torch.tensor(own, device=accelerator.device)).item())


def _synchronise(accelerator: Accelerator) -> None:
    if accelerator.device.type != "cpu":
        torch.accelerator.synchronize(accelerator.device)


def _refuse_broken_weights(model: nn.Module, step: int) -> None:
    """The loss is of the weights before the step: the last step's damage shows only here."""
    for name, parameter in model.named_parameters():
        # The sum is one pass; it can also overflow, which the second look tells apart.
        if not torch.isfinite(parameter.sum()) and not torch.isfinite(parameter).all():
            raise RunFailed(f"{name} is no longer finite", step)


def _refuse_divergence(curve: Curve) -> None:
    """A loss or gradient that is not finite never gets better: the run ends here, as failed."""
    for key in ("loss", "penalty", "gradient_norm"):
        value = getattr(curve, key)[-1]
        if not math.isfinite(value):
            raise RunFailed(f"the {key.replace('_', ' ')} is {value}", curve.step[-1])
