"""What a run holds at its peak: its own step, and how it scores, done without values by the functions that a
run calls, and counted (`bench.cost.counting`).

Not counted: loading and merging, which hold a layer at a time beside the model; the readings of a few short
texts before and after; Python, the libraries and the encoded data.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.initialization import no_init_weights

from rankbench import tasks
from rankbench.adapters import AdapterError
from rankbench.bench import models
from rankbench.bench.cost import inputs
from rankbench.bench.cost.counting import Counter, Place, counting
from rankbench.bench.cost.depth import along, layers_of, mark_blocks, with_layers
from rankbench.bench.cost.sharing import of_each
from rankbench.bench.cost.sizes import Sizes, shape, sizes
from rankbench.bench.cpu.dropout import use_cheap_dropout
from rankbench.bench.models import precision
from rankbench.bench.run.job import make_task
from rankbench.bench.run.start import recompute_activations
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step, prepare
from rankbench.bench.suite import RunSpec
from rankbench.bench.suite.described import adapter_of

TRAINING, BETWEEN, SCORING = "training", "between steps", "scoring"
HELD, MERGING = "held", "merging"
NF4_BYTES = 1 / 2 + 4 / 64
"""Of a weight, with its part of the float32 scale that 64 share."""
FROZEN_BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": NF4_BYTES}
TRAINED = Place("", "parameters of the adapter")
"""Not bytes: a count, to see that it grows with the layers as it must."""


class Peak(NamedTuple):
    """Bytes of one process, and what it does when it holds them."""

    bytes: int
    phase: str


@dataclass(frozen=True)
class _Work:
    """A run, as far as its memory goes: those with the same key need the same."""

    key: tuple[Any, ...]
    longest: inputs.Longest
    device: str
    spec: RunSpec = field(compare=False)
    task: tasks.Task = field(compare=False)

    @property
    def layers(self) -> int:
        """Of the whole model; 0 of a task's own."""
        own = self.task.head.kind == "own"
        return 0 if own else layers_of(shape(self.spec.model, self.task.head))


def peak(spec: RunSpec, longest: inputs.Longest | None = None, *, scores: bool = True) -> Peak:
    """Of what `phases` finds; `scores`: of what is read to score too, as if as long as what is trained on."""
    found = phases(spec, longest)
    if not scores:
        found = {phase: held for phase, held in found.items() if phase not in (BETWEEN, SCORING)}
    phase = max(found, key=found.__getitem__)
    return Peak(found[phase], phase)


def phases(spec: RunSpec, longest: inputs.Longest | None = None) -> dict[str, int]:
    """Bytes that a run on this machine holds in each of the things it does one after the other. Its longest
    example is by default as long as the task allows. Raises the errors of what cannot be attached."""
    task, recipe = make_task(spec), spec.training
    adapter_of(spec)  # refuses what the run's own steps and learning rate do not allow
    size = sizes(spec, task)
    own_task = json.dumps(spec.task) if task.head.kind == "own" else ""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    longest = longest or inputs.allowed(task, None if own_task else shape(spec.model, task.head).config)
    model = own_task, spec.model, task.head.kind  # of outputs, however many, there are a few a text
    how = recipe.batch_size, recipe.accumulation > 1, recipe.precision, recipe.gradient_checkpointing
    steps = _Work((model, json.dumps(spec.targets), size.kind, how), longest, device, spec, task)
    try:
        reads = type(task), inputs.chooses(task), inputs.writes(task), inputs.scored_together(task)
        read = _Work((model, *reads), longest, device, spec, task)
        step = _grown(_step, steps, 1)
        scoring = _grown(_scoring, read, 2)  # with one, what is read twice is highest elsewhere
    except (
        Exception
    ) as error:  # what a model or a plug-in does may need values, or kernels that have no shapes
        held = FROZEN_BYTES[spec.model.weights] * (size.total - size.trainable) + 16 * size.trainable
        return {f"at least, not counted: {type(error).__name__}": round(held)}
    found = _phases(step, scoring, size, spec, device)
    return of_each(found, recipe, scoring[Place(HELD)], size, read.layers) if recipe.processes > 1 else found


def _phases(
    step: Mapping[Place, int], scoring: Mapping[Place, int], size: Sizes, spec: RunSpec, device: str
) -> dict[str, int]:
    """By the places of its step and of what it reads to score."""
    weights = scoring[Place(HELD)]
    reads = max(held for place, held in scoring.items() if place.phase == SCORING) - weights
    best = spec.training.select == "best"
    state = size.state if best and device == "cpu" else 0  # it is kept in main memory
    # The probes hold their layers' first weights, and the loop the best state, until training is over.
    beside = 4 * size.probed + state
    found = {
        phase: max(held for place, held in step.items() if place.phase == phase) + beside
        for phase in (TRAINING, BETWEEN)
    }
    if best:  # the next state is made before the last one goes
        found[BETWEEN] = max(found[BETWEEN], step[Place(BETWEEN)] + beside + max(reads, state))
    found[SCORING] = weights + reads + state
    if spec.model.weights == "nf4":
        # Counted in bfloat16. A layer at a time is unpacked; what increments are folded into stays so.
        packed = round((2 - NF4_BYTES) * (size.passed - size.passed_trained)) - 2 * size.largest
        found = {phase: held - packed for phase, held in found.items()}
        found[MERGING] = weights - packed + round((2 - NF4_BYTES) * size.adapted) + state
    return found


def _grown(count: Callable[[_Work, int], dict[Place, int]], work: _Work, few: int) -> dict[Place, int]:
    """What `count` finds with all layers of the model, by few of them where these are like the others."""
    if work.layers > few + 1:
        with suppress(AdapterError):  # the targets may name layers that few have not
            found = along(count(work, few), count(work, few + 1), work.layers - few)
            if TRAINED not in found or found[TRAINED] == sizes(work.spec, work.task).adapter:
                return found
    return count(work, work.layers)


@functools.cache
def _step(work: _Work, layers: int) -> dict[Place, int]:
    """A training step, and what is left of it when something is looked at before the next."""
    spec, task, recipe = work.spec, work.task, work.spec.training
    heads = models.heads(shape(spec.model, task.head), spec.model) if layers else None
    batch = inputs.batch(task, recipe.batch_size, work.longest)
    with counting(work.device) as counter:
        model = _model(work, layers, counter)
        if recipe.gradient_checkpointing:
            recompute_activations(model)
        adapter = adapter_of(spec)
        adapter.attach(model, spec.targets, heads=heads)
        counter.peaks[TRAINED] = adapter.parameter_counts()["adapter"]
        accelerator = make_accelerator(recipe.precision)
        bare = make_optimizer(adapter, recipe)
        wrapped, optimizer = prepare(accelerator, model.train(), bare)
        _move_once(bare)
        if recipe.accumulation == 1:  # else there are gradients of the micro-batches before
            bare.zero_grad()
        counter.begin(TRAINING)
        given = inputs.like(batch, work.device)
        loss = functools.partial(inputs.loss, task)
        optimizer_step(
            accelerator, wrapped, adapter, optimizer, loss, [given], step=0, weight=1.0, clip=recipe.clip
        )
        counter.begin(BETWEEN)  # reading a gradient needs no more than a step
    return counter.peaks


@functools.cache
def _scoring(work: _Work, layers: int) -> dict[Place, int]:
    """What the task reads to score a model without an adapter."""
    batch = inputs.batch(work.task, inputs.scored_together(work.task), work.longest)
    with counting(work.device) as counter:
        model = _model(work, layers, counter)
        counter.begin(HELD)
        counter.begin(SCORING)
        inputs.score(work.task, model, inputs.like(batch, work.device))
    return counter.peaks


def _move_once(optimizer: torch.optim.Optimizer) -> None:
    """Have it hold moments, as it does from the second step on."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def _model(work: _Work, layers: int, counter: Counter) -> nn.Module:
    """As it is loaded; of a model of `transformers` with so many layers."""
    if not layers:
        with torch.device(work.device):
            return work.task.build_model(0)
    known = work.spec.model
    whole: Any = shape(known, work.task.head)
    dtype = precision.dtype_of(known)
    with torch.device(work.device), no_init_weights():
        model = type(whole)._from_config(with_layers(whole.config, layers), dtype=dtype)
    if known.weights != "float32":
        precision.keep_apart(model, models.heads(whole, known))
    use_cheap_dropout(model)
    mark_blocks(model, layers, counter.at)
    return model
