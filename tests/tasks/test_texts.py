"""An empty text, a very long one, other scripts, pictures: through training and scoring to the record."""

import json

import pandas as pd
import pytest
from datasets import Dataset
from transformers import BertConfig, BertModel

from rankbench import tasks
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training
from rankbench.tasks.causal.stock import STOCK
from tests.bench.tiny_suite import record_of
from tests.tasks.made_data import ROWS, write_stock
from tests.tiny_text import encoder_tokenizer, llama, tokenizer, write_mirror

TEXTS = {
    "empty": "",
    "blank": " \t\n",
    "long": "many words " * 900,
    "devanagari": "दिन",
    "devanagari, another vowel": "दीन",
    "right to left": "שלום עולם",
    "han": "今天天气很好",
    "emoji": "👍",
    "another emoji": "👎",
    "family": "👨‍👩‍👧‍👦",
    "plus": "C++",
    "sharp": "C#",
    "control": "a\x00b\x1b[31m",
    "lines": 'one\ntwo\r\nthree "quoted"',
}
EMPTY = 2  # the empty and the blank text are one


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    config = BertConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(root / "bert")
    encoder_tokenizer().save_pretrained(root / "bert")
    llama().save_pretrained(root / "llama")
    tokenizer(1024).save_pretrained(root / "llama")
    return root


def record(root, folder, name, mirror, targets, **options):
    """One run of two steps, read back from the disk with its predictions."""
    spec = RunSpec(
        suite="texts",
        experiment=name,
        label="lora",
        seed=0,
        task={"name": name, "mirror": str(mirror), **options},
        model=Model(name=str(folder)),
        targets=targets,
        training=Training(steps=2, batch_size=4, learning_rate=1e-3, observe=0, select="last"),
        adapter=AdapterSpec(name="lora", rank=2),
    )
    record_of(spec, root / "results")
    path = root / "results/runs" / f"{name}--lora--s0.json"
    return json.loads(path.read_text()), pd.read_parquet(path.with_suffix(".parquet"))


def glue(root, count=20):
    plain = [f"plain {i}" for i in range(count)]
    train = {"sentence": [*plain, *TEXTS.values()], "label": [i % 2 for i in range(count + len(TEXTS))]}
    scored = [f"{text} !" if text.strip() else text for text in TEXTS.values()]
    test = {"sentence": scored, "label": [i % 2 for i in range(len(TEXTS))]}
    splits = {"train": Dataset.from_dict(train), "validation": Dataset.from_dict(test)}
    return write_mirror(root, "nyu-mll/glue", "sst2", splits)


@pytest.mark.parametrize(
    ("model", "targets", "special"),
    [("bert", ["query"], 2), ("llama", ["q_proj"], 0)],
    ids=["encoder", "decoder"],
)
def test_texts_to_classify(tmp_path, folders, model, targets, special):
    mirror = glue(tmp_path)
    made, predictions = record(tmp_path, folders / model, "sst2", mirror, targets, selection=4, max_length=64)
    assert predictions["item"].tolist() == [str(i) for i in range(len(TEXTS))]
    assert predictions["logits"].map(lambda row: pd.Series(row).notna().all()).all()
    protocol = made["protocol"]
    assert protocol["sizes"] == {"train": 20 + len(TEXTS) - 4 - EMPTY, "selection": 4, "test": len(TEXTS)}
    assert protocol["dropped"] == EMPTY, "no two of the others are one text"
    assert protocol["truncated"]["train"] + protocol["truncated"]["selection"] == 1
    cut = sum(len(f"{text} !".encode()) + special > 64 for text in TEXTS.values())
    assert protocol["truncated"]["test"] == cut == 1


def stock(root, name, field, count=8):
    """The stock task's rows with every text in its main column, and in no other."""

    def rows(prefix, texts):
        filled = {k: v.format(prefix) if isinstance(v, str) else v for k, v in ROWS[name].items()}
        return Dataset.from_list([filled | {field: text} for text in texts])

    train = [f"plain {i}" for i in range(count)] + [f"{text} ?" for text in TEXTS.values()]
    splits = {"train": rows("train", train), STOCK[name].evaluated: rows("scored", TEXTS.values())}
    return write_stock(root, name, splits)


def test_texts_to_choose_an_answer_for(tmp_path, folders):
    mirror = stock(tmp_path, "piqa", "goal")
    made, predictions = record(
        tmp_path, folders / "llama", "piqa", mirror, ["q_proj"], selection=4, max_length=128
    )
    assert predictions["item"].tolist() == [str(i) for i in range(len(TEXTS))]
    protocol = made["protocol"]
    assert protocol["sizes"]["test"] == len(TEXTS)
    assert protocol["truncated"]["test"] == 1
    assert protocol["dropped"] == 0, "no text is in both splits"


@pytest.mark.slow
def test_texts_to_write_an_answer_to(tmp_path, folders):
    mirror = stock(tmp_path, "gsm8k", "question")
    made, predictions = record(
        tmp_path, folders / "llama", "gsm8k", mirror, ["q_proj"], selection=4, max_length=512
    )
    assert predictions["item"].tolist() == [str(i) for i in range(len(TEXTS))]
    assert made["protocol"]["truncated"]["test"] == 1


def test_choices_that_are_empty_or_pictures(tmp_path, folders):
    rows = Dataset.from_list(
        [
            {"goal": f"goal {i}", "sol1": one, "sol2": "👎 नहीं", "label": i % 2}
            for i, one in enumerate(text for text in TEXTS.values() if text.strip())
        ]
    )
    held = rows.map(lambda row: {"goal": f"held {row['goal']}"})
    mirror = write_mirror(tmp_path, "baber/piqa", "default", {"train": rows, "validation": held})
    with pytest.raises(tasks.TaskError, match=r"an answer has 9\d+ tokens, above max_length 256; raise it"):
        tasks.create("piqa", mirror=mirror, selection=2).prepare(tokenizer(1024))
    held, rows = (data.filter(lambda row: len(row["sol1"]) < 99) for data in (held, rows))
    mirror = write_mirror(tmp_path / "short", "baber/piqa", "default", {"train": rows, "validation": held})
    made, predictions = record(tmp_path, folders / "llama", "piqa", mirror, ["q_proj"], selection=4)
    assert len(predictions) == len(rows) == len(TEXTS) - EMPTY - 1
    assert made["protocol"]["sizes"]["train"] == len(rows) - 4
