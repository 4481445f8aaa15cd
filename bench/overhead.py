"""What a step costs: every contender in one process, interleaved round by round, nothing beside it.

The floor is the same model frozen: forward and backward to the embedding output, no parameter
gradient, no optimizer. Peak memory is measured apart, one fresh process per contender.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

import adapters
from bench import measure, models
from bench.config import Overhead, Suite, Training, make_adapter
from bench.record import OverheadRecord, RecordError, fingerprint
from bench.seeds import generator
from bench.train import LOOP_VERSION, Interrupted, make_accelerator, make_optimizer, optimizer_step
from tasks import Batch, Head

WARM_UP = 2
"""Untimed rounds first. The second leaves every adapter past its zero start."""

FLOOR = "floor"
RATE = 1e-4


@dataclass(frozen=True)
class _Shape:
    """The task of the measurement: random tokens, and the loss over all outputs."""

    head: Head

    def build(self, settings: Overhead) -> PreTrainedModel:
        """A model with its pretrained weights and this head."""
        return models.load_headed(settings.model, self.head, seed=0)

    def batch(self, settings: Overhead) -> Batch:
        """Random ids, no padding: each contender sees the same."""
        draw = generator(0, "overhead")
        ids = torch.randint(5, 100, (settings.batch, settings.length), generator=draw)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return Batch(inputs, settings.batch)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Summed cross-entropy against class 0, or the tokens themselves for a causal model."""
        logits = model(**inputs).logits
        if self.head.kind == "causal":
            return functional.cross_entropy(
                logits.flatten(0, 1), inputs["input_ids"].flatten(), reduction="sum"
            )
        return functional.cross_entropy(
            logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device), reduction="sum"
        )


def identity(settings: Overhead) -> dict[str, Any]:
    """Everything that a measurement depends on but the machine."""
    return {
        "loop": LOOP_VERSION,
        "versions": {s.name: adapters.version(s.name) for s in settings.adapters.values()},
        "weights": models.identity(settings.model),
        **settings.model_dump(),
    }


def check(settings: Overhead) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    models.fetch(settings.model)
    for label in settings.adapters:
        model = models.empty_model(settings.model, Head(settings.head, 2))
        _adapter(settings, label).attach(model, settings.targets)


def measure_overhead(
    suite: Suite, name: str, tick: Callable[[str], None], stopped: Callable[[], bool] = lambda: False
) -> OverheadRecord:
    """Measure one entry of a suite's `overhead` block. `tick` is told what is being done.

    Raises Interrupted when the user asked to stop: half a measurement is none.
    """
    settings = suite.overhead[name]

    def ask(doing: str) -> None:
        if stopped():
            raise Interrupted
        tick(doing)

    peaks = _peaks(settings, ask)
    accelerator = make_accelerator()
    steps = {label: _contender(settings, label, accelerator) for label in [FLOOR, *settings.adapters]}
    seconds: dict[str, list[float]] = {label: [] for label in steps}
    counts = {label: count for label, (_, count) in steps.items()}
    for turn in range(WARM_UP + settings.rounds):
        ask(f"{name}: round {turn + 1} of {WARM_UP + settings.rounds}")
        for label, (step, _) in steps.items():
            elapsed = step(turn)
            if turn >= WARM_UP:
                seconds[label].append(elapsed)
    return OverheadRecord(
        suite=suite.name,
        name=name,
        model=settings.model.name,
        fingerprint=fingerprint(identity(settings)),
        config=settings.model_dump(mode="json"),
        seconds=seconds,
        peak_resident=peaks,
        parameters=counts,
        provenance=measure.provenance(weights=models.identity(settings.model)),
    )


def _contender(
    settings: Overhead, label: str, accelerator: Accelerator
) -> tuple[Callable[[int], float], int]:
    """A function that does one synchronised step and returns its seconds, and the adapter's size."""
    shape = _Shape(Head(settings.head, 2))
    model = shape.build(settings)
    batch = shape.batch(settings)
    if label == FLOOR:
        model.requires_grad_(False).to(accelerator.device).train()
        inputs = {key: value.to(accelerator.device) for key, value in batch.inputs.items()}
        return lambda _: _timed(accelerator, lambda: _floor_step(model, inputs)), 0
    adapter = _adapter(settings, label)
    adapter.attach(model, settings.targets, generator=generator(0, "adapter"))
    training = Training(steps=1, batch_size=settings.batch, learning_rate=RATE)
    wrapped, optimizer = accelerator.prepare(model.train(), make_optimizer(model, training))
    moved = [batch._replace(inputs={k: v.to(accelerator.device) for k, v in batch.inputs.items()})]

    def step(turn: int) -> float:
        return _timed(
            accelerator,
            lambda: optimizer_step(
                accelerator, wrapped, adapter, optimizer, shape.loss, moved,
                step=turn, weight=batch.weight, clip=1.0,
            ),
        )  # fmt: skip

    return step, adapter.parameter_counts()["adapter"]


def _adapter(settings: Overhead, label: str) -> adapters.Adapter:
    return make_adapter(settings.adapters[label], learning_rate=RATE, steps=WARM_UP + settings.rounds)


def _floor_step(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_(True)
    logits = model(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"]).logits
    functional.cross_entropy(
        logits.flatten(0, -2), torch.zeros(logits[..., 0].numel(), dtype=torch.long, device=logits.device)
    ).backward()


def _timed(accelerator: Accelerator, work: Callable[[], Any]) -> float:
    on_device = accelerator.device.type != "cpu"
    if on_device:
        torch.accelerator.synchronize()
    started = time.perf_counter()
    work()
    if on_device:
        torch.accelerator.synchronize()
    return time.perf_counter() - started


def _peaks(settings: Overhead, tick: Callable[[str], None]) -> dict[str, float]:
    """MiB at the peak of a process that builds one contender and takes a few steps."""
    peaks = {}
    # A server that has imported everything but started no thread: its children start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.overhead"])
    for label in [FLOOR, *settings.adapters]:
        tick(f"peak memory of {label}")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_peak, args=(settings, label, torch.get_num_threads(), sender))
        child.start()
        sender.close()
        try:
            peaks[label] = receiver.recv()
        except EOFError:
            raise RecordError(f"the memory of {label} could not be measured: its process died") from None
        finally:
            child.join()
    return peaks


def _peak(settings: Overhead, label: str, threads: int, sender: Any) -> None:
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    step, _ = _contender(settings, label, make_accelerator())
    gc.collect()
    measure.reset_peak_memory()
    for turn in range(WARM_UP + 1):
        step(turn)
    memory = measure.peak_memory()
    sender.send(memory.peak_allocated if memory.peak_allocated is not None else memory.peak_resident)
