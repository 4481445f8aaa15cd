"""What runs hold at their peak, beside what `rankbench plan` says: `python -m tests.memory [WORDS]`.

Each run is done in processes of its own on the processor, scored to the end. Measured is the peak of its
resident memory over what the idle process held: all libraries imported, a tiny run done, the data encoded.
Once as runs are, which keep the memory that a step frees (`bench.cpu.allocator`), in pieces that what comes
next may not fit into; and once with every large block handed back as it is freed: what is resident was
asked for then.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from rankbench.bench.backends import nursery
from rankbench.bench.cost.inputs import given
from rankbench.bench.cost.memory import peak
from rankbench.bench.cpu.allocator import give_back_freed_memory, keep_freed_memory
from rankbench.bench.run.failures import Failure
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Order, run
from rankbench.bench.run.start import ready
from rankbench.bench.suite import Model, RunSpec, load_suite, plan

MIB = 1024**2
PAGE = 4096
FEW = {"steps": 8, "observe": 2}
MANY = FEW | {"batch_size": 64}
CASES: Sequence[tuple[str, str, dict[str, Any], str]] = [
    ("settled", "movie--full--s0", FEW, "float32"),
    ("settled", "movie--lora--s0", FEW, "float32"),
    ("settled", "movie--lora2--s0", {"steps": 100}, "float32"),
    ("settled", "movie--scalora--s0", FEW, "float32"),
    ("settled", "movie--scalora--s0", FEW | {"select": "best"}, "float32"),
    ("settled", "movie--lora--s0", MANY, "float32"),
    ("settled", "movie--lora--s0", MANY | {"gradient_checkpointing": True}, "float32"),
    ("settled", "movie--lora--s0", MANY | {"precision": "bf16"}, "float32"),
    ("settled", "movie--lora--s0", MANY, "bfloat16"),
    ("settled", "movie--lora--s0", MANY, "nf4"),
    ("settled", "bbc--lora--s0", FEW, "float32"),
]


def spec_of(suite: str, cell: str, training: dict[str, Any], weights: str) -> RunSpec:
    """A run of a suite with other training, over other weights."""
    spec = next(plan(load_suite(suite), only=cell))
    model = Model.model_validate(spec.model.model_dump() | {"weights": weights})
    return spec.model_copy(update={"training": spec.training.model_copy(update=training), "model": model})


def measured(spec: RunSpec, hand_back: bool) -> float:
    """Bytes over the idle process."""
    tiny = "tiny-causal--lora--s0" if spec.experiment == "bbc" else "tiny-classification--lora--s0"
    keep = _hand_back_freed_memory if hand_back else keep_freed_memory
    with (
        tempfile.TemporaryDirectory() as folder,
        redirect_stderr(StringIO()),
        patch("rankbench.bench.run.step.keep_freed_memory", keep),
    ):
        import_module(nursery.PRELOADED)
        _run(spec_of("smoke", tiny, {"steps": 2, "observe": 0, "select": "last"}, "float32"), Path(folder))
        ready(resolve(spec))
        gc.collect()
        give_back_freed_memory()
        idle = psutil.Process().memory_info().rss
        return _run(spec, Path(folder)) - idle


def _hand_back_freed_memory() -> None:
    """Have glibc map each block of a page and more by itself (mallopt(3), M_MMAP_THRESHOLD)."""
    ctypes.CDLL(None).mallopt(-3, PAGE)


def _run(spec: RunSpec, folder: Path) -> float:
    done = run(Order(resolve(spec), folder / spec.cell, checkpoint_seconds=1.0))
    if isinstance(done, Failure):
        raise RuntimeError(done.traceback)
    return done.record.memory.peak_resident * MIB


def said(spec: RunSpec) -> tuple[float, float, str]:
    """By `plan`, and by the data; bytes, and what the run does then."""
    planned = peak(spec)
    return planned.bytes, peak(spec, given(spec, ready(resolve(spec))[1])).bytes, planned.phase


def main(only: str) -> None:
    """Prints a line a run."""
    print("| run | planned, MiB | at | with its data | asked for | ratio | resident |")
    print("|:--|--:|:--|--:|--:|--:|--:|")
    for case in CASES:
        spec = spec_of(*case)
        name = " ".join([spec.cell, *(f"{k}={v}" for k, v in case[2].items()), case[3]])
        if only not in name:
            continue
        alone = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
        with alone as pool:
            asked, resident = (pool.apply(measured, [spec, hand_back]) for hand_back in (True, False))
            planned, exact, phase = pool.apply(said, [spec])
        told = f"{planned / MIB:,.0f} | {phase} | {exact / MIB:,.0f}"
        print(
            f"| {name} | {told} | {asked / MIB:,.0f} | {exact / asked:.2f} | {resident / MIB:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
