"""Every registered task keeps the contract of `tasks.base`, on made-up rows or on its package's."""

from __future__ import annotations

import importlib.util
from functools import partial

import pytest

from rankbench import tasks
from rankbench.bench.conformance import tasks as rules
from rankbench.tasks.causal.stock import STOCK
from rankbench.tasks.metrics import METRICS
from rankbench.tasks.text.glue import SHAPES
from tests.tasks import made_data

PACKAGED = {"movie", "amazon", "tweets", "movie-text", "bbc"}
LACKS_GENERATOR = importlib.util.find_spec("reasoning_gym") is None
WRITTEN = 8
"""Tokens of a generated answer: a model that was never trained does not end one."""


def marks(name):
    if name in PACKAGED:
        return [pytest.mark.network]
    if name == "arithmetic":
        reason = "the arithmetic extra is not installed"
        return [pytest.mark.slow, pytest.mark.skipif(LACKS_GENERATOR, reason=reason)]
    return []


@pytest.fixture(scope="module", params=[pytest.param(name, marks=marks(name)) for name in tasks.names()])
def prepared(request, tmp_path_factory):
    """Each task with its data, and a tiny model of the kind that it asks for."""
    name = request.param
    trial = rules.prepared(made_data.create(name, tmp_path_factory.mktemp(name)))
    if name in (*STOCK, "arithmetic") and trial.task.selection_metric:
        trial.task._task.config.generation_kwargs["max_gen_toks"] = WRITTEN
    return trial


@pytest.mark.parametrize("name", sorted({*tasks.names()} - made_data.USERS))
def test_it_says_what_it_is_without_its_data(name, monkeypatch):
    monkeypatch.delenv("RANKBENCH_MIRROR", raising=False)
    rules.says_what_it_is_without_its_data(partial(tasks.create, name), name)
    rules.has_its_options_in_its_fingerprint(partial(tasks.create, name), {"train": 7})
    assert tasks.create(name, train=7).protocol() == tasks.create(name).protocol(), (
        "of sizes, what is used counts"
    )


def test_no_text_is_in_two_splits_and_the_data_are_the_same_again(prepared, tmp_path):
    rules.has_no_text_in_two_splits(lambda: prepared.task)
    rules.prepares_the_same_again(lambda: made_data.create(prepared.task.name, tmp_path), prepared)


def test_the_loss_is_a_sum_over_what_the_weights_count(prepared):
    rules.prepares_what_it_says(prepared)
    rules.sums_its_loss_over_what_the_weights_count(prepared)


@pytest.mark.parametrize("split", ["selection", "test"])
def test_scores_come_with_their_evidence_and_change_nothing(prepared, split):
    task = prepared.task
    score = rules.scores_with_its_evidence_and_changes_nothing(prepared, split)
    main = task.metric if split == "test" else task.selection_metric or task.metric
    by_item = "score" in score.predictions or METRICS[main].parts or main == "acc"
    assert by_item or main == "answer_loglikelihood", "a mean over tokens"


def test_outputs_to_compare_are_those_of_a_few_selection_items(prepared):
    rules.compares_outputs_of_a_few_selection_items(prepared)


@pytest.mark.parametrize("prepared", sorted(STOCK), indirect=True)
def test_lm_evals_tasks_are_trained_on_their_right_answers(prepared):
    task, data, _ = prepared
    assert data.sizes == {"train": 5, "selection": 3, "test": 2}
    answers = {task._tokenizer.decode(row["answer"]) for row in data.train}
    if task.entry.generation:
        assert all(answer.endswith(f"{made_data.ANSWERS[task.name]}<eos>") for answer in answers)
    else:
        assert answers == {made_data.ANSWERS[task.name]}


@pytest.mark.parametrize("prepared", sorted(SHAPES), indirect=True)
def test_glues_tasks_have_their_metrics_and_leave_out_what_leaks(prepared):
    task, data, model = prepared
    assert (data.sizes["train"], data.sizes["selection"], data.sizes["test"]) == (8, 4, 4)
    assert data.dropped == 1
    score = task.score(model, "test")
    expected = {"cola": {"matthews_correlation"}, "stsb": {"pearson", "spearman"}}
    expected |= {"mrpc": {"accuracy", "f1"}, "qqp": {"accuracy", "f1"}}
    expected |= {"mnli": {"accuracy", "accuracy_mismatched"}}
    assert set(score.metrics) == expected.get(task.name, {"accuracy"})
    assert "accuracy_mismatched" not in task.score(model, "selection").metrics
    if task.name == "mnli":
        parts = score.predictions["item"].str.split("/").str[0].value_counts().to_dict()
        assert parts == {"matched": 4, "mismatched": 4}
