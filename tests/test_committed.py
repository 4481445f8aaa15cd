"""What is committed holds together: reports follow from records, choices from trials, the README from the
report."""

from __future__ import annotations

import shutil
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import pytest

from rankbench import reports, tasks
from rankbench.bench.records import Folders, RunRecord, fingerprint, read_runs
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import RunSpec, Suite, load_suite, plan
from rankbench.bench.tune import next_trials
from rankbench.bench.tune.choices import kept, read
from rankbench.bench.tune.settle import settled

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = Path("report.html")
"""Not committed: it is made from the records, by `rankbench report`."""
CHOICES = "choices.yaml"
"""What a suite's trials chose: it follows from their records, not with the report."""


@pytest.mark.parametrize(
    "suite",
    [
        pytest.param(path.parent.name, marks=[] if path.parent.name == "overhead" else pytest.mark.slow)
        for path in sorted(RESULTS.glob("*/report.md"))
    ],
)
def test_a_committed_report_follows_from_its_records(suite, tmp_path):
    for folder in ("runs", "failed", "overhead"):
        if (RESULTS / suite / folder).exists():
            shutil.copytree(RESULTS / suite / folder, tmp_path / suite / folder)
    reports.write(tmp_path / suite)
    made = {path.relative_to(tmp_path / suite) for path in (tmp_path / suite).rglob("*") if path.is_file()}
    held = {path.relative_to(RESULTS / suite) for path in (RESULTS / suite).rglob("*") if path.is_file()}
    held = {path for path in held if path.parts[0] not in ("checkpoints", CHOICES)} - {PAGE}
    made -= {PAGE}
    assert made == held
    for path in made:
        assert (tmp_path / suite / path).read_bytes() == (RESULTS / suite / path).read_bytes(), path


def wanted(spec: RunSpec, record: RunRecord) -> dict[str, Any]:
    """What the run depends on, but for the packages and the device that it was made with: those that are
    here now may be others. Data of the hub may have come from a mirror, whose files' hash the record
    holds instead of the commit."""
    made_with = {key: record.identity[key] for key in ("software", "device") if key in record.identity}
    now = resolve(spec).identity | made_with
    source = record.config["task"]["source"]
    if "hub" in source and "files" in source:
        now["task"] = now["task"] | {"source": source}
    return now


@pytest.mark.parametrize("suite", ["laptop"])
def test_every_record_is_the_current_one_of_a_run_of_the_suite(suite, tmp_path):
    held = {(r.task, r.adapter, r.seed): r for r in read_runs(RESULTS / suite)}
    for spec in plan(settled(load_suite(suite), Folders(tmp_path))):
        record = held.pop((spec.experiment, spec.label, spec.seed), None)
        assert record is not None, f"{spec.cell} has no record: run the suite"
        assert record.fingerprint == fingerprint(wanted(spec, record)), f"{spec.cell} is stale"
    assert not held, f"records of no run: {sorted(held)}"


@pytest.mark.parametrize("name", ["laptop", "gpu-small"])
def test_it_is_a_part_of_settled_with_what_its_trials_chose(name, tmp_path):
    """The hash of a choice is of task, training, ranges and entry, so these are the same."""
    part, of_settled = load_suite(name), read(RESULTS / "settled" / CHOICES)
    assert not next_trials(part, Folders(tmp_path))
    for task, block in part.experiments.items():
        assert kept(part, task) == {label: of_settled[task][label] for label in block.adapters}


def test_the_records_were_made_with_the_pinned_packages():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.replace("_", "-").split("==") for line in lines if "==" in line)
    for record in read_runs(RESULTS / "laptop"):
        for package, version in record.identity["software"].items():
            assert version.partition("+")[0] == pinned[package], f"{record.task}: {package}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["settled", "leaderboard"])
def test_what_was_chosen_is_what_the_trials_say_and_was_run(name, tmp_path):
    """Of data that are packaged: those of the hub came from a mirror, which may not be here."""
    shutil.copytree(RESULTS / name / "runs", tmp_path / "runs")
    suite, told = load_suite(name), read(RESULTS / name / CHOICES)
    packaged = [task for task in told if "hub" not in source_of(suite, task)]
    found = settled(suite, Folders(tmp_path), packaged)
    assert {n: read(tmp_path / CHOICES)[n] for n in packaged} == {n: told[n] for n in packaged}
    specs = {spec.cell: spec for spec in plan(found) if spec.experiment in packaged}
    held = [record for record in read_runs(RESULTS / name) if record.task in packaged]
    assert held
    for record in held:
        spec = specs[f"{record.task}--{record.adapter}--s{record.seed}"]
        assert record.fingerprint == fingerprint(wanted(spec, record)), f"{spec.cell} is stale"
        assert record.chosen_by == list(spec.adapter.chosen_by)


def source_of(suite: Suite, experiment: str) -> Any:
    return tasks.create(**suite.experiments[experiment].task).fingerprint()["source"]


def test_the_readme_shows_the_committed_leaderboard():
    report = (RESULTS / "settled" / "report.md").read_text(encoding="utf-8")
    lines = report[report.index("## Leaderboard") :].splitlines()
    table = takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: line[:1] != "|", lines))
    assert "\n".join(table) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_says_of_the_board_what_its_report_found():
    report = (RESULTS / "leaderboard" / "report.md").read_text(encoding="utf-8")
    assert "Compared: 41 methods" in report
    assert "Nothing that these runs can show: on no task does a method beat `lora`" in report
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Over eight seeds of movie sentiment not one of 41 methods is shown to beat LoRA" in readme
    names = {path.stem for path in (RESULTS / "leaderboard" / "runs").glob("movie--*.json")}
    assert names == {spec.cell for spec in plan(load_suite("leaderboard"), only="movie--*")}
    assert len(names) == 41 * 8
