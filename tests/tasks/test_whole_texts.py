"""Whole texts: what is learned of them, and their perplexity."""

import math

import pytest
import torch

from rankbench import tasks
from rankbench.tasks.text.encoder import Item, Items
from tests.tiny_text import llama, tokenizer

TEXTS = {
    "train": ["a bore", "a delight", "it moves"],
    "selection": ["so it goes"],
    "test": ["one of the best", "no", "two hours lost"],
}


@pytest.fixture
def task(monkeypatch):
    """With made-up texts in the place of the package's."""
    items = {
        split: [Item(f"{split}{i}", (text,), 1.0) for i, text in enumerate(texts)]
        for split, texts in TEXTS.items()
    }
    made = tasks.create("movie-text", scoring_batch=2)
    monkeypatch.setattr(made.corpus, "items", lambda: Items(items))
    return made


def by_hand(model, text):
    """Summed loss and number of the tokens of a text after its first, by transformers' own loss."""
    words = tokenizer()
    ids = torch.tensor([[*words(text, add_special_tokens=False)["input_ids"], words.eos_token_id]])
    with torch.no_grad():
        mean = model(input_ids=ids, labels=ids).loss.item()
    return mean * (ids.shape[1] - 1), ids.shape[1] - 1


@pytest.mark.parametrize("split", ["selection", "test"])
def test_the_perplexity_is_that_of_a_token_of_the_split(task, split):
    model = llama().eval()
    task.prepare(tokenizer())
    score = task.score(model, split)
    found = [by_hand(model, text) for text in TEXTS[split]]
    losses, counts = (sum(column) for column in zip(*found, strict=True))
    assert score.metrics["perplexity"] == pytest.approx(math.exp(losses / counts), rel=1e-5)
    rows = score.predictions
    assert -rows["loglikelihood"].to_numpy() == pytest.approx([loss for loss, _ in found], rel=1e-5)
    assert rows["tokens"].tolist() == [count for _, count in found]
    assert rows["score"].mean() == pytest.approx(score.metrics["perplexity"])


def test_what_is_trained_on_is_every_token_but_the_first(task):
    model = llama().eval()
    data = task.prepare(tokenizer())
    batch = task.collate(data.train)
    found = [by_hand(model, text) for text in TEXTS["train"]]
    assert batch.weight == sum(count for _, count in found)
    with torch.no_grad():
        assert task.loss(model, batch.inputs).item() == pytest.approx(
            sum(loss for loss, _ in found), rel=1e-5
        )


def test_longer_texts_are_cut_and_counted(monkeypatch, task):
    short = tasks.create("movie-text", max_length=6)
    monkeypatch.setattr(short.corpus, "items", task.corpus.items)
    data = short.prepare(tokenizer())
    assert data.truncated == {"train": 2, "selection": 1, "test": 2}
    assert max(data.lengths) == 6


def test_a_text_with_nothing_to_learn_is_refused(monkeypatch, task):
    empty = Items({split: [Item("x", ("",), 1.0)] for split in TEXTS})
    monkeypatch.setattr(task.corpus, "items", lambda: empty)
    with pytest.raises(tasks.TaskError, match="movie-text: a text of train has no token"):
        task.prepare(tokenizer())


def test_it_needs_a_tokenizer_that_ends_a_text(task):
    with pytest.raises(tasks.TaskError, match="movie-text needs the tokenizer of a causal model"):
        task.prepare(None)


@pytest.mark.parametrize("option", ["train", "selection", "test", "max_length", "scoring_batch"])
def test_bad_counts_are_refused_by_the_task_s_own_name(option):
    with pytest.raises(tasks.TaskError, match=f"^movie-text: {option} must be a whole number above 0, got 0"):
        tasks.create("movie-text", **{option: 0})
