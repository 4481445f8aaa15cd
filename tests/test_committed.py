"""What is committed holds together: reports follow from records, choices from the sweep, the
README from the report."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import pytest

from rankbench import reports, tasks
from rankbench.adapters.lora2.adapter import Lora2
from rankbench.bench.records import Folders, RunRecord, fingerprint, read_runs
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import RunSpec, Suite, load_suite, plan
from rankbench.bench.suite.described import learning_rate
from rankbench.bench.tune import next_trials
from rankbench.bench.tune.choices import kept, read
from rankbench.bench.tune.settle import settled

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
LIKE_SCALORA = {"scalora-nnls", "scalora-svd"}
"""Not swept: with scalora's choice they differ from it by their rule alone."""
PAGE = Path("report.html")
WITH_PAGE = {"extended"}
"""Suites whose page is committed; of the others it is made from the records, by `rankbench report`."""
CHOICES = "choices.yaml"
"""What a suite's trials chose: it follows from their records, not with the report."""
SWEPT = ("movie", "amazon", "bbc", "linear-regression")


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
    held = {path for path in held if path.parts[0] not in ("checkpoints", CHOICES)}
    if suite not in WITH_PAGE:
        made, held = made - {PAGE}, held - {PAGE}
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


def test_laptop_is_a_part_of_settled_with_what_its_trials_chose(tmp_path):
    """The hash of a choice is of task, training, ranges and entry, so these are the same."""
    laptop, of_settled = load_suite("laptop"), read(RESULTS / "settled" / CHOICES)
    assert not next_trials(laptop, Folders(tmp_path))
    for name, block in laptop.experiments.items():
        assert kept(laptop, name) == {label: of_settled[name][label] for label in block.adapters}


def test_the_records_were_made_with_the_pinned_packages():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.replace("_", "-").split("==") for line in lines if "==" in line)
    for record in read_runs(RESULTS / "laptop"):
        for package, version in record.identity["software"].items():
            assert version.partition("+")[0] == pinned[package], f"{record.task}: {package}"


@pytest.mark.parametrize("suite", ["glue-small", "extended"])
def test_records_of_earlier_versions_are_of_runs_of_the_suite_and_said_to_be_old(suite):
    """They wait for their next run; until then the report tells what they are."""
    held = {(record.task, record.adapter, record.seed) for record in read_runs(RESULTS / suite)}
    assert held <= {(spec.experiment, spec.label, spec.seed) for spec in plan(load_suite(suite))}
    assert "Records of earlier versions" in (RESULTS / suite / "report.md").read_text(encoding="utf-8")


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


def test_every_trial_of_the_sweep_was_made_as_planned():
    """Its choices stay good when the loop draws other random numbers, so its records may be of an
    older loop; what was tried must be what the suite says."""
    held = {(r.task, r.adapter, r.seed): r for r in read_runs(RESULTS / "laptop-sweep")}
    for spec in plan(load_suite("laptop-sweep")):
        config = held.pop((spec.experiment, spec.label, spec.seed)).config
        assert config["learning_rate"] == learning_rate(spec)
        tried = spec.adapter.hyperparameters
        assert {key: config["adapter"][key] for key in tried} == tried, spec.cell
        # `decay` came later, and without weight decay it means nothing.
        assert {"decay": "matrices"} | config["training"] == spec.training.model_dump(), spec.cell
        assert {"head": "fresh"} | config["model"] == spec.model.model_dump()
        assert config["targets"] == spec.targets
    assert not held, f"records of no run: {sorted(held)}"


def test_the_sweep_tries_each_method_equally_often_on_a_seed_of_its_own():
    specs = list(plan(load_suite("laptop-sweep")))
    for task in SWEPT:
        trials = Counter(method(spec.adapter.model_dump()) for spec in specs if spec.experiment == task)
        assert len(set(trials.values())) == 1, trials
    used = {spec.seed for spec in plan(load_suite("extended"))}
    assert not used & {spec.seed for spec in specs}


@pytest.mark.parametrize("task", SWEPT)
def test_no_chosen_rate_lies_at_the_edge_of_those_tried(task):
    trials = trials_of(task)
    at_edge = set()
    for name, swept in trials.items():
        rates = {record.config["learning_rate"] for record in swept}
        best = {record.config["learning_rate"] for record in winners(swept)}
        at_edge |= {name} if best <= {min(rates), max(rates)} else set()
    # The lowest of its three rates won there; a lower one was not tried.
    assert at_edge == ({("scalora-i", 4)} if task == "movie" else set())


def method(adapter: dict[str, Any]) -> tuple[str, int | None]:
    """What has trials of its own; what differs from ScaLoRA by its rule alone takes ScaLoRA's."""
    name = "scalora" if adapter["name"] in LIKE_SCALORA else adapter["name"]
    return name, adapter.get("rank")


def trials_of(task: str) -> dict[tuple[str, int | None], list[RunRecord]]:
    found = defaultdict(list)
    for record in read_runs(RESULTS / "laptop-sweep"):
        if record.task == task:
            found[method(record.config["adapter"])].append(record)
    return found


def winners(swept: list[RunRecord]) -> list[RunRecord]:
    """The trials that are best on the selection slice: several where its few items tie them."""
    pick = min if swept[0].metrics.lower_is_better else max
    best = pick(record.observations[-1].selection for record in swept)
    return [record for record in swept if record.observations[-1].selection == best]


def chosen(rate: float, adapter: dict[str, Any]) -> tuple[float, float | None, float | None]:
    """The rate and what else is swept; a suite that leaves LoRA²'s weight out means its default."""
    weight = adapter.get("orthogonality", Lora2.orthogonality) if adapter["name"] == "lora2" else None
    return rate, adapter.get("smoothness"), weight


@pytest.mark.parametrize("task", SWEPT)
def test_what_extended_calls_tuned_is_what_the_sweep_chose_on_training_data(task):
    """LoRA²'s and what follows ScaLoRA's choice are held to it too."""
    trials = trials_of(task)
    held = [
        spec
        for spec in plan(load_suite("extended"), seeds=1)
        if spec.experiment == task
        and (spec.adapter.tuned or spec.label in LIKE_SCALORA or spec.label == "lora2")
    ]
    assert len(held) > 4
    for spec in held:
        swept = trials[method(spec.adapter.model_dump())]
        best = [chosen(r.config["learning_rate"], r.config["adapter"]) for r in winners(swept)]
        given = {"name": spec.adapter.name, **spec.adapter.hyperparameters}
        assert chosen(learning_rate(spec), given) in best, spec.cell


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
