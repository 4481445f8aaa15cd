"""The loss of each test item: what scikit-learn and SciPy make of the same predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import log_loss, mean_squared_error

from rankbench.bench.records import read_runs
from rankbench.bench.records.losses import item_losses
from rankbench.bench.run.job import resolve
from rankbench.bench.run.order import Done, Order
from rankbench.bench.run.runner import run
from rankbench.bench.suite import load_suite, plan
from rankbench.tasks.metrics import BESIDE

SETTLED = Path(__file__).parents[2] / "results" / "settled"


def of(**columns):
    count = len(next(iter(columns.values())))
    frame = pd.DataFrame({"item": [f"i{i}" for i in range(count)], **columns})
    return item_losses(pa.Table.from_pandas(frame))


def test_classes_have_scikit_learns_log_loss():
    generator = np.random.default_rng(0)
    logits, target = 3 * generator.standard_normal((50, 3)), generator.integers(0, 3, 50)
    found = of(target=target, prediction=logits.argmax(1), logits=logits.tolist())
    assert found.metric == "nll"
    assert found.items == [f"i{i}" for i in range(50)]
    assert found.values.mean() == pytest.approx(log_loss(target, softmax(logits, 1), labels=[0, 1, 2]))
    assert found.values[7] == pytest.approx(-log_softmax(logits[7])[target[7]])


def test_choices_may_differ_in_number_and_be_very_unlikely():
    choices = [[-1.0, -2.0], [-3.0, -1.0, -900.0, -2.0], [-800.0, -801.0, -799.0]]
    found = of(target=[1, 2, 0], prediction=[0, 1, 2], loglikelihoods=choices, score=[0.0, 0.0, 0.0])
    expected = [-log_softmax(row)[right] for row, right in zip(choices, [1, 2, 0], strict=True)]
    assert found.metric == "nll"
    assert found.values == pytest.approx(expected)


def test_ratings_have_squared_errors_and_answers_their_likelihood():
    found = of(target=[1.0, 2.0], prediction=[1.5, 0.0], logits=[[1.5], [0.0]])
    assert (found.metric, found.values.tolist()) == ("mse", [0.25, 4.0])
    assert of(squared_error=[0.5, 1.5]).values.tolist() == [0.5, 1.5]
    likelihood = of(score=[1.0, 0.0], loglikelihood=[-0.5, -2.5])
    assert (likelihood.metric, likelihood.values.tolist()) == ("nll", [0.5, 2.5])


def test_the_losses_of_several_labels_add_up():
    generator = np.random.default_rng(0)
    logits, labels = generator.standard_normal((9, 3)), generator.integers(0, 2, (9, 3))
    found = of(target=labels.tolist(), prediction=(logits > 0).astype(int).tolist(), logits=logits.tolist())
    each = [log_loss(labels[:, i], expit(logits[:, i]), labels=[0, 1]) for i in range(3)]
    assert found.values.mean() == pytest.approx(sum(each))


def test_answers_alone_tell_no_loss():
    assert of(target=["7", "8"], prediction=["7", "9"], score=[1.0, 0.0]) is None
    logits = [[0.0, 1.0], [1.0, 0.0]]
    assert of(target=["yes", "no"], prediction=["no", "no"], logits=logits) is None
    assert of(target=[1, 2], prediction=[0, 1], logits=logits) is None, "classes from 1 on"
    assert of(target=[0, 1], prediction=[0, 1], loglikelihoods=[[0.0, 1.0], None]) is None


def test_a_second_test_set_is_not_counted():
    frame = pd.DataFrame({"item": ["matched/0", f"{BESIDE}0"], "squared_error": [1.0, 9.0]})
    found = item_losses(pa.Table.from_pandas(frame))
    assert (found.items, found.values.tolist()) == (["matched/0"], [1.0])


@pytest.mark.parametrize(
    "task", ["amazon", "bbc", "cola", "linear-regression", "movie", "movie-text", "sst2"]
)
def test_committed_predictions_give_the_losses_that_their_records_state(task):
    records = [record for record in read_runs(SETTLED) if record.task == task and record.seed == 0]
    assert len(records) >= 3
    for record in records:
        path = SETTLED / "runs" / record.predictions
        rows, metrics = pd.read_parquet(path), record.metrics
        if "squared_error" in rows:
            expected = rows["squared_error"].mean()
        elif task == "amazon":
            expected = mean_squared_error(rows["target"], rows["prediction"])
        elif "logits" in rows:
            expected = log_loss(rows["target"], softmax(np.stack(rows["logits"]).astype(float), axis=1))
        elif "loglikelihoods" in rows:
            expected = log_loss(rows["target"], softmax(np.stack(rows["loglikelihoods"]), axis=1))
        else:
            expected = -rows["loglikelihood"].mean()
        assert item_losses(parquet.read_table(path)).values.mean() == pytest.approx(expected, rel=1e-5)
        assert metrics.best[metrics.held_out or metrics.main] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("cell", "metric"),
    [("tiny-classification--lora--s0", "nll"), ("tiny-causal--lora--s0", "nll"), ("*regression*", "")],
)
def test_a_run_states_the_mean_beside_its_accuracy(cell, metric, tmp_path):
    """Of best and last weights; where the main metric is that mean itself, nothing is stated twice."""
    suite = "settled" if metric == "" else "smoke"
    spec = next(plan(load_suite(suite), only=cell))
    training = spec.training.model_copy(update={"steps": 3, "observe": 0, "select": "last"})
    done = run(Order(resolve(spec.model_copy(update={"training": training})), tmp_path / "state.pt"))
    assert isinstance(done, Done)
    metrics = done.record.metrics
    assert metrics.held_out == metric
    if metric:
        rows = pd.read_parquet(pa.BufferReader(done.predictions))
        if "logits" in rows:
            expected = log_loss(rows["target"], softmax(np.stack(rows["logits"]), axis=1))
        else:
            expected = -rows["loglikelihood"].mean()
        assert metrics.best == {"accuracy": metrics.best["accuracy"], "nll": pytest.approx(expected)}
        assert metrics.last == metrics.best
        assert metrics.scales["nll"].lower_is_better
    else:
        assert list(metrics.best) == ["mse"]
