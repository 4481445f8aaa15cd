"""The regression gate on whole folders of results: what must be caught, what must not, what is lost."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankbench.bench.cli import main
from rankbench.bench.records import (
    LOOP_VERSION,
    FailureRecord,
    Metrics,
    OverheadRecord,
    RunRecord,
    Scale,
)
from rankbench.reports.compare.as_json import as_json
from rankbench.reports.compare.judge import Comparison, compare
from rankbench.reports.compare.page import page
from rankbench.reports.frames import Suite, load
from tests.made_records import accuracy, curve, overhead_record, realistic, run_record, save

RERUNS, BASELINES = 200, 20
COMMITTED = Path(__file__).parents[1] / "baseline" / "smoke"
Change = Callable[[RunRecord], RunRecord]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Two tasks, seven adapters, three seeds and a measurement of overhead."""
    suite = load(realistic(tmp_path_factory.mktemp("made") / "suite", steps=20))
    return replace(suite, groups=[group for group in suite.groups if group.name in ("movie", "regression")])


def changed(
    suite: Suite,
    of_run: Change,
    of_overhead: Callable[[OverheadRecord], OverheadRecord] = lambda record: record,
) -> Suite:
    groups = [
        replace(
            group,
            runs={a: {s: of_run(run) for s, run in runs.items()} for a, runs in group.runs.items()},
        )
        for group in suite.groups
    ]
    return replace(suite, groups=groups, overhead=[of_overhead(record) for record in suite.overhead])


def altered(run: RunRecord, score: float = 0.0, loss: float = 1.0) -> RunRecord:
    """Score shifted, losses multiplied; unchecked, for speed."""
    metrics, losses = run.metrics, [value * loss for value in run.curve.loss]
    best = {**metrics.best, metrics.main: metrics.best[metrics.main] + score}
    updates: dict[str, Any] = {
        "metrics": metrics.model_copy(update={"best": best}),
        "curve": run.curve.model_copy(update={"loss": losses}),
    }
    return run.model_copy(update=updates)


def rerun(suite: Suite, rng: np.random.Generator, slow: float = 1.0) -> Suite:
    """Noise for each run and seed, as large as what was seen on a shared machine; for overhead, noise of
    each round and of each process."""

    def factor(sd: float) -> float:
        return math.exp(rng.normal(0, sd))

    def of_run(run: RunRecord) -> RunRecord:
        return altered(run, rng.normal(0, 0.006), factor(0.02))

    def of_overhead(record: OverheadRecord) -> OverheadRecord:
        seconds = {
            name: [
                [value * process * factor(0.06) for value in rounds]
                for rounds, process in ((rounds, slow * factor(0.03)) for rounds in processes)
            ]
            for name, processes in record.seconds.items()
        }
        peaks = {name: [peak * factor(0.015) for peak in own] for name, own in record.peak_resident.items()}
        return record.model_copy(update={"seconds": seconds, "peak_resident": peaks})

    return changed(suite, of_run, of_overhead)


def test_reruns_raise_few_alarms_on_a_slower_machine_too(made: Suite) -> None:
    rng = np.random.default_rng(3)
    baselines = [rerun(made, rng) for _ in range(BASELINES)]
    reruns = (rerun(made, rng, slow=1.7 if i % 2 else 1.0) for i in range(RERUNS))
    alarms = [compare(baselines[i % BASELINES], again).regressed for i, again in enumerate(reruns)]
    assert sum(alarms) / RERUNS <= 0.05


def failing(found: Comparison) -> set[tuple[str, str, str]]:
    return {(row.verdict, row.place, row.adapter) for row in found.rows if row.fails}


@pytest.mark.parametrize(("worse", "kind"), [({"score": -0.06}, "score"), ({"loss": 1.3}, "training loss")])
def test_a_planted_regression_is_caught(made: Suite, worse: dict[str, float], kind: str) -> None:
    """In one cell, among the noise of all others."""
    rng = np.random.default_rng(4)
    caught = 0
    for _ in range(8):
        candidate = rerun(made, rng)
        planted = changed(
            candidate,
            lambda run: altered(run, **worse) if (run.task, run.adapter) == ("movie", "scalora") else run,
        )
        rows = [row for row in compare(rerun(made, rng), planted).rows if row.fails]
        caught += any(
            (row.place, row.adapter, row.quantity and row.quantity.kind) == ("movie", "scalora", kind)
            for row in rows
        )
    assert caught >= 7


@pytest.mark.parametrize(("name", "reference"), [("scalora", "lora"), ("lora", "floor")])
def test_a_slower_step_is_caught_in_overhead(made: Suite, name: str, reference: str) -> None:
    rng = np.random.default_rng(5)

    def slower(record: OverheadRecord) -> OverheadRecord:
        own = [[1.5 * value for value in rounds] for rounds in record.seconds[name]]
        seconds = {**record.seconds, name: own}
        return record.model_copy(update={"seconds": seconds})

    found = compare(made, changed(rerun(made, rng), lambda run: run, slower))
    row = next(row for row in found.rows if row.fails and row.adapter == name)
    assert (row.place, row.what) == ("encoder", f"step time ÷ {reference} ↓")


def test_what_the_runs_themselves_took_is_not_compared(tmp_path: Path) -> None:
    """They may be of another night: only costs that were measured side by side are."""
    slow = {"median_step": 9.0, "train": 90.0, "score": 9.0, "total": 99.0}
    before = load(write(tmp_path / "one"))
    after = load(write(tmp_path / "two", timings=slow, memory={"peak_resident": 9000.0}))
    found = compare(before, after)
    assert {row.verdict for row in found.rows} == {"identical"}
    assert {row.quantity.kind for row in found.rows if row.quantity} == {"score", "training loss"}


def write(folder: Path, score: float = 0.0, **changes: Any) -> Path:
    """Two adapters, three seeds, in numbers that vary."""
    for adapter in ("lora", "scalora"):
        for seed in range(3):
            lost = score if adapter == "scalora" else 0.0
            fields = {
                "metrics": accuracy(0.8 + 0.01 * seed + lost),
                "curve": curve([1.0, 0.5 + 0.01 * seed]),
                "protocol": {"steps": 10, "length": 64},
            }
            save(folder, run_record("movie", adapter, seed, **(fields | changes)))
    return folder


def call(*words: object) -> int:
    try:
        return main(["compare", *map(str, words)])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_identical_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "one")
    assert call(folder, folder) == 0
    out = capsys.readouterr().out
    assert "**Identical**: all 4 figures" in out
    assert "|" not in out
    assert call(folder, folder, "--all") == 0
    assert capsys.readouterr().out.count("| identical") == 4


def test_a_lower_score_is_the_first_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = write(tmp_path / "one"), write(tmp_path / "two", score=-0.1)
    assert call(before, after) == 1
    out = capsys.readouterr().out
    assert "**Regression: 1 regressed**, of 4 rows." in out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    words = [word.strip() for word in rows[2].strip("|").split("|")]
    assert words[:4] == ["regressed", "movie", "scalora", "accuracy ×100 ↑"]
    assert words[4:] == ["3", "81.00", "71.00", "-10.00", "1.00", "< 0.001"]
    assert "score 1 identical; training loss 2 identical" in out
    assert call(after, before) == 0


def test_one_seed_of_several_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of the committed baseline in which every run is a catastrophe; one seed is compared."""
    shutil.copytree(COMMITTED, tmp_path / "smoke")
    for path in (tmp_path / "smoke" / "runs").glob("*.json"):
        record = json.loads(path.read_text())
        record["metrics"]["best"] = dict.fromkeys(record["metrics"]["best"], 0.01)
        record["curve"]["loss"] = [9.0] * len(record["curve"]["loss"])
        path.write_text(json.dumps(record))
    assert call(COMMITTED, tmp_path / "smoke", "--only", "*--s0") == 1
    out = capsys.readouterr().out
    rows = Counter(tuple(word.strip() for word in line.split("|")[1:5:3]) for line in out.splitlines())
    cells = len([*(COMMITTED / "runs").glob("*--s0.json")])
    assert rows["regressed", "final training loss ↓"] == cells
    assert rows["regressed", "accuracy ×100 ↑"] == cells
    assert call(COMMITTED, COMMITTED, "--only", "*--s0") == 0


def test_a_baseline_of_one_seed_judges_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, score in (("one", 0.0), ("two", -0.7)):
        for path in [*(write(tmp_path / name, score) / "runs").glob("*--[12].json")]:
            path.unlink()
    assert call(tmp_path / "one", tmp_path / "two") == 0, "the rest is the same to the bit"
    out = capsys.readouterr().out
    assert "**No regression** in 3 figures. **1 could not be judged**" in out
    assert "| cannot be judged | movie" in out
    for path in (tmp_path / "two" / "runs").glob("movie--lora--*"):
        path.unlink()
    assert call(tmp_path / "one", tmp_path / "two", "--only", "movie--scalora--*") == 1
    assert "**Not judged: score**. **1 could not be judged**" in capsys.readouterr().out


def test_another_main_metric_is_another_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = Metrics(
        main="mse", lower_is_better=True, best={"mse": 1.0}, last={"mse": 1.0}, best_step=5, last_step=10
    )
    assert call(write(tmp_path / "one"), write(tmp_path / "two", metrics=error)) == 1
    out = capsys.readouterr().out
    assert "**Regression: 2 another protocol**" in out
    assert "main metric accuracy ↑ → mse ↓" in out


def test_a_step_of_no_time_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = save(tmp_path / "one", overhead_record({"lora": [0.5, 1.0], "scalora": [1.2, 1.3]}))
    path = still / "overhead" / "encoder.json"
    path.write_text(path.read_text().replace("0.5", "0.0"))
    assert call(still, still) == 2
    error = capsys.readouterr().err.strip()
    assert error.endswith("greater than 0); delete it and run the suite again")
    assert "overhead/encoder.json is corrupt (seconds.lora.0.0: " in error
    assert len(error.splitlines()) == 1


def test_missing_failed_and_new_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = write(tmp_path / "one"), write(tmp_path / "two")
    (after / "runs" / "movie--scalora--1.json").unlink()
    assert call(before, after) == 1
    assert "missing   | movie  | scalora   | seed 1" in capsys.readouterr().out
    blocks = {"suite": "made", "task": "movie", "adapter": "scalora", "seed": 1, "fingerprint": "0"}
    blocks |= {"reason": "loss is nan", "step": 17, "config": {}, "provenance": {}}
    save(after, FailureRecord.model_validate(blocks))
    assert call(before, after) == 1
    assert "seed 1: loss is nan at step 17" in capsys.readouterr().out
    assert call(before, after, "--only", "*--s[02]") == 0
    capsys.readouterr()
    assert call(after, before) == 0
    save(after, run_record("movie", "dora", 0))
    assert call(before, after, "--only", "*--s0") == 0
    assert "New, not judged: movie--dora." in capsys.readouterr().out
    assert call(before, after, "--only", "") == 2
    assert "that --only '' matches" in capsys.readouterr().err


def test_a_lost_measurement_and_a_lost_contender(tmp_path: Path) -> None:
    rounds = {"lora": [1.0, 1.1], "scalora": [1.2, 1.3]}
    before = load(save(write(tmp_path / "one"), overhead_record(rounds)))
    assert failing(compare(before, load(write(tmp_path / "two")))) == {("missing", "encoder", "")}
    fewer = load(save(write(tmp_path / "three"), overhead_record({"lora": [1.0, 1.1]})))
    assert failing(compare(before, fewer)) == {("missing", "encoder", "scalora")}
    assert not compare(before, fewer, only="movie--*").regressed
    unseen = overhead_record(rounds)
    peaks = {"lora": unseen.peak_resident["lora"]}
    save(write(tmp_path / "five"), unseen.model_copy(update={"peak_resident": peaks}))
    assert failing(compare(before, load(tmp_path / "five"))) == {("missing", "encoder", "scalora")}
    other = load(save(write(tmp_path / "four"), overhead_record(rounds, config={"batch": 8})))
    assert failing(compare(before, other)) == {("another protocol", "encoder", "")}


def test_another_protocol_is_told_by_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(tmp_path / "one")
    after = write(tmp_path / "two", protocol={"steps": 20, "length": 64})
    assert call(before, after) == 1
    out = capsys.readouterr().out
    assert "2 another protocol" in out
    assert "seeds 0, 1, 2: steps 10 → 20" in out


def test_other_settings_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(tmp_path / "one", config={"adapter": {"rank": 4}})
    after = write(tmp_path / "two", config={"adapter": {"rank": 8}})
    assert call(before, after) == 0
    assert "movie--lora (adapter.rank 4 → 8)" in capsys.readouterr().out


def measured_beside(
    folder: Path, loss: float = 0.5, forgotten: float | None = 0.1, text: str = "one"
) -> Suite:
    """As `write`, with the held-out loss, none where that is 0, and what was forgotten."""
    for adapter in ("lora", "scalora"):
        for seed in range(3):
            nll = loss * (1 + 0.01 * seed) if adapter == "scalora" else 0.5 * (1 + 0.01 * seed)
            fields: dict[str, Any] = {"metrics": accuracy(0.8 + 0.01 * seed, nll=nll or None)}
            if forgotten is not None:
                value = (0.1 if adapter == "lora" else forgotten) + 0.001 * seed
                fields["forgetting"] = {"kind": "drift", "value": value, "items": 9, "text": text}
            save(folder, run_record("movie", adapter, seed, **fields))
    return load(folder)


@pytest.mark.parametrize(
    ("after", "verdict", "what"),
    [
        ({"loss": 0.7}, "regressed", "held-out loss ↓"),
        ({"forgotten": 0.2}, "regressed", "forgetting, drift ↓"),
        ({"loss": 0.0}, "missing", "seeds 0, 1, 2: the held-out loss"),
        ({"forgotten": None}, "missing", "seeds 0, 1, 2: what was forgotten"),
        ({"text": "two"}, "another protocol", "seeds 0, 1, 2: what was forgotten is of another text"),
    ],
)
def test_what_is_measured_beside_the_score_is_compared(
    tmp_path: Path, after: dict[str, Any], verdict: str, what: str
) -> None:
    before = measured_beside(tmp_path / "one")
    found = compare(before, measured_beside(tmp_path / "two", **after))
    rows = [row for row in found.rows if row.fails and row.adapter == "scalora"]
    assert [(row.verdict, row.what) for row in rows] == [(verdict, what)]
    assert not compare(before, measured_beside(tmp_path / "three")).regressed


def test_losses_of_zero_are_compared_as_differences(tmp_path: Path) -> None:
    zero = load(write(tmp_path / "one", curve=curve([1.0, 0.0])))
    assert not compare(zero, load(write(tmp_path / "two", curve=curve([1.0, 0.0])))).regressed
    worse = compare(zero, load(write(tmp_path / "three", curve=curve([1.0, 0.1]))))
    assert failing(worse) == {("regressed", "movie", "lora"), ("regressed", "movie", "scalora")}


def test_a_zero_of_one_method_leaves_the_others_their_ratios(tmp_path: Path) -> None:
    """Errors that differ by factors of a thousand: as differences a fivefold one would be lost among them."""

    def errors(folder: Path, **factor: float) -> Suite:
        for name, error in (("lora", 0.8), ("scalora", 2e-4), ("full", 0.0)):
            for seed in range(3):
                mse = {"mse": error * factor.get(name, 1.0) * (1 + 0.01 * seed)}
                metrics = Metrics(
                    main="mse", best=mse, last=mse, best_step=1, last_step=1, lower_is_better=True
                )
                save(folder, run_record("line", name, seed, metrics=metrics))
        return load(folder)

    before = errors(tmp_path / "one")
    worse = compare(before, errors(tmp_path / "two", scalora=5.0))
    assert failing(worse) == {("regressed", "line", "scalora")}
    assert not compare(before, errors(tmp_path / "three")).regressed


def test_runs_beyond_a_plan_that_are_missing_are_missed(tmp_path: Path) -> None:
    for name, seeds in (("one", 5), ("two", 3)):
        save(tmp_path / name, *(run_record("movie", "lora", seed, stages=[2, 3]) for seed in range(seeds)))
    assert call(tmp_path / "one", tmp_path / "two") == 1
    assert call(tmp_path / "two", tmp_path / "one") == 0


def test_a_copy_beside_a_record_does_not_stand_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = write(tmp_path / "one"), write(tmp_path / "two")
    for path in [*(after / "runs").glob("*.json")]:
        shutil.copy(path, path.with_suffix(".old.json"))
    assert call(before, after) == 2
    assert "holds two records of movie--lora--s0; move the one away" in capsys.readouterr().err


def test_a_rate_of_errors_is_compared_in_the_points_that_its_name_says(tmp_path: Path) -> None:
    """0.10 and 0.13 of the words: 3 points."""
    for folder, more in (("before", 0.0), ("after", 0.03)):
        for seed in range(3):
            rate = {"wer": 0.10 + more + seed / 1000}
            scale = Scale(low=0.0, high=1.0, lower_is_better=True, percent=True)
            found = {"best": rate, "last": rate, "best_step": 1, "last_step": 1, "scales": {"wer": scale}}
            metrics = Metrics(main="wer", lower_is_better=True, **found)
            save(tmp_path / folder, run_record("speech", "lora", seed, metrics=metrics))
    found = compare(load(tmp_path / "before"), load(tmp_path / "after"))
    text = page(found, "before", "after")
    cells = next(line for line in text.splitlines() if "wer" in line).split("|")[1:-1]
    assert [cell.strip() for cell in cells][3:8] == ["wer ×100 ↓", "3", "10.10", "13.10", "+3.00"]
    row = next(row for row in as_json(found, "before", "after")["rows"] if row["kind"] == "score")
    assert (row["unit"], row["verdict"], row["lower_is_better"]) == ("points", "regressed", True)
    assert row["change"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["laptpo", "laptop"], "no folder of results 'laptpo'; did you mean 'laptop'?"),
        (["laptop", "empty"], "no records under"),
        (["laptop", "laptop", "--only", "nothing*"], "--only 'nothing*' matches"),
        (["laptop", "broken"], "is corrupt"),
        (["laptop"], "CANDIDATE"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "laptop")
    (tmp_path / "empty").mkdir()
    shutil.copytree(tmp_path / "laptop", tmp_path / "broken")
    (tmp_path / "broken" / "runs" / "movie--lora--0.json").write_text("{")
    assert call(*words, "--results", tmp_path) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_path_wins_over_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    write(tmp_path / "results" / "mine")
    write(tmp_path / "mine", score=-0.1)
    monkeypatch.chdir(tmp_path)
    assert call("results/mine", "mine") == 1
    assert capsys.readouterr().out.startswith("# mine against results/mine\n")
    shutil.rmtree(tmp_path / "mine")
    assert call("results/mine", "mine") == 0


def test_the_committed_baseline_is_of_this_loop() -> None:
    """Else `nox -s compare` could judge nothing: renew it as told in noxfile.py."""
    versions = {
        json.loads(path.read_text())["protocol"]["loop_version"]
        for path in (COMMITTED / "runs").glob("*.json")
    }
    assert versions == {LOOP_VERSION}
    assert not compare(load(COMMITTED), load(COMMITTED)).regressed
