"""Whether the device computes what the processor does, adapter by adapter.

A process that sees no GPU does the same tiny runs meanwhile. Where the device is the processor itself, as in
a rehearsal, the two have nothing to differ by.

`python -m rankbench.bench.gpu.right CHECK …` prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from functools import partial

import torch

from rankbench.bench.gpu import tiny, weights
from rankbench.bench.gpu.tiny import Run
from rankbench.bench.gpu.verdict import Verdict
from rankbench.bench.processes import deaf
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.step import make_accelerator

BOUNDS = {"float32": 1e-4, "autocast": 2e-2, "bfloat16": 2e-2}
"""Setting -> the most by which losses may differ, of the first one. In float32 three parts in a million were
seen after 60 steps on an H100. What is rounded to bfloat16 are not the same products on both: of two settings
on one processor the losses are up to 8e-3 apart (LoRA+), mostly 1e-4."""
SIGNS = {"lora-ga": 5e-4}
"""Adapter -> its bound in float32. LoRA-GA multiplies singular vectors of different pairs, whose signs are
arbitrary: noise of 2e-7 in the gradients turns some, and on one processor four such runs of eight had losses
1.2e-4 from the others'."""
MERGED = 1e-4
"""The most that merging in float32 may change an output."""
TOLD = (
    "differences: of losses from the processor's, by how products are computed; of those over bfloat16 "
    "weights from autocast's; of outputs when merged; of losses when stopped and resumed (only none is right)"
)
"""What the numbers of a verdict are."""


TRIALS = {"folds into pairs": weights.folds, "a load that is lent": weights.lent}
"""What is tried of frozen weights."""


def verdicts(checks: Sequence[str], stopped: Callable[[], bool]) -> Iterator[Verdict]:
    """Of some of TRIALS and registered adapters, one after the other, until time is up."""
    with _on_the_processor([name for name in checks if name not in TRIALS]) as reference:
        for name in checks:
            if stopped():
                return
            yield _tried(name) if name in TRIALS else _verdict(name, tiny.runs(name), next(reference))


def _tried(name: str) -> Verdict:
    found = attempt(partial(TRIALS[name], make_accelerator().device))
    if isinstance(found, Verdict):
        return found
    verdict = Verdict(name)
    verdict.failed("not tried", found)
    return verdict


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
    bounds = BOUNDS | ({"float32": SIGNS[name]} if name in SIGNS else {})
    for setting, bound in bounds.items():
        one, other = here[setting], there[setting]
        if isinstance(one, Failure):
            verdict.failed(setting, one, expected=one.kind == "refused" and one.reason == other)
        elif isinstance(other, str):
            verdict.faults.append(f"{setting}, on the processor: {other}")
        else:
            apart = distance(one, other)
            verdict.judge(apart <= bound, f"{setting} {apart:.1e}")
    cast, narrow = here["autocast"], here["bfloat16"]
    if isinstance(cast, Run) and isinstance(narrow, Run):
        apart = distance(narrow, cast)
        verdict.judge(apart <= BOUNDS["bfloat16"], f"from autocast {apart:.1e}")
    plain = here["float32"]
    if isinstance(plain, Run):
        verdict.judge(plain.merging <= MERGED, f"merged {plain.merging:.1e}")
    for setting in ("float32", "bfloat16"):
        if isinstance(whole := here[setting], Run):
            again = attempt(partial(tiny.run_in_two, tiny.spec_of(name, setting)))
            if isinstance(again, Failure):
                verdict.failed(f"{setting} resumed", again)
            else:
                verdict.judge(again == whole, f"{setting} resumed {distance(again, whole):.1e}")
    return verdict


def distance(one: Run, other: Run) -> float:
    """The largest difference of two runs' losses, of the first loss; no number where one of them is none."""
    mine, theirs = torch.tensor(one.losses), torch.tensor(other.losses)
    return float((mine - theirs).abs().max() / theirs[0])


def _main(checks: Sequence[str]) -> None:
    told = sys.stdout
    with redirect_stdout(sys.stderr):  # what libraries say is none of it
        for verdict in verdicts(checks, lambda: False):
            print(json.dumps(asdict(verdict)), file=told, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
