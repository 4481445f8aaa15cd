"""Tasks without data: deterministic, learnable, and as hard as they say."""

import pytest
import torch

from rankbench import tasks
from rankbench.tasks.metrics import metric
from tests.tiny_text import bert, llama


def train(task, model, steps, rate, seed=0):
    examples = task.prepare(None).train
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        chosen = torch.randint(len(examples), (32,), generator=generator).tolist()
        batch = task.collate([examples[i] for i in chosen])
        (task.loss(model, batch.inputs) / batch.weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    return task.score(model, "test").metrics[task.metric]


@pytest.mark.parametrize("name", ["tiny-classification", "tiny-causal"])
def test_splits_are_distinct_and_the_same_every_time(name):
    task = tasks.create(name)
    first, again = task.prepare(None), tasks.create(name).prepare(None)
    assert first.sha256 == again.sha256 != tasks.create(name, data_seed=1).prepare(None).sha256
    ids = [tuple(row["input_ids"]) for rows in task._splits.values() for row in rows]
    assert len(ids) == len(set(ids)) == sum(first.sizes.values())
    assert max(map(max, ids)) < 32
    assert set(map(len, ids)) == set(range(6, 13))
    with pytest.raises(tasks.TaskError, match="too few distinct"):
        tasks.create(name, length=4, vocabulary=8, train=400).prepare(None)


def test_the_classes_can_be_learnt():
    task, model = tasks.create("tiny-classification"), bert(2, vocabulary=32)
    task.prepare(None)
    before = task.score(model, "test").metrics["accuracy"]
    assert train(task, model, steps=60, rate=3e-3) > max(0.85, before)
    assert task.logits(model).shape == (16, 2)


def test_the_repetition_can_be_learnt():
    task, model = tasks.create("tiny-causal"), llama(vocabulary=32)
    assert train(task, model, steps=1, rate=0) < 0.1
    task.prepare(None)
    start = task.loss(model, task.collate(task._splits["test"]).inputs).item()
    train(task, model, steps=150, rate=5e-3)
    assert task.loss(model, task.collate(task._splits["test"]).inputs).item() < 0.7 * start
    assert task.logits(model).shape == (16, 32)


def test_a_repetition_is_right_or_wrong_and_no_constant_answer_is_known():
    task = tasks.create("tiny-causal")
    task.prepare(None)
    score = task.score(llama(vocabulary=32), "test")
    assert score.predictions["score"].mean() == score.metrics["accuracy"]
    assert "target" not in score.predictions


def test_regression_needs_a_full_rank_change():
    task = tasks.create("linear-regression", width=16)
    prepared = task.prepare(None)
    x = torch.stack([row["x"] for row in prepared.train])
    y = torch.stack([row["y"] for row in prepared.train])
    model = task.build_model(seed=0)
    target = torch.linalg.lstsq(x, y).solution.T
    change = target - model.linear.weight.detach()
    assert torch.linalg.matrix_rank(change, atol=1e-3) == 16
    assert torch.equal(model.linear.weight, task.build_model(seed=5).linear.weight)
    with torch.no_grad():
        model.linear.weight.copy_(target)
    assert task.score(model, "test").metrics["mse"] < 1e-8


def test_regression_loss_and_score():
    task = tasks.create("linear-regression", width=8, train=32)
    train_set = task.prepare(None).train
    model = task.build_model(seed=0)
    batch = task.collate(train_set)
    assert batch.weight == 32
    errors = torch.stack([model(row["x"]) - row["y"] for row in train_set])
    assert task.loss(model, batch.inputs).item() == pytest.approx(0.5 * (errors**2).sum().item(), rel=1e-5)
    score = task.score(model, "test")
    rows = score.predictions
    assert score.metrics["mse"] == pytest.approx(rows["squared_error"].mean(), rel=1e-6)
    x, y = task._data["test"]
    assert len(rows) == len(x)
    assert rows["squared_error"][3] == pytest.approx(((model(x[3]) - y[3]) ** 2).mean().item(), rel=1e-5)
    assert metric(task.metric).lower_is_better
    assert task.logits(model).shape == (16, 8)
