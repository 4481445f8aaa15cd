"""Every metric says how it is computed and read, and tasks, records and reports go by that."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rankbench import tasks
from rankbench.bench.conformance.metrics import classes, is_as_its_entry_says
from rankbench.bench.records import Metrics, Scale, read_runs
from rankbench.reports.stats.constant import constant_score
from rankbench.reports.stats.items import main_scores
from rankbench.tasks.metrics import METRICS, UNKNOWN, Metric, compute
from rankbench.tasks.text.measure import measure
from tests.made_items import save_scored


def metrics(main, **changes):
    given = {"main": main, "best": {main: 0.5}, "last": {main: 0.5}, "best_step": 1, "last_step": 1}
    return Metrics(**(given | changes))


def test_directions_agree_with_lm_evals():
    import lm_eval.api.metrics  # registers them
    from lm_eval.api import registry

    assert lm_eval.api.metrics
    theirs = {name: registry.higher_is_better_registry.get(name, None) for name in METRICS}
    known = {name: higher for name, higher in theirs.items() if higher is not None}
    assert len(known) >= 8
    assert known == {name: not METRICS[name].lower_is_better for name in known}


def test_old_records_are_read_by_the_registry():
    assert metrics("pearson").scale == Scale(low=-1.0, high=1.0, percent=True)
    generated = metrics("exact_match_strict_match")
    assert generated.selection == "answer_loglikelihood"
    assert generated.scales["answer_loglikelihood"] == Scale(high=0.0)


def test_nothing_is_guessed_of_a_metric_that_is_not_known():
    made = metrics("my_loss_share", lower_is_better=True)
    assert made.scale == Scale(lower_is_better=True)
    stated = metrics("mine", scales={"mine": Scale(low=0.0, high=1.0, percent=True)})
    assert stated.scale.percent
    assert Metrics.model_validate_json(stated.model_dump_json()) == stated


def test_metrics_are_read_without_slow_libraries():
    slow = {"torch", "evaluate", "sklearn", "scipy", "pandas", "numpy"}
    for module in ("rankbench.tasks.metrics", "rankbench.bench.records"):
        code = f"import sys, {module}; print({slow!r} & sys.modules.keys())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"


COMPUTED = [name for name, known in METRICS.items() if known.compute]


def answers(name):
    """Targets and imperfect predictions of 200 items: ratings for an error or ranks, else two classes."""
    if name not in ("mse", "pearson", "spearman"):
        return classes()
    generator = np.random.default_rng(0)
    target = generator.standard_normal(200)
    return target, target + generator.standard_normal(200)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_metric_that_is_computed_is_as_its_entry_says(name):
    known = METRICS[name]
    target, prediction = answers(name)
    is_as_its_entry_says(known, target, prediction)
    if known.constant is not None:
        stated = known.constant(target.tolist()) if callable(known.constant) else known.constant
        assert stated < compute(name, target, prediction)


def test_a_new_metric_is_one_entry(tmp_path, monkeypatch):
    """Computed, recorded, split over items and shown by its entry, which no other place knows."""
    entry = Metric(
        low=0.0, high=1.0, lower_is_better=True, percent=True,
        compute=lambda target, prediction: float((target != prediction).mean()),
        parts=METRICS["accuracy"].parts._replace(of=lambda target, prediction: 1.0 * (target != prediction)),
        constant=lambda targets: 0.25,
    )  # fmt: skip
    monkeypatch.setitem(METRICS, "missed", entry)
    target, prediction = [0, 1, 1, 2], [0, 1, 2, 2]
    values = measure(["missed", "accuracy"], target, prediction)
    assert values == {"missed": 0.25, "accuracy": 0.75}
    made = Metrics(main="missed", best=values, last=values, best_step=1, last_step=1)
    assert made.scale == Scale(low=0.0, high=1.0, lower_is_better=True, percent=True)
    frame = pd.DataFrame({"item": list("abcd"), "target": target, "prediction": prediction})
    save_scored(tmp_path, "lora", 0, frame, made)
    (record,) = read_runs(tmp_path)
    scores = main_scores(tmp_path / "runs", {"lora": {0: record}})
    assert scores["lora"][0].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert constant_score(tmp_path / "runs", record) == 0.25


def test_papers_names_are_those_of_an_entry():
    scores = {"acc": 0.5, "acc_norm": 0.6, "spearman": 0.7, "pearson": 0.8}
    made = Metrics(main="acc", best=scores, last=scores, best_step=1, last_step=1)
    found = {name: made.published(name) for name in ("accuracy", "correlation", "acc_norm", "f1")}
    assert found == {"accuracy": 0.5, "correlation": 0.8, "acc_norm": 0.6, "f1": None}


def test_what_is_not_known_or_computed_elsewhere_is_told():
    with pytest.raises(tasks.TaskError, match="nothing is known of the metric 'recall'; say in"):
        measure(["recall"], [0], [0])
    with pytest.raises(tasks.TaskError, match="nothing here computes the metric 'bleu': lm-eval does"):
        measure(["bleu"], [0], [0])
    assert Scale.of(UNKNOWN) == Scale()
