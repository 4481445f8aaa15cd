"""Two processes on the CPU train what one process trains: same batches, same losses, same weights."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from rankbench.bench.run.start import attached
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.run.train import Work, train
from rankbench.bench.seeds import generator
from rankbench.bench.suite import AdapterSpec, Training, make_adapter
from rankbench.tasks import Batch, create
from tests import golden
from tests.examples import example
from tests.tiny_architectures import DEBERTA, ENCODERS, LLAMA_2, cut, save, spec_of

TOYS = ("lora", "scalora", "scalora-nnls", "lora2")
SETTINGS = Training(steps=6, batch_size=6, accumulation=2, learning_rate=1e-2, precision="no")
PAPERS = {  # run of a suite -> by how much, of a loss, the arithmetic of other batches may move it
    ("paper-glue-scalora", "mnli--lora--s0"): 1e-5,
    ("paper-glue-scalora", "mnli--scalora-nnls--s0"): 1e-5,
    ("paper-rslora", "gsm8k--rslora-r2048--s0"): 5e-3,  # bf16, gradient checkpointing
    ("paper-commonsense", "boolq-llama2--scalora-nnls--s0"): 5e-3,
}

Result = dict[str, Any]
"""The losses, and a hash of the weights."""


def result(model: nn.Module, losses: list[float]) -> Result:
    digest = sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return {"losses": losses, "weights": digest.hexdigest()}


def toy(name: str) -> Result:
    net = golden.model().eval()
    net[2].p = 0.0  # each process would draw its own dropout
    adapter = example(name, steps=6)
    adapter.attach(net, ["0", "3"], heads=["5"], generator=generator(0, "adapter"))
    return result(net, train(net, adapter, golden.work(), SETTINGS, 0).curve.loss)


def dropped() -> Result:
    """Which of 64 ones dropout leaves in a process's first two batches; both processes have the same."""
    net, masks = nn.Sequential(nn.Linear(64, 64)), []

    def loss(net: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        masks.append(functional.dropout(torch.ones(64)).ne(0).int().tolist())
        return net(inputs["x"]).sum()

    adapter = make_adapter(AdapterSpec(name="full"), learning_rate=1e-3, steps=2)
    adapter.attach(net, ["0"])
    ones = Work(
        [{"x": torch.ones(64)}] * 8, [1] * 8,
        lambda chosen: Batch({"x": torch.stack([row["x"] for row in chosen])}, len(chosen)), loss,
    )  # fmt: skip
    train(net, adapter, ones, Training(steps=2, batch_size=2, accumulation=2, learning_rate=1e-3), 0)
    return {"masks": masks}


def paper(run: tuple[str, str], folder: Path, examples: int, batch_size: int, accumulation: int) -> Result:
    """Five steps of a suite's run on a tiny model, all examples in each."""
    spec = spec_of(*run)
    task = create("tiny-classification" if spec.model.name in ENCODERS else "tiny-causal", train=examples)
    spec = cut(
        spec, folder / Path(spec.model.name).name,
        steps=5, batch_size=batch_size, accumulation=accumulation, warmup=0.0, observe=0, select="last",
    )  # fmt: skip
    prepared = task.prepare(None)
    accelerator = make_accelerator(spec.training.precision)
    model, adapter = attached(spec, task, accelerator.device)
    work = Work(prepared.train, prepared.lengths, task.collate, task.loss)
    progress = train(model, adapter, work, spec.training, 0, accelerator=accelerator)
    return result(model, progress.curve.loss)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    for name in (DEBERTA, LLAMA_2):
        save(name, folder / Path(name).name)
    return folder


@pytest.fixture(scope="module")
def together(folder) -> list[dict[str, Result]]:
    """What each of two processes found, by run."""
    shared = {
        **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.test_processes", str(folder)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [worker.communicate(timeout=600)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def both(folder: Path) -> dict[str, Result]:
    """What one of the two processes does: of each step's micro-batches it takes every other."""
    found = {name: toy(name) for name in TOYS} | {"dropped": dropped()}
    return found | {cell: paper((suite, cell), folder, 8, 2, 4) for suite, cell in PAPERS}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_two_processes_equal_one(name, together):
    alone = toy(name)["losses"]
    first, second = (found[name] for found in together)
    assert first == second
    assert first["losses"] == pytest.approx(alone, rel=1e-9)


@pytest.mark.slow
def test_each_process_draws_a_dropout_of_its_own(together):
    """The first one's is that of a process alone."""
    first, second = (found["dropped"]["masks"] for found in together)
    assert first[0] == dropped()["masks"][0]
    drawn = [tuple(mask) for mask in (*first, *second)]
    assert len(drawn) == len(set(drawn)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("run", PAPERS, ids=lambda run: run[1])
def test_two_processes_on_a_papers_architecture_equal_one_with_the_whole_batch(run, folder, together):
    whole, half = paper(run, folder, 8, 8, 1)["losses"], paper(run, folder, 4, 4, 1)["losses"]
    first, second = (found[run[1]] for found in together)
    assert first == second
    assert first["losses"] == pytest.approx(whole, rel=PAPERS[run])
    assert first["losses"] != pytest.approx(half, rel=10 * PAPERS[run])
    assert whole[-1] < (1 - 10 * PAPERS[run]) * whole[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(both(Path(sys.argv[1]))))
