"""What a suite will cost, before anything is downloaded: parameters, time (roughly) and memory.

Operations of a step, per token: 2 P forward, 2 P backward to the activations, 2 T backward to the
weights, and 2 P again where activations are recomputed (gradient checkpointing). P counts the weights that a
token passes through, T those of them that are trained; embeddings, the vocabulary's product,
a vision tower, attention scores, an adapter's work between steps, data and scoring are left out: it is
right within a factor of about two. Seconds: over the speed of a few real steps here (`bench.cost.speed`).

PyTorch's FlopCounterMode agrees (a test), but misses products in place, as our layers do them.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankbench import tasks
from rankbench.bench.cost.memory import peak
from rankbench.bench.cost.sizes import Sizes, shape, sizes
from rankbench.bench.cost.speed import speed
from rankbench.bench.run.job import make_task
from rankbench.bench.suite import AdapterSpec, RunSpec, Training
from rankbench.bench.suite.described import adapter_of

FILL = 0.5
"""Mean length as a share of the maximum length, for lack of a look at the data."""

GPU_PEAK = {"bf16": 312e12, "no": 19.5e12}
"""Operations a second of one NVIDIA A100 by what products are computed in, from its data sheet (float32
without TF32)."""

UTILISATION = 0.4
"""The share of the peak that training reaches: assumed, not measured."""

TRIED = AdapterSpec(name="lora")
"""Whose steps are taken to find the speed of all: it needs no schedule and does nothing between them."""

ASSUMPTION = (
    f"GPU-hours = (4 P + 2 T) x tokens / ({UTILISATION:.0%} of an A100's peak: 312 TFLOP/s in bf16, 19.5 in "
    f"float32); P: weights that a token passes through, T: those trained, 6 P with gradient "
    f"checkpointing; tokens: {FILL:.0%} of the maximum length; scoring left out"
)


@dataclass(frozen=True)
class Estimate:
    """`layers` that each entry of the targets names; `parameters` trained by the adapter (without the head);
    floating-point `operations` of the whole training; its seconds here in one process, hours on an A100; MiB
    that each process holds at its peak, and what it does then."""

    layers: dict[str, int]
    parameters: int
    operations: float
    seconds: float
    gpu_hours: float
    memory: float
    memory_at: str


def estimate(spec: RunSpec) -> Estimate:
    """The cost of one run. Raises the packages' own errors for what cannot be attached, and for texts longer
    than the model allows."""
    task, training = make_task(spec), spec.training
    if task.head.kind != "own":
        task.check_model(shape(spec.model, task.head))
    adapter_of(spec)  # refuses what the run's own steps and learning rate do not allow
    length = _length(task)
    tokens = training.batch_size * length
    size = sizes(spec, task)
    whole = training.model_copy(update={"processes": 1, "shard": False})
    found = peak(spec)
    alone = spec.model_copy(update={"training": whole})
    tried = alone.model_copy(update={"adapter": TRIED})
    work = tokens * _per_token(sizes(tried, task), training)
    speed_here = speed(tried, max(1, round(length)), work, peak(alone, scores=False).bytes)
    needed = operations(spec)
    narrow = training.precision == "bf16" or spec.model.weights != "float32"
    return Estimate(
        layers=size.layers,
        parameters=size.adapter,
        operations=needed,
        seconds=needed / speed_here,
        gpu_hours=needed / (GPU_PEAK["bf16" if narrow else "no"] * UTILISATION) / 3600,
        memory=found.bytes / 1024**2,
        memory_at=found.phase,
    )


def operations(spec: RunSpec) -> float:
    """Floating-point operations of the whole training; tries no step. Raises as `estimate` does."""
    task, training = make_task(spec), spec.training
    tokens = training.batch_size * _length(task)
    return training.steps * training.accumulation * tokens * _per_token(sizes(spec, task), training)


def peak_bytes(spec: RunSpec) -> int:
    """What each process of a run holds at its peak, beside the process itself; tries no step. Raises as
    `estimate` does."""
    return peak(spec).bytes


def _length(task: tasks.Task) -> float:
    """Tokens of a mean example."""
    return FILL * float(task.max_length or 2)


def _per_token(size: Sizes, training: Training) -> int:
    """Floating-point operations of a training step per token."""
    passes = 3 if training.gradient_checkpointing else 2
    return 2 * passes * size.passed + 2 * size.passed_trained
