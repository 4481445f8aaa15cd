"""The shared loop: every adapter, on every task, is trained by these lines and no others.

It knows an adapter only by its contract (`penalty`, `before_step`, `after_step`) and a task only
by a summed loss over batches with weights. Only the synchronised step is timed; data, checkpoints
and observations lie outside the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import get_scheduler

from rankbench.adapters import Adapter
from rankbench.bench.records import Curve, Observation
from rankbench.bench.run.checkpoint import Checkpoint, Progress, kept
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.finite import refuse_broken_weights, refuse_divergence
from rankbench.bench.run.step import make_accelerator, make_optimizer, now, optimizer_step, prepare
from rankbench.bench.seeds import batches, stream
from rankbench.bench.suite import ConfigError, Training
from rankbench.tasks import Batch


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
    the user asked to stop, ConfigError if the processes do not divide the micro-batches.
    """
    accelerator = accelerator or make_accelerator(settings.precision)
    if settings.accumulation % accelerator.num_processes:
        raise ConfigError(
            f"accumulation {settings.accumulation} is not divisible by {accelerator.num_processes} processes"
        )
    progress = SharedLoop(accelerator, model, adapter, work, settings, seed).run(watch or Watch(), checkpoint)
    # After bf16 it leaves a bare `forward` on the instance, without what the class decorates its own with.
    vars(model).pop("forward", None)
    # The accelerator holds on to the optimizer; its state would stand beside what scoring needs.
    accelerator.free_memory()
    return progress


class SharedLoop:
    """What the steps of one training share. It is gone when they are done, its optimizer with it."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        adapter: Adapter,
        work: Work,
        settings: Training,
        seed: int,
    ) -> None:
        self.accelerator, self.adapter, self.work, self.settings = accelerator, adapter, work, settings
        self.bare_model = model
        self.bare_optimizer = make_optimizer(adapter, settings)
        self.model, self.optimizer = prepare(accelerator, model, self.bare_optimizer)
        self.scheduler = get_scheduler(
            "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
            self.bare_optimizer,
            round(settings.warmup * settings.steps),
            settings.steps,
        )
        self.order = batches(work.lengths, settings.batch_size, settings.steps * settings.accumulation, seed)
        # A stream a process: with one for all, their examples would share masks.
        process = accelerator.process_index
        torch.manual_seed(stream(seed, f"dropout of process {process}" if process else "dropout"))

    def run(self, watch: Watch, checkpoint: Checkpoint | None) -> Progress:
        """All steps, or what a checkpoint leaves of them."""
        steps, often = self.settings.steps, self.settings.observe
        observed = {round(steps * (i + 1) / often) for i in range(often)}
        state = (self.adapter, self.bare_optimizer, self.scheduler)
        progress = (checkpoint.resume(*state) if checkpoint else None) or Progress()
        while progress.step < steps:
            micro_batches, weight = self.batches_of(progress.step)
            progress.add(**self.step(progress.step, micro_batches, weight))
            refuse_divergence(progress.curve)
            if progress.step in observed:
                self.observe(progress, watch)
            watch.tick(progress.curve)
            if checkpoint is not None:
                done = progress.step == steps
                stopped, due = self.agreed(watch.stopped(), checkpoint.due())
                if done or stopped or due:
                    checkpoint.save(progress, *state)
                if stopped and not done:
                    raise Interrupted
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if steps not in observed:
            refuse_broken_weights(self.bare_model, progress.step)
        return progress

    def agreed(self, *asked: bool) -> Sequence[bool]:
        """Whether any process asks for it: all do it after the same step, or they would wait for ever."""
        if self.accelerator.num_processes == 1:
            return asked
        counts = self.accelerator.reduce(torch.tensor(asked, device=self.accelerator.device).long())
        return [bool(count) for count in counts.tolist()]

    def batches_of(self, step: int) -> tuple[list[Batch], float]:
        """A step's micro-batches that are this process's, and the number of loss terms in all of them."""
        count, processes = self.settings.accumulation, self.accelerator.num_processes
        mine = self.order[step * count : (step + 1) * count][self.accelerator.process_index :: processes]
        made = [self.work.collate([self.work.examples[i] for i in indices]) for indices in mine]
        made = [each.to(self.accelerator.device) for each in made]
        weight = float(sum(each.weight for each in made))
        if processes > 1:
            weight = self.accelerator.reduce(torch.tensor(weight, device=self.accelerator.device)).item()
        return made, float(weight)

    def step(self, step: int, micro_batches: Sequence[Batch], weight: float) -> dict[str, float]:
        """One timed step: an entry of each list of the curve."""
        rate = float(self.scheduler.get_last_lr()[0])
        self.model.train()
        started = now(self.accelerator.device)
        loss, penalty, norm = optimizer_step(
            self.accelerator, self.model, self.adapter, self.optimizer, self.work.loss, micro_batches,
            step=step, weight=weight, clip=self.settings.clip,
        )  # fmt: skip
        seconds = now(self.accelerator.device) - started
        self.scheduler.step()
        return {
            "loss": self.accelerator.reduce(loss).item(),
            "penalty": penalty.item(),
            "gradient_norm": norm.item(),
            "learning_rate": rate,
            "seconds": seconds,
        }

    def observe(self, progress: Progress, watch: Watch) -> None:
        """Measure between two steps, and keep the state where it is the best so far."""
        refuse_broken_weights(self.bare_model, progress.step)
        with torch.random.fork_rng():
            # The first process's: which is the best must not depend on another one's rounding.
            (seen,) = broadcast_object_list([watch.observe(progress.step)])
        progress.observations.append(seen)
        if seen.selection is None:
            return
        sign = -1 if watch.lower_is_better else 1
        if progress.best is None or sign * seen.selection > sign * progress.best["score"]:
            state = kept(self.adapter.state_dict(copy=False))
            progress.best = {"step": seen.step, "score": seen.selection, "state": state}


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
