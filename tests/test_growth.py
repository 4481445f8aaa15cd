"""Three times the runs are three times the work, not nine: files opened, folders listed and functions called
are counted, not seconds. `tests.growth` measures those."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.backends.standing import look
from rankbench.bench.records import Folders
from rankbench.bench.records.merge import gather, write
from rankbench.bench.suite import load_suite, plan
from rankbench.reports.sections import all_sections
from rankbench.reports.stats.items import check_predictions
from rankbench.reports.study import Study
from tests.growth import SEEDS, at_once, made_suite, write_records

TOUCHED = ("open", "os.listdir", "os.scandir", "os.rename", "glob.glob")
"""Events of the interpreter: what is asked of a file system."""
LINEAR = 1.05

_listening: list[Counter[str]] = []


def _hear(event: str, _: Any) -> None:
    if _listening and event in TOUCHED:
        _listening[-1][event] += 1


sys.addaudithook(_hear)  # for good: it does nothing unless `counted` listens


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """What the block asks of the file system, and its function calls."""
    counts: Counter[str] = Counter()

    def hear_call(_frame: object, event: str, _argument: object) -> None:
        counts["calls"] += event == "call"

    _listening.append(counts)
    sys.setprofile(hear_call)
    try:
        yield counts
    finally:
        sys.setprofile(None)
        _listening.pop()


def grows(work: Callable[[int], None]) -> None:
    """Twice and six times the work, after caches are warm."""
    work(1)
    counts = []
    for size in (2, 6):
        with counted() as count:
            work(size)
        counts.append(count)
    few, many = counts
    assert few["calls"] > 0
    for what, count in many.items():
        assert count <= 3 * LINEAR * few[what], f"{what}: {few[what]}, then {count}"


@pytest.fixture
def made(tmp_path: Path) -> Callable[[int], tuple[Path, Path]]:
    """A suite of so many tasks, and the records of its runs."""
    known: dict[int, tuple[Path, Path]] = {}

    def make(tasks: int) -> tuple[Path, Path]:
        if tasks not in known:
            place = tmp_path / str(tasks)
            place.mkdir()
            suite = made_suite(place / "made.yaml", tasks, 5, ["linear-regression"])
            assert write_records(suite, place / "results/made") == tasks * 5 * SEEDS
            known[tasks] = suite, place / "results/made"
        return known[tasks]

    for size in (1, 2, 6):
        make(size)
    return make


def test_planning_and_looking_at_what_is_done(made):
    def work(size: int) -> None:
        suite, folder = made(size)
        specs = list(plan(load_suite(str(suite))))
        standing = look(specs, Folders(folder), retry_failed=False, keep_old_versions=False)
        assert len(standing.done) == len(specs) == size * 5 * SEEDS

    grows(work)


def test_claiming_and_writing(made):
    def work(size: int) -> None:
        suite, folder = made(size)
        loaded = load_suite(str(suite))
        specs, empty = list(plan(loaded)), Folders(folder.parents[1] / "elsewhere/made")
        outcome = execute(loaded, specs, empty, lambda: False, Options(), at_once)
        assert outcome == Outcome(finished=len(specs))

    grows(work)


def test_merging(made):
    def work(size: int) -> None:
        into = made(size)[1].parent / "into"
        assert write(gather([made(size)[1]], into, check_predictions), into) == size * 5 * SEEDS

    grows(work)


def test_reporting(made):
    def work(size: int) -> None:
        assert all_sections(Study.read(made(size)[1]))

    grows(work)
