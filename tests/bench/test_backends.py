"""Whatever does the runs, the driver keeps its word: here and in workers, which are given pickles."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from operator import length_hint
from pathlib import Path
from typing import Any

import pytest
import yaml

from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.backends.seam import Backend, here
from rankbench.bench.backends.workers import workers
from rankbench.bench.records import FailureRecord, Folders, read_record, read_runs
from rankbench.bench.records.files import claim
from rankbench.bench.run.failures import Failure
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Done, Order, run
from rankbench.bench.suite import load_suite, plan
from tests.bench.tiny_suite import numbers, with_changes

BACKENDS = [here, pytest.param(workers(2, threads=1), marks=pytest.mark.slow, id="workers")]


@pytest.fixture
def executed(suite: Path) -> Callable[..., Outcome]:
    """Executes the suite with other settings of its experiment."""

    def execute_it(folder: Path, backend: Backend, *, seeds: int = 1, **changes: Any) -> Outcome:
        stopped, options = changes.pop("stopped", lambda: False), Options(checkpoint_seconds=0.0)
        suite.write_text(yaml.safe_dump(with_changes(**changes)))
        loaded = load_suite(str(suite))
        return execute(loaded, list(plan(loaded, seeds=seeds)), Folders(folder), stopped, options, backend)

    return execute_it


@pytest.mark.parametrize(("rate", "kind"), [(1e-3, Done), (1e38, Failure)])
def test_what_goes_in_and_what_comes_out_can_be_pickled(rate, kind, suite, tmp_path):
    spec = next(plan(load_suite(str(suite))))
    training = spec.training.model_copy(update={"learning_rate": rate, "warmup": 0.0})
    order = Order(resolve(spec.model_copy(update={"training": training})), tmp_path / "run.pt")
    result = run(order)
    assert isinstance(result, kind)
    assert pickle.loads(pickle.dumps(order)) == order
    assert pickle.loads(pickle.dumps(result)) == result


def test_an_order_says_where_its_state_lies_to_whoever_is_elsewhere(executed, tmp_path, monkeypatch):
    """Ray's workers are where their node was started; `--results` is by default a name in the driver's."""
    found = []

    def elsewhere(orders, listen):
        for order in orders:
            monkeypatch.chdir("/")
            found.append(order.checkpoint.with_suffix(".lock").exists())
            monkeypatch.chdir(tmp_path)
            yield order, Failure("refused", "no run is wanted", "")

    monkeypatch.chdir(tmp_path)
    assert executed(Path("results/mine"), elsewhere).failed == len(found)
    assert found
    assert all(found)


def test_a_pickled_order_keeps_what_the_suite_says(suite, tmp_path):
    grid = {"lora": {"tuned": True, "grid": {"rank": [2]}}}
    seeds = {"from": 3, "to": 5, "until": "decided"}
    suite.write_text(yaml.safe_dump(with_changes(adapters=grid) | {"baseline": "lora", "seeds": seeds}))
    job = pickle.loads(pickle.dumps(resolve(next(plan(load_suite(str(suite)))))))
    said = {"method": "lora", "rank": 2, "point": {"rank": 2}, "tuned": True, "baseline": "lora"}
    assert job.told == said | {"chosen_by": [], "widened": 0, "stages": [3, 5]}


def test_a_backend_may_know_how_many_runs_are_missing(executed, tmp_path):
    heard = []

    def backend(orders, listen):
        heard.append(length_hint(orders))
        yield from here(orders, listen)

    executed(tmp_path / "mine", backend)
    executed(tmp_path / "mine", backend, seeds=3)
    assert heard == [2, 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_is_kept_apart_and_stops_no_other(backend, executed, tmp_path):
    adapters = {"full": {"learning_rate": 1e30}, "lora": {"rank": 2}, "scalora": {"rank": 2}}
    folder, held = tmp_path / "results/mine", []

    def stopped() -> bool:
        held.append(len(list(folder.glob("checkpoints/*.lock"))))
        return False

    outcome = executed(folder, backend, adapters=adapters, stopped=stopped)
    assert outcome == Outcome(finished=2, failed=1)
    assert max(held) == (1 if backend is here else 2), "what waits for its turn is held by nobody"
    failed = read_record(folder / "failed/tiny--full--s0.json", FailureRecord)
    assert (failed.kind, failed.adapter) == ("diverged", "full")
    assert {record.adapter for record in read_runs(folder)} == {"lora", "scalora"}
    assert not (folder / "checkpoints").exists(), "no lock, no state"
    assert executed(folder, backend, adapters=adapters) == Outcome(skipped=2, failed=1)


def test_a_failure_tells_of_the_process_that_it_happened_in(executed, tmp_path):
    def elsewhere(orders, listen):
        for order in orders:
            yield order, Failure("environment", "no network there", "", provenance={"threads": 96})

    assert executed(tmp_path / "mine", elsewhere, adapters={"lora": {"rank": 2}}) == Outcome(failed=1)
    record = read_record(tmp_path / "mine/failed/tiny--lora--s0.json", FailureRecord)
    assert record.provenance == {"threads": 96}
    assert Failure("error", "here", "").provenance["threads"] == 1


def test_a_run_is_given_back_as_soon_as_it_is_written(executed, tmp_path):
    folder, free = tmp_path / "results/mine", []

    def watching(orders, listen):
        for order, result in here(orders, listen):
            yield order, result
            with claim(Folders(folder).claim(order.job.cell)) as mine:
                free.append(mine)

    executed(folder, watching, adapters={"lora": {"rank": 2}, "scalora": {"rank": 2}})
    assert free == [True, True]


def test_a_run_whose_predictions_are_gone_is_done_again(executed, tmp_path, capsys):
    folder, adapters = tmp_path / "results/mine", {"lora": {"rank": 2}, "scalora": {"rank": 2}}
    assert executed(folder, here, adapters=adapters) == Outcome(finished=2)
    (folder / "runs/tiny--lora--s0.parquet").unlink()
    assert executed(folder, here, adapters=adapters) == Outcome(finished=1, skipped=1)
    assert "1 run is done again: its predictions are gone" in capsys.readouterr().err
    assert (folder / "runs/tiny--lora--s0.parquet").exists()


def test_a_stop_saves_what_is_under_way_and_the_next_time_goes_on(executed, tmp_path):
    changes = {"training": {"steps": 30, "batch_size": 4, "learning_rate": 1e-3}}
    folder, whole = tmp_path / "stopped/mine", tmp_path / "whole/mine"

    def stopped() -> bool:
        return any(folder.glob("checkpoints/*.pt"))

    assert executed(folder, here, stopped=stopped, **changes).interrupted
    assert stopped()
    assert not list(folder.rglob("*.lock"))
    assert not list(folder.rglob("*.json"))
    assert executed(folder, here, **changes) == Outcome(finished=2)
    assert max(record.timings.legs for record in read_runs(folder)) == 2
    assert executed(whole, here, **changes) == Outcome(finished=2)
    pairs = zip(read_runs(folder), read_runs(whole), strict=True)
    assert all(numbers(one) == numbers(other) for one, other in pairs)
