"""Every metric says how it is read, and reports go by that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rankbench import tasks
from rankbench.bench.records.schema import Metrics, Scale
from rankbench.tasks.metrics import METRICS


def metrics(main, **changes):
    given = {"main": main, "best": {main: 0.5}, "last": {main: 0.5}, "best_step": 1, "last_step": 1}
    return Metrics(**(given | changes))


@pytest.mark.parametrize("name", tasks.names())
def test_what_tasks_are_scored_and_selected_by_is_known(name):
    task = tasks.create(name)
    assert {task.metric, task.selection_metric or task.metric} <= METRICS.keys()


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


def test_metrics_are_read_without_torch():
    code = "import sys, rankbench.bench.records.schema; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
