"""What is wrong with data is told in one line, with file, split, row, column and value, before training."""

import math

import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from pyarrow import parquet

from rankbench import tasks
from rankbench.tasks.causal.stock import STOCK
from rankbench.tasks.options import Sizes
from rankbench.tasks.text.encoder import EncoderTask, Item, Items
from tests.tasks.made_data import stock_splits, write_stock
from tests.tiny_text import encoder_tokenizer, tokenizer, write_mirror

NAN = math.nan


def column(values: list, kind: pyarrow.DataType | None = None) -> pyarrow.Array:
    return pyarrow.array(values, type=kind)


def glue(root, name="rte", split="validation", **changed):
    """GLUE's `name` with ten training and four validation rows, one column of one split replaced."""
    texts = ("sentence1", "sentence2")
    for each, count in (("train", 10), ("validation", 4)):
        columns = {c: column([f"{each} {c} {i}" for i in range(count)]) for c in texts}
        columns |= {"label": column([i % 2 for i in range(count)]), "idx": column(list(range(count)))}
        if each == split:
            columns |= changed
        path = root / "nyu-mll/glue" / name / f"{each}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table({k: v for k, v in columns.items() if v is not None}), path)
    return tasks.create(name, selection=2, mirror=root)


def fault(task, made=None) -> str:
    with pytest.raises(tasks.TaskError) as error:
        task.prepare(made or encoder_tokenizer())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    ("labels", "value"),
    [
        (column([0, 1, -1, 0]), "-1"),
        (column([0, 1, None, 0]), "None"),
        (column([0, 1, 2, 0]), "2"),
        (column([0.0, 1.0, 0.5, 0.0]), "0.5"),
        (column([0.0, 1.0, NAN, 0.0]), "nan"),
        (column(["entailment"] * 4), "'entailment'"),
        (column([""] * 4), "''"),
    ],
)
def test_a_label_that_is_no_class(tmp_path, split, labels, value):
    labels = labels if split == "validation" else pyarrow.concat_arrays([labels, labels, labels[:2]])
    row = 0 if value.startswith("'") else 2
    text = fault(glue(tmp_path, split=split, label=labels))
    assert f"rte/{split}-00000-of-00001.parquet, split {split}, row {row}, column 'label': " in text
    assert f"label {value} is none of the classes 0 to 1" in text


def test_a_hidden_label_beyond_the_items_asked_for(tmp_path):
    task = glue(tmp_path, label=column([0, 1, 0, -1]))
    small = tasks.create("rte", selection=2, test=1, mirror=task.mirror)
    assert "row 3, column 'label': label -1" in fault(small)


def test_the_hidden_test_split_of_glue_taken_for_validation(tmp_path):
    text = fault(glue(tmp_path, label=column([-1] * 4)))
    assert text.endswith("label -1 is none of the classes 0 to 1 (hidden, as in a test split?)")


@pytest.mark.parametrize("value", [NAN, math.inf, None, -1.0, 5.5])
def test_a_rating_that_is_none(tmp_path, value):
    text = fault(glue(tmp_path, "stsb", label=column([0.0, 5.0, value, 2.5], pyarrow.float32())))
    assert f"split validation, row 2, column 'label': label {value} is " in text


def test_whole_numbers_written_as_floats_are_classes(tmp_path):
    prepared = glue(tmp_path, label=column([0.0, 1.0, 1.0, 0.0])).prepare(encoder_tokenizer())
    assert prepared.sizes["test"] == 4


@pytest.mark.parametrize(("name", "names"), [("mrpc", ["equivalent", "not_equivalent"]), ("rte", ["a", "b"])])
def test_classes_of_the_data_set_in_another_order(tmp_path, name, names):
    """F1 would be that of the other class."""
    task = glue(tmp_path, name)
    for path in tmp_path.rglob("*.parquet"):
        rows = Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
        rows.cast_column("label", ClassLabel(names=names)).to_parquet(path)
    if name == "mrpc":
        assert "in the data set's order: not_equivalent, equivalent" in fault(task)
    else:
        task.prepare(encoder_tokenizer())


@pytest.mark.parametrize("split", ["train", "validation"])
def test_texts_that_are_none(tmp_path, split):
    count = 10 if split == "train" else 4
    values = ["a", None, *map(str, range(count - 2))]
    text = fault(glue(tmp_path, split=split, sentence2=column(values)))
    assert f"split {split}, row 1, column 'sentence2': None is no text" in text
    text = fault(glue(tmp_path, split=split, sentence2=column(list(range(count)))))
    assert "row 0, column 'sentence2': 0 is no text" in text


@pytest.mark.parametrize("name", ["sentence1", "label"])
def test_a_missing_column(tmp_path, name):
    text = fault(glue(tmp_path, split="train", **{name: None}))
    assert f"train-00000-of-00001.parquet, split train: there is no column {name!r}, only " in text
    assert text.endswith("idx")


def test_two_scored_items_of_one_name(tmp_path):
    text = fault(glue(tmp_path, idx=column([7, 7, 8, 9])))
    assert text == "rte: split test: 2 items are named '7'; give each its own `idx`"


class Plugin(EncoderTask):
    """A task from elsewhere: it hands over whatever it has."""

    licence, source, metrics = "none", "here", ("accuracy",)

    def __init__(self, outputs, label):
        self.head, self.label = tasks.Head("sequence", outputs), label
        super().__init__("plug-in", Sizes(None, None, None, 16, 4))

    def items(self):
        good = [Item(str(i), ("text",), 0) for i in range(3)]
        return Items({"train": good, "selection": [*good, Item("bad", ("text",), self.label)], "test": good})

    def source_pin(self):
        return {}

    def fetch(self):
        pass


@pytest.mark.parametrize(("outputs", "label"), [(2, 2), (2, -1), (3, None), (1, NAN), (1, "5")])
def test_labels_of_any_encoder_task_are_checked_against_the_head(outputs, label):
    assert fault(Plugin(outputs, label)).startswith(
        f"plug-in: split selection, item bad: label {label!r} is "
    )


def test_a_selection_slice_that_takes_everything(tmp_path):
    task = glue(tmp_path)
    text = fault(tasks.create("rte", selection=256, mirror=task.mirror))
    assert (
        "of 10 rows of the training split, 0 have a text of the test split, 10 became the selection" in text
    )
    assert "(selection: 256)" in text


def test_a_split_smaller_than_asked_for_is_told_and_is_the_same_protocol(tmp_path):
    task = glue(tmp_path)
    prepared = {
        count: tasks.create("rte", selection=2, train=count, test=count, mirror=task.mirror)
        for count in (None, 4, 5000)
    }
    made = {count: each.prepare(encoder_tokenizer()) for count, each in prepared.items()}
    assert made[None].sizes == made[5000].sizes == {"train": 8, "selection": 2, "test": 4}
    assert made[None].sha256 == made[5000].sha256
    assert made[None].asked == {}
    assert made[5000].asked == {"train": 5000, "test": 5000}
    assert "test: 5000 items asked for, 4 used: there are no more" in made[5000].notes()
    assert made[4].asked == {}
    assert made[4].sha256 != made[None].sha256
    assert prepared[None].protocol() == prepared[5000].protocol()


STOCK_FAULTS = [
    ("piqa", "label", -1, "the answer -1 is hidden"),
    ("piqa", "label", 2, "the answer 2 is none of 0, 1"),
    ("piqa", "sol2", None, "None lacks a choice"),
    ("arc_easy", "choices", {"text": [], "label": []}, "{'text': [], 'label': []} lacks a choice"),
    ("hellaswag", "endings", ["a", "b", "c", None], "['a', 'b', 'c', None] lacks a choice"),
    ("hellaswag", "ctx_b", None, "None is no text"),
    ("piqa", "goal", None, "None is no text"),
    ("boolq", "label", -1, "the answer -1 is hidden"),
    ("hellaswag", "label", "", "the answer '' is hidden"),
    ("hellaswag", "label", "4", "the answer '4' is none of '0', '1', '2', '3'"),
    ("hellaswag", "label", "abc", "the answer 'abc' is none of"),
    ("winogrande", "answer", "", "the answer '' is hidden"),
    ("winogrande", "answer", "3", "the answer '3' is none of '1', '2'"),
    ("social_iqa", "label", "0", "the answer '0' is none of '1', '2', '3'"),
    ("social_iqa", "label", None, "the answer None is hidden"),
    ("commonsense_qa", "answerKey", "F", "the answer 'F' is none of"),
    ("openbookqa", "question_stem", None, "None is no text"),
    ("gsm8k", "answer", None, "the answer None is hidden"),
    ("gsm8k", "answer", " ", "the answer ' ' is hidden"),
    ("sciq", "distractor2", None, "None lacks a choice"),
]


def stock(root, name, split, change):
    """The stock task `name` with eight training and four scored rows, one row of `split` changed."""
    splits = stock_splits(name)
    where = STOCK[name].evaluated if split == "scored" else split
    table = splits[where].to_list()
    table[3] |= change  # the last of the scored split
    splits[where] = Dataset.from_list(table)
    return tasks.create(name, selection=3, mirror=write_stock(root, name, splits)), where


@pytest.mark.parametrize("split", ["train", "scored"])
@pytest.mark.parametrize(("name", "changed", "value", "expected"), STOCK_FAULTS)
def test_a_document_that_cannot_be_learnt_or_scored(tmp_path, split, name, changed, value, expected):
    task, where = stock(tmp_path, name, split, {changed: value})
    text = fault(task, tokenizer(1024))
    assert f"/{where}-00000-of-00001.parquet, split {where}, row 3, column {changed!r}: {expected}" in text


@pytest.mark.parametrize("split", ["train", "scored"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("arc_easy", {"answerKey": "F"}),
        ("openbookqa", {"answerKey": "1"}),
        ("gsm8k", {"answer": "2 and 2 are 4"}),
        ("gsm8k", {"answer": "2 and 2 are 4\n#### four"}),
        ("winogrande", {"sentence": "nothing is left out"}),
        ("commonsense_qa", {"choices": {"text": ["one"], "label": ["A"]}}),
        ("hellaswag", {"endings": ["one"]}),
    ],
)
def test_a_document_that_lm_eval_cannot_ask(tmp_path, split, name, change):
    task, where = stock(tmp_path, name, split, change)
    text = fault(task, tokenizer(1024))
    assert f"split {where}, row 3, columns " in text
    assert "lm-eval cannot ask this" in text


def test_an_empty_choice_is_a_choice_but_in_the_row_that_lm_eval_tries(tmp_path):
    task, _ = stock(tmp_path, "piqa", "scored", {"sol1": ""})
    assert task.prepare(tokenizer(1024)).sizes["test"] == 4
    path = tmp_path / "baber/piqa/default/validation-00000-of-00001.parquet"
    rows = Dataset.from_parquet(str(path), keep_in_memory=True).to_list()
    Dataset.from_list(rows[::-1]).to_parquet(path)
    assert "row 0, which it tries first (IndexError: " in fault(task, tokenizer(1024))


@pytest.mark.parametrize("name", sorted(STOCK))
def test_a_renamed_column(tmp_path, name):
    entry = STOCK[name]
    for column_name in (*entry.prompt, entry.answer, *entry.reads, *entry.choices):
        splits = stock_splits(name)
        splits["train"] = splits["train"].rename_column(column_name, "other")
        write_stock(tmp_path, name, splits)
        text = fault(tasks.create(name, selection=3, mirror=tmp_path), tokenizer(1024))
        assert f"split train: there is no column {column_name!r}, only " in text


def test_class_labels_of_the_hub_may_hide_too(tmp_path):
    features = Features(
        {"sentence1": Value("string"), "sentence2": Value("string"), "label": ClassLabel(names=["a", "b"])}
    )
    made = Dataset.from_dict(
        {"sentence1": ["x", "y"], "sentence2": ["x", "y"], "label": [-1, 0]}, features=features
    )
    write_mirror(tmp_path, "nyu-mll/glue", "rte", {"train": made, "validation": made})
    assert "row 0, column 'label': label -1" in fault(tasks.create("rte", selection=1, mirror=tmp_path))


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_length_that_holds_no_text(tmp_path, limit):
    task = glue(tmp_path)
    text = fault(tasks.create("rte", selection=2, max_length=limit, mirror=task.mirror))
    assert f"max_length {limit} leaves no room for text: this tokenizer adds 3 tokens" in text
