"""Short runs of a tiny decoder, by the shared loop and all that a run does before and after it, but for
scores: those need packages that a machine for training may lack.

`python -m rankbench.bench.gpu.tiny NAME …` does them for these adapters and prints a line of JSON for each:
how a processor does them, while another process does the same on a GPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch

from rankbench import adapters
from rankbench.adapters import AdapterError
from rankbench.bench.run import scores
from rankbench.bench.run.checkpoint import Checkpoint
from rankbench.bench.run.failures import Failure, Interrupted, attempt
from rankbench.bench.run.job import make_task
from rankbench.bench.run.start import begin
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.run.train import Watch, Work, train
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training
from rankbench.bench.suite.blocks import Precision, Weights
from rankbench.bench.suite.described import adapter_of

STEPS = 20
TINY = "tiny-llama"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SETTINGS: dict[str, tuple[Precision, Weights]] = {
    "float32": ("no", "float32"),
    "autocast": ("bf16", "float32"),
    "bfloat16": ("no", "bfloat16"),
}
"""Precision of the training, and what the frozen weights are held in."""


class Run(NamedTuple):
    """What is compared."""

    losses: list[float]
    """Of each step."""
    merging: float
    """The largest difference that merging makes to an output."""


def spec_of(name: str, setting: str) -> RunSpec:
    """A registered adapter at its own example."""
    precision, weights = SETTINGS[setting]
    return RunSpec(
        suite="gpu-check",
        experiment=setting,
        label=name,
        seed=0,
        task={"name": "tiny-causal"},
        model=Model(name=TINY, weights=weights),
        targets=TARGETS,
        training=Training(steps=STEPS, batch_size=16, learning_rate=5e-3, precision=precision),
        adapter=AdapterSpec(name=name, **adapters.kind(name).example),
    )


def run(spec: RunSpec, checkpoint: Checkpoint | None = None, watch: Watch | None = None) -> Run:
    """From the pretrained model to the merged one. Raises Interrupted where the watch says so."""
    if why := adapter_of(spec).why_not_over(spec.model.weights):
        raise AdapterError(why)
    task = make_task(spec)
    data = task.prepare(None)
    work = Work(data.train, data.lengths, task.collate, task.loss)
    accelerator = make_accelerator(spec.training.precision)
    model, adapter, *_ = begin(spec, task, work, accelerator.device)
    progress = train(
        model, adapter, work, spec.training, spec.seed,
        accelerator=accelerator, watch=watch, checkpoint=checkpoint,
    )  # fmt: skip
    before = scores.logits(task, model)
    merged = adapter.merge(model, dtype=torch.float32)
    parity = scores.merge_parity(before, scores.logits(task, merged))
    return Run(progress.curve.loss, parity.largest_logit_difference)


def run_in_two(spec: RunSpec) -> Run:
    """The same, stopped after half of the steps and gone on with from its checkpoint."""
    asked = count(1)
    watch = Watch(stopped=lambda: next(asked) == STEPS // 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        with suppress(Interrupted):
            run(spec, Checkpoint(path, "half"), watch)
        return run(spec, Checkpoint(path, "half"))


def runs(name: str) -> dict[str, Run | Failure]:
    """Setting -> the adapter's run, or why there is none."""
    return {setting: attempt(partial(run, spec_of(name, setting))) for setting in SETTINGS}


def _main(names: Sequence[str]) -> None:
    for name in names:
        found = {key: one.reason if isinstance(one, Failure) else one for key, one in runs(name).items()}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
