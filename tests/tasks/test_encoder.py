"""Encoder tasks: metrics against hand-made values, encoding, batching and scoring."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from transformers import AutoConfig, AutoModelForSequenceClassification

from rankbench.tasks import Head, TaskError
from rankbench.tasks.options import Sizes
from rankbench.tasks.text.encoder import EncoderTask, Item, Items
from rankbench.tasks.text.measure import measure
from tests.tiny_text import END_READERS, bert, encoder_tokenizer, end_reader

TEXTS = ["good", "a rather long and tiresome sentence", "bad film", "fine", "no", "what a day it was"]

RATED = ("pearson", "spearman", "mse")


class Toy(EncoderTask):
    licence, source = "none", "here"

    def __init__(self, outputs=2, max_length=32, splits=("train", "selection", "test"), scoring_batch=4):
        self.head = Head("sequence", outputs)
        self.metrics = ("accuracy",) if outputs > 1 else RATED
        self.kept = splits
        super().__init__("toy", Sizes(None, None, None, max_length, scoring_batch))

    def items(self):
        labels = [i % 2 if self.head.outputs > 1 else i / 2 - 1 for i in range(len(TEXTS))]
        rows = [
            Item(str(i), (text, "why"), label)
            for i, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
        ]
        return Items({split: rows if split in self.kept else [] for split in ("train", "selection", "test")})

    def source_pin(self):
        return {}

    def fetch(self):
        pass


def test_metrics_agree_with_the_confusion_table():
    target, predicted = [1, 1, 1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 1, 0, 0, 1]
    tp, tn, fp, fn = 3, 3, 1, 1
    matthews = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert measure(["matthews_correlation"], target, predicted) == pytest.approx(
        {"matthews_correlation": matthews}
    )
    assert measure(["accuracy", "f1"], target, predicted) == pytest.approx({"accuracy": 6 / 8, "f1": 3 / 4})
    assert measure(["accuracy"], [2, 1, 0], [2, 1, 1]) == pytest.approx({"accuracy": 2 / 3})
    assert measure(["matthews_correlation"], target, predicted)["matthews_correlation"] == pytest.approx(
        metrics.matthews_corrcoef(target, predicted)
    )


def test_correlations_agree_with_their_definitions():
    generator = np.random.default_rng(0)
    target = generator.normal(size=50)
    predicted = target + generator.normal(size=50)
    values = measure(RATED, target.tolist(), predicted.tolist())
    centred, other = target - target.mean(), predicted - predicted.mean()
    pearson = centred @ other / np.sqrt((centred @ centred) * (other @ other))
    assert values["pearson"] == pytest.approx(pearson, abs=1e-5)
    assert values["mse"] == pytest.approx(((target - predicted) ** 2).mean(), rel=1e-5)
    ranks = np.corrcoef(stats.rankdata(target), stats.rankdata(predicted))[0, 1]
    assert values["spearman"] == pytest.approx(ranks, abs=1e-5)
    assert measure(["pearson", "spearman"], [0.0, 1.0], [3.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize("split", ["selection", "test"])
def test_items_of_one_class_have_no_matthews_correlation(split, monkeypatch):
    """7 in 10 of CoLA's sentences are acceptable: a slice of a few may hold no other."""
    task = Toy()
    task.metrics = ("matthews_correlation",)
    items = task.items()
    items.splits[split] = [item for item in items.splits[split] if item.label]
    monkeypatch.setattr(task, "items", lambda: items)

    def begin():
        task.prepare(encoder_tokenizer())
        task.check_split("selection")

    with pytest.raises(TaskError, match=f"matthews_correlation is 0 on the {split} split whatever"):
        begin()


def test_long_texts_are_cut_and_counted():
    task = Toy(max_length=16)
    prepared = task.prepare(encoder_tokenizer())
    whole = [len(text) + len("why") + 3 for text in TEXTS]
    cut = sum(length > 16 for length in whole)
    assert prepared.truncated == {"train": cut, "selection": cut, "test": cut}
    assert cut > 0
    assert list(prepared.lengths) == [min(length, 16) for length in whole]


def test_the_batch_is_padded_to_its_longest_and_leaves_examples_alone():
    task = Toy()
    train = task.prepare(encoder_tokenizer()).train
    batch = task.collate(train[:3])
    assert batch.weight == 3
    assert batch.inputs["input_ids"].shape == (3, 32)
    assert batch.inputs["attention_mask"].sum(1).tolist() == [len(row["input_ids"]) for row in train[:3]]
    assert batch.inputs["labels"].tolist() == [0, 1, 0]
    assert task.collate(train[3:5]).inputs["input_ids"].shape[1] == len("fine" + "why") + 3
    assert all("labels" in row for row in train)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_loss_is_a_sum_over_examples(outputs):
    task = Toy(outputs)
    train = task.prepare(encoder_tokenizer()).train
    model = bert(outputs).eval()
    inputs = task.collate(train).inputs
    total = task.loss(model, inputs)
    assert "labels" in inputs
    single = sum(task.loss(model, task.collate([row]).inputs) for row in train)
    assert total.item() == pytest.approx(single.item(), rel=1e-5)
    logits = model(**{key: value for key, value in inputs.items() if key != "labels"}).logits.detach()
    labels = np.array([row["labels"] for row in train])
    if outputs == 1:
        byhand = ((logits[:, 0].numpy() - labels) ** 2).sum()
    else:
        byhand = -logits.log_softmax(-1).numpy()[np.arange(len(labels)), labels].sum()
    assert total.item() == pytest.approx(byhand, rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_scoring_keeps_order(outputs):
    task = Toy(outputs)
    task.prepare(encoder_tokenizer())
    model = bert(outputs, dropout=0.5).train()
    score = task.score(model, "test")
    rows = score.predictions
    assert rows["item"].tolist() == [str(i) for i in range(len(TEXTS))]
    assert set(rows) >= {"item", "target", "prediction", "logits"}
    logits = np.array(rows["logits"].tolist())
    model.eval()
    for i, example in enumerate(task._encoded["test"]):
        inputs = task.collate([example]).inputs
        inputs.pop("labels")
        assert logits[i] == pytest.approx(model(**inputs).logits[0].detach().numpy(), abs=1e-5)
    if outputs == 2:
        assert score.metrics["accuracy"] == (rows["target"] == rows["prediction"]).mean()
        assert rows["prediction"].tolist() == logits.argmax(1).tolist()
    assert task.logits(model).numpy() == pytest.approx(logits, abs=1e-5)


def test_bad_input():
    with pytest.raises(TaskError, match="tokenizer"):
        Toy().prepare(None)
    unpadded = encoder_tokenizer()
    unpadded.pad_token = None
    with pytest.raises(TaskError, match="a tokenizer with a padding token"):
        Toy().prepare(unpadded)
    with pytest.raises(TaskError, match="max_length 32 is above the 20 tokens"):
        Toy().prepare(encoder_tokenizer(max_length=20))
    with pytest.raises(TaskError, match="max_length 600 is above the 512 tokens"):
        Toy(max_length=600).check_model(bert(2))
    Toy().check_model(bert(2))
    with pytest.raises(TaskError, match="selection split is empty"):
        Toy(splits=("train", "test")).prepare(encoder_tokenizer())


SHAPE = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("kind", "shape", "tokens"),
    [
        ("roberta", {"max_position_embeddings": 42}, 40),
        ("xlm-roberta", {"max_position_embeddings": 42}, 40),
        ("camembert", {"max_position_embeddings": 42}, 40),
        ("mpnet", {"max_position_embeddings": 42}, 40),
        ("longformer", {"max_position_embeddings": 42, "attention_window": 4}, 40),
        ("roberta", {"max_position_embeddings": 42, "pad_token_id": 0}, 41),
        ("bert", {"max_position_embeddings": 42}, 42),
        ("opt", {"max_position_embeddings": 42, "ffn_dim": 8, "word_embed_proj_dim": 8}, 42),
        ("gpt2", {"n_positions": 42, "n_embd": 8, "n_layer": 1, "n_head": 2}, 42),
    ],
)
def test_as_many_tokens_fit_as_the_model_takes(kind, shape, tokens):
    """The longest text that passes the check runs, and one more token breaks the model itself."""
    shape = {**({} if kind == "gpt2" else SHAPE | {"intermediate_size": 8}), "pad_token_id": 1, **shape}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **shape)).eval()
    Toy(max_length=tokens).check_model(model)
    with pytest.raises(TaskError, match=f"max_length {tokens + 1} is above the {tokens} tokens"):
        Toy(max_length=tokens + 1).check_model(model)
    model(input_ids=torch.full((1, tokens), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, tokens + 1), 5))


def test_a_model_without_a_limit_takes_any_length():
    config = AutoConfig.for_model("xlnet", vocab_size=50, d_model=8, n_layer=1, n_head=2, d_inner=8)
    Toy(max_length=10**6).check_model(AutoModelForSequenceClassification.from_config(config))


@pytest.mark.parametrize("kind", END_READERS)
def test_a_text_with_the_models_own_end_in_it_is_named(kind, monkeypatch):
    made = encoder_tokenizer()
    ends, no_ends = (end_reader(kind, end) for end in ("<sep>", "<eos>"))
    task = Toy()
    task.prepare(made)
    task.check_model(ends)
    assert len(task.score(ends, "test").predictions) == len(TEXTS)
    with pytest.raises(TaskError, match="item 0 of the train split has 0 times, not 1, the token '<eos>'"):
        task.check_model(no_ends)
    monkeypatch.setitem(globals(), "TEXTS", [*TEXTS[:3], "fine <sep> so", *TEXTS[4:]])
    task.prepare(made)
    with pytest.raises(ValueError, match="same number of <eos>"):
        task.score(ends, "test")
    with pytest.raises(TaskError, match="item 3 of the train split has 3 times, not 2, the token '<sep>'"):
        task.check_model(ends)
    task.check_model(bert(2))


@pytest.mark.parametrize("kind", ["fnet", "bert"])
def test_a_model_that_mixes_padding_into_a_text_is_refused(kind):
    """By its own outputs: of the shortest text alone, and padded as beside the longest."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SHAPE | {"vocab_size": 260, "intermediate_size": 8})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    task, one_by_one = Toy(), Toy(scoring_batch=1)
    examples = task.prepare(encoder_tokenizer()).train
    one_by_one.prepare(encoder_tokenizer())
    short, *_, long = sorted(examples, key=lambda example: len(example["input_ids"]))
    with torch.no_grad():
        alone, beside = (model(**task.collate(batch).inputs).logits[0] for batch in ([short], [short, long]))
    assert torch.allclose(alone, beside, atol=1e-5) == (kind == "bert")
    one_by_one.check_model(model)
    if kind == "bert":
        task.check_model(model)
    else:
        with pytest.raises(TaskError, match=r"\(fnet\) answers otherwise .*; say scoring_batch: 1, or name"):
            task.check_model(model)


def test_the_hash_covers_texts_and_labels(monkeypatch):
    first = Toy().prepare(encoder_tokenizer()).sha256
    assert Toy().prepare(encoder_tokenizer()).sha256 == first
    assert Toy(outputs=1).prepare(encoder_tokenizer()).sha256 != first
    monkeypatch.setitem(globals(), "TEXTS", ["other", *TEXTS[1:]])
    assert Toy().prepare(encoder_tokenizer()).sha256 != first
