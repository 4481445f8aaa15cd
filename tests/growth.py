"""How planning, claiming and reporting grow with a suite's runs: `python -m tests.growth 100 1000 10000`.

The records are the committed ones of `settled`, copied and varied: valid, with their predictions, and of the
runs that the made suite plans. A size is tasks × methods × five seeds, where tasks and methods grow alike.
Each line is measured in a process of its own, on one core: processor seconds, and the peak of its memory.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from rankbench import reports
from rankbench.bench.backends.driver import execute
from rankbench.bench.backends.seam import Result
from rankbench.bench.backends.standing import Standing, look
from rankbench.bench.cli import main
from rankbench.bench.records import Folders, RunRecord, read_record
from rankbench.bench.run.job import Job, resolve
from rankbench.bench.run.runner import Done, Order
from rankbench.bench.suite import load_suite, plan

ROOT = Path(__file__).parents[1]
SEEDS = 5
TASKS = ("movie", "amazon", "bbc", "linear-regression")
"""Those of `settled` that the made suite's are copies of, in turn."""


def shape(runs: int) -> tuple[int, int]:
    """Tasks and methods of about so many runs: five times as many methods as tasks."""
    tasks = max(1, round((runs / SEEDS / 5) ** 0.5))
    return tasks, runs // SEEDS // tasks


def made_suite(path: Path, tasks: int, methods: int, kinds: Sequence[str] = TASKS) -> Path:
    """Writes it."""
    known = yaml.safe_load((ROOT / "bench/suite/settled.yaml").read_text(encoding="utf-8"))["experiments"]
    names = [kinds[i % len(kinds)] for i in range(tasks)]
    experiments = {f"{name}-{i}": _experiment(known[name], methods) for i, name in enumerate(names)}
    path.write_text(yaml.safe_dump({"seeds": [*range(SEEDS)], "experiments": experiments}), encoding="utf-8")
    return path


def _experiment(known: dict[str, Any], methods: int) -> dict[str, Any]:
    """With so many methods: those of the known one, and the same again at other rates, none of them tuned."""
    entries = [(name, entry) for name, entry in known["adapters"].items() if name == entry.get("name", name)]
    entries.sort(key=lambda entry: entry[0] != "lora")
    adapters = {}
    for i in range(methods):
        name, entry = entries[i % len(entries)]
        rate = known["training"]["learning_rate"] * (1 + i // len(entries) / 100)
        label = name if i < len(entries) else f"{name}-{i // len(entries)}"
        adapters[label] = entry | {"name": name, "learning_rate": rate}
    untuned = {key: value for key, value in known.items() if key not in ("tune", "seeds")}
    return untuned | {"adapters": adapters}


def made_record(job: Job) -> tuple[RunRecord, Path]:
    """A committed record as if it were the job's, with a curve of its own; and its predictions."""
    name = job.spec.adapter.name
    committed, predictions = _committed(job.spec.experiment.rpartition("-")[0], name, job.spec.seed % 3)
    noise = random.Random(job.cell)
    losses = [loss * (1 + 0.01 * noise.random()) for loss in committed.curve.loss]
    changes = {
        **job.place,
        **job.told,
        "fingerprint": job.fingerprint,
        "identity": job.identity,
        "config": job.config,
        "curve": committed.curve.model_copy(update={"loss": losses}),
        "predictions": f"{job.cell}.parquet",
    }
    return committed.model_copy(update=changes), predictions


@cache
def _committed(task: str, adapter: str, seed: int) -> tuple[RunRecord, Path]:
    path = ROOT / "results/settled/runs" / f"{task}--{adapter}--s{seed}.json"
    return read_record(path, RunRecord), path.with_suffix(".parquet")


def write_records(suite: Path, folder: Path) -> int:
    """Of all runs of the suite; returns how many."""
    folders, count = Folders(folder), 0
    folders.record("").parent.mkdir(parents=True)
    for spec in plan(load_suite(str(suite))):
        record, predictions = made_record(resolve(spec))
        folders.record(spec.cell).write_text(record.model_dump_json() + "\n", encoding="utf-8")
        shutil.copyfile(predictions, folders.predictions(spec.cell))
        count += 1
    return count


def _unrolled(suite: Path, _folder: Path) -> None:
    list(plan(load_suite(str(suite))))


def _planned(suite: Path, _folder: Path) -> None:
    with redirect_stdout(StringIO()):
        assert main(["plan", str(suite)]) == 0


def _looked(suite: Path, folder: Path) -> Standing:
    specs = plan(load_suite(str(suite)))
    return look(specs, Folders(folder), retry_failed=False, keep_old_versions=False)


def _looked_at_done(suite: Path, folder: Path) -> None:
    assert not _looked(suite, folder).missing


def _looked_at_none(suite: Path, folder: Path) -> None:
    assert not _looked(suite, folder / "none").done


def _executed(suite: Path, folder: Path) -> None:
    """All runs of an empty folder, by a backend that takes no time; the records are written."""
    _execute(suite, folder.parents[1] / "elsewhere" / "made")


def _executed_again(suite: Path, folder: Path) -> None:
    _execute(suite, folder)


def _execute(suite: Path, folder: Path) -> None:
    loaded = load_suite(str(suite))
    with redirect_stderr(StringIO()):
        outcome = execute(loaded, list(plan(loaded)), Folders(folder), lambda: False, backend=at_once)
    assert not outcome.failed


def at_once(orders: Iterator[Order], _listen: object) -> Iterator[tuple[Order, Result]]:
    """A backend whose runs were done before."""
    for order in orders:
        record, predictions = made_record(order.job)
        yield order, Done(record, predictions.read_bytes())


def _reported(_suite: Path, folder: Path) -> None:
    reports.write(folder)


MEASURED: dict[str, Callable[[Path, Path], None]] = {
    "unroll the suite": _unrolled,
    "`rankbench plan`": _planned,
    "look, none is done": _looked_at_none,
    "look, all are done": _looked_at_done,
    "do all (a run takes no time)": _executed,
    "run again, all are done": _executed_again,
    "report": _reported,
}


def _measured(name: str, suite: Path, folder: Path) -> tuple[float, float]:
    """Processor's seconds, without imports, and MiB at the peak."""
    started = time.process_time()
    MEASURED[name](suite, folder)
    return time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(runs: int, folder: Path) -> None:
    """Prints a line a measurement."""
    suite = made_suite(folder / "made.yaml", *shape(runs))
    results = folder / "results" / "made"
    count = write_records(suite, results)
    for name in MEASURED:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, peak = pool.apply(partial(_measured, name, suite, results))
        print(f"| {count:,} | {name} | {seconds:.1f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    for size in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as temporary:
            measure(size, Path(temporary))
