"""Work for a process that starts anew: what it imports is little, and so is its start."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

import torch

from rankbench.bench.cost.rounds import Ask, Measured


def who_am_i(settings: str, process: int, ask: Ask) -> Measured:
    ask(f"{settings} {process}")
    return Measured(parameters={"id": os.getpid(), "threads": torch.get_num_threads()})


def whose_child(channel: Connection, settings: str, label: str) -> None:
    channel.send(os.getppid())


def dies(settings: str, process: int, ask: Ask) -> Measured:
    os._exit(1)


def is_killed(settings: str, process: int, ask: Ask) -> Measured:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fails(settings: str, process: int, ask: Ask) -> Measured:
    raise MemoryError("too\nlarge")
