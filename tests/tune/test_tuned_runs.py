"""A tuned suite from its trials to its final runs, with tiny models."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from rankbench.bench.backends.driver import execute
from rankbench.bench.cli import judging, main
from rankbench.bench.records import Folders, read_record, read_runs
from rankbench.bench.records.run import FailureRecord, RunRecord
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import RunSpec, load_suite, plan
from rankbench.bench.tune import next_trials, settled
from rankbench.bench.tune.choices import Choice, read, value
from rankbench.tasks import TaskError
from rankbench.tasks.toy.synthetic import TinyClassification
from tests.tune.made_trials import experiment

SPACE = {"learning_rate": [1e-3, 1e-1, "log"], "smoothness": [10, 1000, "log"]}
REGRESSION = {
    "task": {"name": "linear-regression", "width": 8, "train": 16, "selection": 12, "test": 8},
    "model": "none",
    "targets": ["linear"],
    "training": {"steps": 6, "batch_size": 8, "learning_rate": 1e-3},
    "tune": {"trials": 2, "widen": 0, "space": SPACE},
    "adapters": {"lora": {"rank": 2}, "scalora": {"rank": 2}},
}


def written(folder: Path, **experiments) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"seeds": [0, 1], "experiments": experiments}))
    return str(path)


def do(specs: list[RunSpec], path: str, folders: Folders) -> None:
    outcome = execute(load_suite(path), specs, folders, lambda: False)
    assert (outcome.failed, outcome.interrupted) == (0, False)


def test_from_trials_to_final_runs(tmp_path, capsys):
    path, folders = written(tmp_path, regression=REGRESSION), Folders(tmp_path / "out" / "mine")
    assert main(["tune", path, "--results", str(tmp_path / "out"), "--workers", "1"]) == 0
    told = capsys.readouterr().out
    choices = read(folders.choices)["regression"]
    for label, choice in choices.items():
        assert f"{label}" in told
        assert f"learning_rate {choice.chosen['learning_rate']:g}" in told
    assert main(["run", path, "--results", str(tmp_path / "out"), "--workers", "1"]) == 0
    records = {(record.task, record.adapter, record.seed): record for record in read_runs(folders.root)}
    assert len(records) == 8
    for label in ("lora", "scalora"):
        trials = [records["regression-trials", f"{label}-t0{number}", 1000] for number in (0, 1)]
        best = min(trials, key=lambda trial: trial.metrics.best["mse"])
        for trial in trials:
            assert trial.config["learning_rate"] == trial.point["learning_rate"]
            assert (trial.method, trial.tuned, trial.chosen_by) == (label, False, [])
            assert trial.config["scored_on"] == trial.identity["scored_on"] == trial.protocol["scored_on"]
        for seed in (0, 1):
            final = records["regression", label, seed]
            assert final.config["learning_rate"] == best.config["learning_rate"]
            assert final.settings.get("smoothness") == best.settings.get("smoothness")
            assert final.chosen_by == [trial.fingerprint for trial in trials]
            assert final.tuned
            assert "scored_on" not in final.config | final.identity | final.protocol
    before = {file: file.stat().st_mtime_ns for file in folders.root.rglob("*.*")}
    assert main(["tune", path, "--results", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert {file: file.stat().st_mtime_ns for file in folders.root.rglob("*.*")} == before
    capsys.readouterr()
    trial = str(folders.root / "regression-trials--lora-t00--s1000")
    assert main(["export", trial, str(tmp_path / "exported"), "--as", "peft"]) == 2
    assert "is a trial, and trials save nothing; name one of the runs" in capsys.readouterr().err


def test_a_method_that_can_no_longer_be_tuned_is_not_judged_by_its_old_runs(tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")
    seeds = {"from": 2, "to": 3, "until": "decided"}

    def suite(**scalora):
        entries = {"lora": {"rank": 2}, "scalora": {"rank": 2, **scalora}}
        path = written(tmp_path, regression=REGRESSION | {"adapters": entries, "seeds": seeds})
        return ["run", path, "--results", out, "--workers", "1"]

    judged = []
    monkeypatch.setattr(judging, "undecided", lambda folder, runs: judged.append({*runs}) or set())
    assert main(suite()) == 0
    assert main(suite(learning_rate=1e30)) == 1
    of_scalora = [{run for run in runs if "--scalora--" in run} for runs in judged]
    assert [len(runs) for runs in of_scalora] == [2, 0]
    assert "no trial of scalora has finished" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "mine.yaml"), "--results", out]) == 0
    assert "has no regression--scalora; it counts all the same: delete" in capsys.readouterr().err


@pytest.mark.parametrize(("metric", "loss", "told"), [("mse", 0.5, 0.5), ("matthews_correlation", 0.5, -0.5)])
def test_the_value_that_a_choice_was_made_by_has_the_metrics_own_sign(metric, loss, told):
    assert value(Choice(chosen={}, trial="t", metric=metric, loss=loss, trials=1, of="", by=[])) == told


def test_a_trials_record_has_fifty_steps_of_its_curve_and_a_final_runs_all(tmp_path):
    longer = REGRESSION | {"training": REGRESSION["training"] | {"steps": 120}}
    path, folders = written(tmp_path, regression=longer), Folders(tmp_path / "mine")
    trial, *_ = next_trials(load_suite(path), folders)
    final = trial.model_copy(update={"scored_on": "test", "experiment": "regression"})
    do([trial, final], path, folders)
    of_trial, of_final = (read_record(folders.record(spec.cell), RunRecord) for spec in (trial, final))
    steps = of_trial.curve.step
    assert (len(steps), steps[0], steps[-1]) == (50, 1, 120)
    assert {after - before for before, after in itertools.pairwise(steps)} == {2, 3}
    assert of_final.curve.step == [*range(1, 121)]
    assert of_trial.curve.loss == [of_final.curve.loss[step - 1] for step in steps]
    assert of_trial.timings.train > sum(of_trial.curve.seconds)


def test_final_runs_are_those_of_a_suite_that_says_the_same_by_hand(tmp_path):
    path, folders = written(tmp_path, regression=REGRESSION), Folders(tmp_path / "out" / "mine")
    suite = load_suite(path)
    while due := next_trials(suite, folders):
        do(due, path, folders)
    finals = list(plan(settled(suite, folders)))
    chosen = {label: choice.chosen for label, choice in read(folders.choices)["regression"].items()}
    by_hand = REGRESSION | {"adapters": {label: {"rank": 2, **values} for label, values in chosen.items()}}
    del by_hand["tune"]
    (tmp_path / "by-hand").mkdir()
    plain = list(plan(load_suite(written(tmp_path / "by-hand", regression=by_hand))))
    assert [resolve(spec).fingerprint for spec in finals] == [resolve(spec).fingerprint for spec in plain]


@pytest.mark.parametrize("select", [{}, {"observe": 2, "select": "best"}])
def test_no_trial_looks_at_a_test_item(tmp_path, monkeypatch, select):
    """With a task that cannot be scored on the test split."""
    whole = TinyClassification.score

    def score(self, model, split):
        if split == "test":
            raise TaskError("a trial asks for the test split")
        return whole(self, model, split)

    monkeypatch.setattr(TinyClassification, "score", score)
    training = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, **select}
    block = experiment(tune={"trials": 2, "widen": 0}, adapters={"lora": {"rank": 2}}, training=training)
    path, folders = written(tmp_path, one=block), Folders(tmp_path / "out" / "mine")
    suite = load_suite(path)
    trials = next_trials(suite, folders)
    do(trials, path, folders)
    for spec in trials:
        record = read_record(folders.record(spec.cell), RunRecord)
        items = pq.read_table(folders.predictions(spec.cell))
        assert len(items) == 32  # the selection split's, where the test split has 64
        assert record.metrics.held_out == "nll"
        assert record.merge_parity is not None
    final = next(plan(settled(suite, folders)))
    assert execute(suite, [final], folders, lambda: False).failed == 1
    failure = read_record(folders.failure(final.cell), FailureRecord)
    assert "a trial asks for the test split" in failure.reason  # so would a trial's have failed


def test_a_trial_is_resolved_apart_from_the_run_with_its_values():
    """Its record can stand for no final run, nor a final run's for it."""
    spec = next(plan(load_suite("smoke")))
    trial = spec.model_copy(update={"scored_on": "selection"})
    assert resolve(spec).identity == {k: v for k, v in resolve(trial).identity.items() if k != "scored_on"}
    assert resolve(trial).fingerprint != resolve(spec).fingerprint
