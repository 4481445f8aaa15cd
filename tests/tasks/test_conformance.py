"""Every registered task keeps the contract of `tasks.base`, on made-up rows or on its package's."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch

from rankbench import tasks
from rankbench.tasks.causal.stock import STOCK
from rankbench.tasks.metrics import BESIDE, METRICS
from rankbench.tasks.text.glue import SHAPES
from tests.tasks import made_data
from tests.tiny_text import bert, encoder_tokenizer, llama, tokenizer

PACKAGED = {"movie", "amazon", "tweets", "bbc"}
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
    task = made_data.create(name, tmp_path_factory.mktemp(name))
    if task.head.kind == "own":
        return task, task.prepare(None), task.build_model(seed=0)
    if task.head.kind == "causal":
        data = task.prepare(tokenizer(1024))
        if task.selection_metric:
            task._task.config.generation_kwargs["max_gen_toks"] = WRITTEN
        return task, data, llama()
    return task, task.prepare(encoder_tokenizer()), bert(task.head.outputs, dropout=0.5)


@pytest.mark.parametrize("name", sorted({*tasks.names()} - made_data.USERS))
def test_it_says_what_it_is_without_its_data(name, monkeypatch):
    monkeypatch.delenv("RANKBENCH_MIRROR", raising=False)
    task = tasks.create(name)
    assert task.name == name
    assert task.licence
    assert task.source
    assert {task.metric, task.selection_metric or task.metric} <= METRICS.keys()
    fingerprint = task.fingerprint()
    assert fingerprint["task"] == name
    assert fingerprint["version"] == type(task).version
    assert fingerprint["source"]
    assert json.loads(json.dumps(fingerprint))
    assert tasks.create(name).fingerprint() == fingerprint
    assert tasks.create(name, train=7).fingerprint() != fingerprint
    assert tasks.create(name, train=7).protocol() == task.protocol(), "of sizes, what is used counts"


def test_the_loss_is_a_sum_over_what_the_weights_count(prepared):
    task, data, model = prepared
    assert len(data.train) == len(data.lengths) == data.sizes["train"] > 0
    chosen = list(data.train)[:4]
    batch = task.collate(chosen)
    singles = [task.collate([example]) for example in chosen]
    assert batch.weight == sum(single.weight for single in singles)
    assert {len(tensor) for tensor in batch.inputs.values()} == {len(chosen)}
    model.eval()
    total = task.loss(model, batch.inputs)
    total.backward()
    assert total.item() == pytest.approx(sum(task.loss(model, s.inputs).item() for s in singles), rel=1e-4)


@pytest.mark.parametrize("split", ["selection", "test"])
def test_scores_come_with_their_evidence_and_change_nothing(prepared, split):
    task, data, model = prepared
    model.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    score = task.score(model, split)
    assert torch.equal(torch.rand(2), expected)
    assert model.training
    for name, value in score.metrics.items():
        assert METRICS[name].low <= value <= METRICS[name].high
    rows = score.predictions
    counted = rows[~rows["item"].str.startswith(BESIDE)]
    assert len(counted) == data.sizes[split]
    assert rows["item"].is_unique
    main = task.metric if split == "test" else task.selection_metric or task.metric
    if "score" in rows:
        parts = rows["score"]
    elif split := METRICS[main].parts:
        parts = split.of(*(counted[column].to_numpy(float) for column in split.columns))
    elif main == "acc":
        parts = rows["target"] == rows["prediction"]
    else:
        assert main == "answer_loglikelihood", "a mean over tokens"
        return
    assert np.mean(parts) == pytest.approx(score.metrics[main], rel=1e-5)


def test_outputs_to_compare_are_those_of_a_few_selection_items(prepared):
    task, data, model = prepared
    outputs = task.logits(model)
    assert outputs.ndim == 2
    assert 0 < len(outputs) <= data.sizes["selection"]
    assert torch.equal(outputs, task.logits(model))


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
