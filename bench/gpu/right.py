"""Whether the device computes what the processor does, adapter by adapter.

A process that sees no GPU does the same tiny runs meanwhile. Where the device is the processor itself, as in
a rehearsal, the two have nothing to differ by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from rankbench.bench.gpu import tiny
from rankbench.bench.gpu.tiny import Run
from rankbench.bench.processes import deaf
from rankbench.bench.run.failures import Failure, attempt

BOUNDS = {"float32": 1e-4, "autocast": 2e-2}
"""Setting -> the most by which losses may differ, of the first one. In float32 three parts in a million were
seen after 60 steps on an H100; autocast rounds to bfloat16, and does not round the same products on both."""
MERGED = 1e-3
"""The most that merging may change an output."""


TOLD = (
    "differences: of losses from the processor's, by how products are computed; of outputs when merged; of "
    "losses when stopped and resumed (only none is right)"
)
"""What the numbers of a verdict are."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one adapter, in a few words each."""

    adapter: str
    kept: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    def judge(self, holds: bool, told: str) -> None:
        """Note what was found."""
        (self.kept if holds else self.faults).append(told)

    def failed(self, what: str, why: Failure, *, expected: bool = False) -> None:
        """Note what could not be tried; `expected` where that is as it should be."""
        self.judge(expected, f"{what}: {why.reason}")
        if not expected:
            self.tracebacks.append(why.traceback)


def verdicts(names: Sequence[str], stopped: Callable[[], bool]) -> Iterator[Verdict]:
    """Of these registered adapters, one after the other, until time is up."""
    with _on_the_processor(names) as reference:
        for name in names:
            if stopped():
                return
            yield _verdict(name, tiny.runs(name), next(reference))


@contextmanager
def _on_the_processor(names: Sequence[str]) -> Iterator[Iterator[dict[str, Run | str]]]:
    """What the tiny runs of each adapter give there, as they are done."""
    command = [sys.executable, "-m", "rankbench.bench.gpu.tiny", *names]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with deaf():
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield map(_read, iter(process.stdout.readline, None))
        finally:
            process.kill()


def _read(line: str) -> dict[str, Run | str]:
    """What a line of `tiny` says."""
    told = json.loads(line) if line else dict.fromkeys(tiny.SETTINGS, "its process has ended")
    return {setting: Run(*found) if isinstance(found, list) else found for setting, found in told.items()}


def _verdict(name: str, here: dict[str, Run | Failure], there: dict[str, Run | str]) -> Verdict:
    verdict = Verdict(name)
    for setting, bound in BOUNDS.items():
        one, other = here[setting], there[setting]
        if isinstance(one, Failure):
            verdict.failed(setting, one, expected=one.kind == "refused" and one.reason == other)
        elif isinstance(other, str):
            verdict.faults.append(f"{setting}, on the processor: {other}")
        else:
            apart = distance(one, other)
            verdict.judge(apart <= bound, f"{setting} {apart:.1e}")
    plain = here["float32"]
    if isinstance(plain, Run):
        verdict.judge(plain.merging <= MERGED, f"merged {plain.merging:.1e}")
        again = attempt(partial(tiny.run_in_two, tiny.spec_of(name, "float32")))
        if isinstance(again, Failure):
            verdict.failed("resumed", again)
        else:
            verdict.judge(again == plain, f"resumed {distance(again, plain):.1e}")
    return verdict


def distance(one: Run, other: Run) -> float:
    """The largest difference of two runs' losses, of the first loss; no number where one of them is none."""
    mine, theirs = torch.tensor(one.losses), torch.tensor(other.losses)
    return float((mine - theirs).abs().max() / theirs[0])
