"""Golden runs: 30 deterministic steps of every adapter on a toy and of every generated task on a
tiny model, and the data of the packaged tasks.

`python -m tests.golden NAME …` writes the numbers of these adapters and tasks to tests/golden.json;
without a name those of all (packaged data need the network). For what is there already, do so only together
with a raised version of what changed its numbers (adapter, task or loop): a record of the old version is
stale then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from rankbench import adapters, tasks
from rankbench.adapters.peft.bridge import PeftBridge
from rankbench.bench import models
from rankbench.bench.records import LOOP_VERSION
from rankbench.bench.run.start import read_data
from rankbench.bench.run.train import Work, train
from rankbench.bench.seeds import generator
from rankbench.bench.suite import Model, Training
from rankbench.tasks import Batch
from tests.examples import example

PATH = Path(__file__).with_name("golden.json")
STEPS = 30
GENERATED = {
    "tiny-classification": ("tiny-bert", ["query", "value"]),
    "tiny-causal": ("tiny-llama", ["q_proj", "v_proj"]),
    "linear-regression": ("none", ["linear"]),
}
TOLERANCE = 1e-12
"""Relative, of losses and penalties of our own adapters, in float64. Under three instruction sets (none,
AVX2, AVX-512), and from weights moved by four rounding errors, they differ by up to 2e-15."""
PEFT_TOLERANCE = 1e-6
"""PEFT draws its factors in float32, whose last bit depends on the instruction set: up to 2e-8."""
TASK_TOLERANCE = 1e-5
"""Of losses and scores of the tasks, in float32: up to 1e-7."""
PACKAGED = {"movie": "minilm-l6", "amazon": "minilm-l6", "tweets": "minilm-l6", "bbc": "smollm2-135m"}


def model() -> nn.Module:
    """A small network in float64, the same each time."""
    torch.manual_seed(0)
    # Drawn in float64: what is drawn in float32 differs by its last bit between instruction sets.
    first, second, head = (nn.Linear(*size, dtype=torch.float64) for size in ((8, 16), (16, 12), (12, 3)))
    return nn.Sequential(first, nn.Tanh(), nn.Dropout(0.1), second, nn.Tanh(), head)


def work() -> Work:
    """48 examples whose label is which of the first three inputs is largest."""
    x = torch.randn(48, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = [{"x": row, "y": row[:3].argmax()} for row in x]

    def collate(chosen) -> Batch:
        return Batch({key: torch.stack([row[key] for row in chosen]) for key in ("x", "y")}, len(chosen))

    def loss(net: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional.cross_entropy(net(inputs["x"]), inputs["y"], reduction="sum")

    return Work(rows, [1] * len(rows), collate, loss)


def run(name: str) -> dict:
    """The versions and every tenth loss of one adapter's run, and how exact they are."""
    net, adapter = model(), example(name, steps=STEPS, learning_rate=1e-3)
    adapter.attach(net, ["0", "3"], heads=["5"], generator=generator(0, "adapter"))
    settings = Training(steps=STEPS, batch_size=12, learning_rate=1e-2)
    read_data(adapter, work(), settings, 0)
    progress = train(net, adapter, work(), settings, 0)
    return {
        "version": adapters.version(name),
        "loop_version": LOOP_VERSION,
        "tolerance": PEFT_TOLERANCE if isinstance(adapter, PeftBridge) else TOLERANCE,
        "loss": [progress.curve.loss[i] for i in (0, 9, 19, 29)],
        "penalty": progress.curve.penalty[-1],
    }


def task(name: str) -> dict:
    """Version, data hash, losses of 30 steps of a tiny model, its test score, and how exact they are."""
    model_name, targets = GENERATED[name]
    made = tasks.create(name)
    data = made.prepare(None)
    net = models.load_model(Model(name=model_name), made, 0)
    adapter = adapters.create("lora", rank=4)
    adapter.attach(net, targets, generator=generator(0, "adapter"))
    settings = Training(steps=STEPS, batch_size=16, learning_rate=5e-3)
    progress = train(net, adapter, Work(data.train, data.lengths, made.collate, made.loss), settings, 0)
    score = made.score(adapter.merge(net).eval(), "test")
    return {
        "version": made.version,
        "data_sha256": data.sha256,
        "tolerance": TASK_TOLERANCE,
        "loss": [progress.curve.loss[i] for i in (0, 9, 19, 29)],
        "score": score.metrics[made.metric],
    }


def packaged(name: str) -> dict:
    """Version, data hash and sizes of a packaged task, and its first training example encoded."""
    made = tasks.create(name)
    data = made.prepare(models.load_tokenizer(Model(name=PACKAGED[name])))
    first = {key: list(value) if isinstance(value, list) else value for key, value in data.train[0].items()}
    return {"version": made.version, "data_sha256": data.sha256, "sizes": data.sizes, "first": first}


EVERYTHING: dict[str, dict[str, Callable[[], dict]]] = {
    "adapters": {name: partial(run, name) for name in adapters.BUILT_IN},
    "tasks": {name: partial(task, name) for name in GENERATED},
    "packaged": {name: partial(packaged, name) for name in PACKAGED},
}
"""What golden.json holds. Adapters of other packages are their authors' to watch."""


def renewed(old: dict[str, dict[str, dict]], asked: list[str]) -> dict[str, dict[str, dict]]:
    """The old numbers with those asked for in their place, or all."""
    return {
        kind: {
            name: old[kind][name] if asked and name not in asked else make()
            for name, make in entries.items()
            if not asked or name in asked or name in old[kind]
        }
        for kind, entries in EVERYTHING.items()
    }


if __name__ == "__main__":
    known = {name for entries in EVERYTHING.values() for name in entries}
    if unknown := set(sys.argv[1:]) - known:
        sys.exit(f"no golden run of {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    PATH.write_text(json.dumps(renewed(json.loads(PATH.read_text()), sys.argv[1:]), indent=1) + "\n")
