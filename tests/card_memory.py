"""What each contender of a suite's costs holds at its peak, before there is a card: its own steps on shapes,
counted. `python -m tests.card_memory SUITE [MEASUREMENT …]` prints MiB."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from torch import nn
from transformers.initialization import no_init_weights

from rankbench.bench import models
from rankbench.bench.cost.counting import counting
from rankbench.bench.cost.depth import with_layers
from rankbench.bench.cost.step import attached, contenders
from rankbench.bench.models.precision import dtype_of, narrow
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.suite import load_suite
from rankbench.bench.suite.costs import WARM_UP, Overhead
from rankbench.tasks import Head

MIB = 1024**2
FEW, MORE = 3, 4
"""Layers that are counted: with each, memory grows by as much."""


def peaks(settings: Overhead) -> Iterator[tuple[str, float]]:
    """Each contender, and MiB at the peak of its steps, the model's included."""
    for label in contenders(settings):
        yield label, peak(settings, label)


def peak(settings: Overhead, label: str) -> float:
    """Of one contender."""
    shape = models.empty_model(settings.model, Head(settings.head, 2))
    layers = shape.config.get_text_config().num_hidden_layers
    few, more = (_counted(settings, label, shape, count) for count in (FEW, MORE))
    return (few + (more - few) * (layers - FEW)) / MIB


def _counted(settings: Overhead, label: str, shape: nn.Module, layers: int) -> int:
    """Bytes, with so many layers."""
    with counting("cpu") as counter:
        with no_init_weights():
            model = type(shape)(with_layers(shape.config, layers))
        narrow(model, dtype_of(settings.model), models.heads(shape, settings.model))
        accelerator = make_accelerator(settings.precision)
        accelerator.device_placement = False  # the model lies where it belongs
        one = attached(settings, label, accelerator, model)
        counter.begin("steps")
        for turn in range(WARM_UP + 1):
            one.step(turn)
    return max(held for place, held in counter.peaks.items() if place.phase == "steps")


if __name__ == "__main__":
    suite, *wanted = sys.argv[1:]
    for name, settings in load_suite(suite).overhead.items():
        if isinstance(settings, Overhead) and (not wanted or name in wanted):
            for label, mib in peaks(settings):
                print(f"{name}  {label:26} {mib:8,.0f}", flush=True)
