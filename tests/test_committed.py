"""What is committed holds together: reports follow from records, choices from the sweep, the
README from the report."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import reports
from bench.config import load_suite, plan
from bench.record import RunRecord, fingerprint, read_runs
from bench.runner import identity, learning_rate

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
SWEPT = ("movie", "amazon", "bbc", "linear-regression")


@pytest.mark.parametrize("suite", sorted(path.parent.name for path in RESULTS.glob("*/report.md")))
def test_a_committed_report_follows_from_its_records(suite, tmp_path):
    for folder in ("runs", "failed", "overhead"):
        if (RESULTS / suite / folder).exists():
            shutil.copytree(RESULTS / suite / folder, tmp_path / suite / folder)
    reports.write(tmp_path / suite)
    made = {path.relative_to(tmp_path / suite) for path in (tmp_path / suite).rglob("*") if path.is_file()}
    held = {path.relative_to(RESULTS / suite) for path in (RESULTS / suite).rglob("*") if path.is_file()}
    assert made == {path for path in held if path.parts[0] != "checkpoints"}
    for path in made:
        assert (tmp_path / suite / path).read_bytes() == (RESULTS / suite / path).read_bytes(), path


@pytest.mark.parametrize("suite", ["laptop", "laptop-sweep"])
def test_every_run_of_the_suite_has_its_current_record(suite):
    held = {(r.task, r.adapter, r.seed): r for r in read_runs(RESULTS / suite)}
    for spec in plan(load_suite(suite)):
        record = held.pop((spec.experiment, spec.label, spec.seed), None)
        assert record is not None, f"{spec.cell} has no record: run the suite"
        assert record.fingerprint == fingerprint(identity(spec)), f"{spec.cell} is stale: run the suite"
    assert not held, f"records of no run: {sorted(held)}"


def test_the_sweep_tries_each_method_equally_often_on_a_seed_of_its_own():
    specs = list(plan(load_suite("laptop-sweep")))
    for task in SWEPT:
        trials = Counter(spec.adapter.name for spec in specs if spec.experiment == task)
        assert len(set(trials.values())) == 1, trials
    used = {spec.seed for spec in plan(load_suite("laptop"))}
    assert not used & {spec.seed for spec in specs}


def chosen(record: RunRecord) -> tuple[float, float | None]:
    adapter = record.config["adapter"]
    return record.config["learning_rate"], adapter.get("smoothness")


@pytest.mark.parametrize("task", SWEPT)
def test_the_laptop_suite_uses_what_the_sweep_chose_on_training_data(task):
    trials = defaultdict(list)
    for record in read_runs(RESULTS / "laptop-sweep"):
        if record.task == task:
            trials[record.config["adapter"]["name"]].append(record)
    specs = [s for s in plan(load_suite("laptop"), seeds=1) if s.experiment == task]
    assert {spec.adapter.name for spec in specs} == set(trials)
    for spec in specs:
        pick = min if trials[spec.adapter.name][0].metrics.lower_is_better else max
        best = pick(record.observations[-1].selection for record in trials[spec.adapter.name])
        winners = [chosen(r) for r in trials[spec.adapter.name] if r.observations[-1].selection == best]
        assert (learning_rate(spec), spec.adapter.hyperparameters.get("smoothness")) in winners, spec.cell


def test_the_readme_shows_the_committed_leaderboard():
    report = (RESULTS / "laptop" / "report.md").read_text(encoding="utf-8")
    start = report.index("## Leaderboard")
    table = [
        line for line in report[start : report.index("\n## ", start + 1)].splitlines() if line.startswith("|")
    ]
    assert "\n".join(table) in (ROOT / "README.md").read_text(encoding="utf-8")
