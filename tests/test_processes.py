"""Two processes on the CPU train what one process trains: same batches, same losses, same weights."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config import AdapterSpec, Training, make_adapter
from bench.seeds import generator
from bench.train import train
from tests import golden

NAMES = ("lora", "scalora", "lora2")
SETTINGS = Training(steps=6, batch_size=6, accumulation=2, learning_rate=1e-2, precision="no")


def losses(name: str) -> list[float]:
    net = golden.model().eval()
    net[2].p = 0.0  # each process would draw its own dropout
    values = golden.HYPERPARAMETERS.get(name, {"rank": 2})
    adapter = make_adapter(AdapterSpec(name=name, **values), learning_rate=1e-2, steps=6)
    adapter.attach(net, ["0", "3"], heads=["5"], generator=generator(0, "adapter"))
    return train(net, adapter, golden.work(), SETTINGS, 0).curve.loss


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_two_processes_equal_one():
    alone = {name: losses(name) for name in NAMES}
    shared = {
        **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.test_processes"],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    for output in outputs:
        together = json.loads(output.splitlines()[-1])
        for name in NAMES:
            assert together[name] == pytest.approx(alone[name], rel=1e-9)


if __name__ == "__main__":
    print(json.dumps({name: losses(name) for name in NAMES}))
