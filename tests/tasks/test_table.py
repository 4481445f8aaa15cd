"""A table of a user's own: labels of every kind, splits, identity; a bad row or option is one line."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from scipy import stats
from sklearn import metrics as theirs
from torch.nn import functional as F

from rankbench import tasks
from rankbench.bench.suite import load_suite, plan
from rankbench.tasks import TaskError
from rankbench.tasks.data.lines import Row
from rankbench.tasks.metrics import Answers
from rankbench.tasks.text.cells import class_names
from rankbench.tasks.text.table import TableTask
from tests.tasks.made_data import write_reviews
from tests.tiny_text import bert, encoder_tokenizer, write_mirror

CSV = "text,label\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with sixty reviews of three stars."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANKBENCH_MIRROR", raising=False)
    write_reviews(tmp_path / "reviews.csv")
    return tmp_path


def make(**options):
    return tasks.create("table", **{"train": "reviews.csv", "text": "body", "label": "stars"} | options)


def prepared(**options):
    task = make(**options)
    return task, task.prepare(encoder_tokenizer())


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def texts(task):
    """Of each split what an item is called -> its texts and label."""
    return {split: {i.id: (i.texts, i.label) for i in items} for split, items in task.items().splits.items()}


def test_classes_are_in_order_and_items_are_called_by_their_line(folder):
    task, data = prepared(label="stars")
    assert task.head == tasks.Head("sequence", 3, ("1", "2", "3"))
    assert sum(data.sizes.values()) == 60
    found = {name: told for items in texts(task).values() for name, told in items.items()}
    assert found["2"] == (("body, 0",), 0)
    assert found["4"] == (("body, good good 2",), 2)
    assert make(labels=[3, 2, 1]).head.labels == ("3", "2", "1")
    names = [{"text": f"text {i}", "label": one} for i, one in enumerate([10, 9, 1.0, "b"] * 20)]
    numbers = [row for row in names if row["label"] != "b"]
    assert make(train=lines(folder / "n.jsonl", numbers), text="text", label="label").head.labels == (
        "1",
        "9",
        "10",
    )
    assert make(train=lines(folder / "t.jsonl", names), text="text", label="label").head.labels == (
        "1",
        "10",
        "9",
        "b",
    )


def test_a_class_that_a_slip_may_have_made_is_told(folder):
    rows = "".join(f"text {i},{['good', 'bad'][i % 2]}\n" for i in range(60))
    (folder / "t.csv").write_text(CSV + rows + "another,goood\n")
    (folder / "test.csv").write_text(CSV + "new,good\nold,bad\n")
    (folder / "dev.csv").write_text(CSV + "so,good\nso so,bad\n")
    files = {"train": "t.csv", "test": "test.csv", "selection": "dev.csv", "text": "text", "label": "label"}
    slip = "; a slip? mend it, or name the classes in labels"
    assert prepared(**files)[1].notes() == [
        f"train: of 61 items hardly any has the class 'goood' (1){slip}",
        f"test: of 2 items hardly any has the class 'goood' (0){slip}",
    ]
    assert prepared(**files, labels=["good", "bad", "goood"])[1].notes() == []
    (folder / "t.csv").write_text(CSV + rows)
    assert prepared(**files)[1].notes() == []
    lists = [{"text": f"text {i}", "tags": ["a", "b"][i % 2 :]} for i in range(60)]
    several = {"text": "text", "label": "tags", "kind": "multi-label"}
    train = lines(folder / "t.jsonl", [*lists, {"text": "another", "tags": ["a", "B"]}])
    notes = prepared(train=train, **several)[1].notes()
    assert any("hardly any has the class 'B' (" in note for note in notes)
    assert not any("'a' (" in note or "'b' (" in note for note in notes)


@pytest.mark.parametrize("other", [True, "True", "false"])
def test_booleans_beside_numbers_are_refused(folder, other):
    rows = [{"text": f"text {i}", "label": [1, "1", 0.0, 2][i % 4]} for i in range(40)]
    mixed = {"train": lines(folder / "t.jsonl", [*rows, {"text": "x", "label": other}])}
    two = {"text": "text", "label": "label"}
    told = message(**mixed, **two)
    assert "t.jsonl, line 41, column 'label': " in told
    assert "is another class than 1 (t.jsonl, line 1); write booleans or numbers alone, or name" in told
    named = ["0", "1", "2", str(other).lower() if other is True else other]
    assert len(make(**mixed, **two, labels=named).head.labels) == 4
    alone = [{"text": f"text {i}", "label": i % 2 == 0} for i in range(40)]
    train = lines(folder / "t.jsonl", alone)
    assert make(train=train, **two).head.labels == ("false", "true")


def test_classes_of_a_data_set_keep_its_order(folder):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["good", "bad", "never"])})
    rows = {"text": [f"text {i}" for i in range(60)], "label": [i % 2 for i in range(60)]}
    data = Dataset.from_dict(rows, features=features)
    data.to_parquet("t.parquet")
    task = make(train="t.parquet", text="text", label="label")
    assert task.head.labels == ("good", "bad", "never")
    mirror = write_mirror(folder / "mirror", "some/data", "default", {"train": data})
    hub = {"hub": "some/data", "revision": "0" * 40}
    named = make(train=hub, text="text", label="label", labels=["good", "bad"], mirror=mirror)
    assert named.prepare(encoder_tokenizer()).sizes == task.prepare(encoder_tokenizer()).sizes
    assert texts(named) == texts(task)
    with pytest.raises(TaskError, match="labels: name the classes of hub data in order"):
        make(train=hub, text="text", label="label")


def test_a_class_and_a_group_have_one_name_however_they_are_written(folder):
    names = ["caf\u00e9", "cafe\u0301", "4", "4.0"]
    rows = [f"text {i},{names[i % 4]},{names[i % 2]} {i // 2}\n" for i in range(120)]
    (folder / "t.csv").write_text("text,label,author\n" + "".join(rows), encoding="utf-8")
    task, data = prepared(train="t.csv", text="text", label="label", group="author")
    assert task.head.labels == ("4", "caf\u00e9")
    split_of = {int(name) - 2: split for split, items in texts(task).items() for name in items}
    assert all(split_of[i] == split_of[i + 1] for i in range(0, 120, 2))
    assert data.dropped == 0


def test_two_columns_are_a_pair(folder):
    task, data = prepared(text=["title", "body"])
    (title, body), _ = texts(task)["train"][task._ids["train"][0]]
    ids = encoder_tokenizer()(title, body)["input_ids"]
    assert data.train[0]["input_ids"] == ids
    assert ids.count(2) == 2, "a separator after each"


def test_ratings_are_learned_in_standard_deviations_and_told_as_they_are(folder):
    rows = [{"text": f"text {i}", "price": 1e6 + 500 * i} for i in range(80)]
    task, data = prepared(
        train=lines(folder / "t.jsonl", rows), text="text", label="price", kind="regression"
    )
    given = np.array([label for _, label in texts(task)["train"].values()])
    learned = torch.tensor([row["labels"] for row in data.train])
    assert learned.numpy() == pytest.approx((given - given.mean()) / given.std())
    model = bert(1).eval()
    batch = task.collate(data.train[:4])
    outputs = model(**{key: value for key, value in batch.inputs.items() if key != "labels"}).logits[:, 0]
    assert task.loss(model, batch.inputs).item() == pytest.approx(((outputs - learned[:4]) ** 2).sum().item())
    score = task.score(model, "test")
    learned = task._outputs(model, task._encoded["test"])[:, 0].numpy()
    target = [label for _, label in texts(task)["test"].values()]
    assert score.predictions["target"].tolist() == target
    prediction = learned * given.std() + given.mean()
    assert score.predictions["prediction"].to_numpy() == pytest.approx(prediction)
    assert np.array(score.predictions["logits"].tolist())[:, 0] == pytest.approx(prediction)
    assert score.metrics["mse"] == pytest.approx(theirs.mean_squared_error(target, prediction), rel=1e-5)


def test_ratings_far_from_zero_are_not_rounded_away(folder):
    """Seconds since 1970 of one minute: in single precision they would be 128 s apart."""
    rows = [{"text": f"text {i}", "at": 1.7e9 + i % 60} for i in range(120)]
    task, _ = prepared(train=lines(folder / "t.jsonl", rows), text="text", label="at", kind="regression")
    target = np.array([label for _, label in texts(task)["test"].values()])
    perfect = np.array([[task.learned(item)] for item in task.items().splits["test"]], np.float32)
    answers = task.labels.answers(perfect)
    assert answers.prediction == pytest.approx(target, abs=1e-5, rel=0)
    assert task.measures.of("test", target, answers) == {"pearson": pytest.approx(1), "mse": pytest.approx(0)}


@pytest.mark.parametrize("unit", ["e306", "e-322"])
def test_ratings_that_double_precision_cannot_scale_are_refused(folder, unit):
    rows = [{"text": f"text {i}", "size": f"{i}{unit}"} for i in range(60)]
    told = message(train=lines(folder / "t.jsonl", rows), text="text", label="size", kind="regression")
    assert "the training items' numbers are too large, or too near each other, to be scaled; give" in told


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_training_items_that_are_labelled_alike_are_refused(folder, kind):
    """What would be scored is the constant answer; of three times 0.1 the deviation is 1e-17."""
    marks = [0.1, 0.1, 2.5, 0.1]  # by their hashes, the third comes last
    rows = [{"fold": "train", "text": f"text {i}", "label": mark} for i, mark in enumerate(marks)]
    rows += [{"fold": fold, "text": f"{fold} {i}", "label": i} for fold in ("dev", "test") for i in range(2)]
    lines(folder / "t.jsonl", rows)
    options = {"train": "t.jsonl", "text": "text", "label": "label", "split": "fold", "kind": kind}
    given = {} if kind == "regression" else {"labels": [0, 1, 0.1, 2.5]}
    assert prepared(**options, **given)[1].sizes["train"] == 4
    told = message(**options, **given, sizes={"train": 3})
    assert told.endswith(
        "label label: all 3 training items have the same, so that nothing can be learned; "
        "add rows, or raise the size of train"
    )


LABELLED = [[name for k, name in enumerate("abc") if i >> k & 1] for i in range(8)] * 12
WAYS = {
    "lists": ({"label": "tags", "kind": "multi-label"}, lambda names: {"tags": names}),
    "text": (
        {"label": "tags", "kind": "multi-label", "separator": ";"},
        lambda names: {"tags": "; ".join(names)},
    ),
    "columns": ({"label": ["a", "b", "c"]}, lambda names: {name: int(name in names) for name in "abc"}),
    "switches": ({"label": ["a", "b", "c"]}, lambda names: {name: name in names for name in "abc"}),
}


def test_ones_and_zeros_in_a_list_are_no_names(folder):
    """Read as names, [1, 0, 1] would have the classes 0 and 1, and [0, 0, 0] the class 0."""
    several = {"text": "text", "label": "tags", "kind": "multi-label"}
    rows = [
        {"text": f"text {i}", "tags": [int(name in names) for name in "abc"]}
        for i, names in enumerate(LABELLED)
    ]
    told = message(train=lines(folder / "t.jsonl", rows), **several)
    assert "column 'tags': its lists hold 0 and 1, more than once, for absent and present; a list is" in told
    rows = [{"text": f"text {i}", "tags": [[0], [1], [0, 1], []][i % 4]} for i in range(96)]
    task, _ = prepared(train=lines(folder / "t.jsonl", rows), **several)
    assert task.head.labels == ("0", "1")


@pytest.mark.parametrize("way", WAYS)
def test_several_labels_an_item(folder, way):
    options, written = WAYS[way]
    rows = [{"text": f"text {i}", **written(names)} for i, names in enumerate(LABELLED)]
    task, data = prepared(train=lines(folder / "t.jsonl", rows), text="text", **options)
    assert task.head == tasks.Head("sequence", 3, ("a", "b", "c"))
    for name, (_, label) in texts(task)["test"].items():
        assert label == tuple(float(one in LABELLED[int(name) - 1]) for one in "abc")
    model = bert(3).eval()
    batch = task.collate(data.train[:4])
    outputs = model(**{key: value for key, value in batch.inputs.items() if key != "labels"}).logits
    wanted = F.binary_cross_entropy(outputs.sigmoid(), batch.inputs["labels"], reduction="sum")
    assert task.loss(model, batch.inputs).item() == pytest.approx(wanted.item(), rel=1e-5)
    score = task.score(model, "test")
    target = np.array(score.predictions["target"].tolist())
    prediction = np.array(score.predictions["logits"].tolist()) > 0
    for average in ("micro", "macro"):
        expected = theirs.f1_score(target, prediction, average=average)
        assert score.metrics[f"sklearn/f1_{average}"] == pytest.approx(expected)
    assert score.predictions["score"].mean() == pytest.approx(score.metrics["sklearn/f1_micro"])


@pytest.mark.parametrize("metric", ["roc_auc_ovr", "f1_macro", "log_loss"])
def test_a_score_is_scikit_learns_and_the_mean_of_its_items(folder, metric):
    task, _ = prepared(metric=metric, sizes={"test": 9})
    score = task.score(bert(3), "test")
    rows = score.predictions
    chances = torch.tensor(rows["logits"].tolist(), dtype=torch.float64).softmax(1).numpy()
    expected = {
        "roc_auc_ovr": lambda: theirs.roc_auc_score(rows["target"], chances, multi_class="ovr"),
        "f1_macro": lambda: theirs.f1_score(rows["target"], chances.argmax(1), average="macro"),
        "log_loss": lambda: theirs.log_loss(rows["target"], chances),
    }[metric]()
    assert score.metrics == {f"sklearn/{metric}": pytest.approx(expected)}
    assert rows["score"].mean() == pytest.approx(expected)


def test_splits_are_files_or_a_column_or_carved(folder):
    (folder / "train.csv").write_text(CSV + "".join(f"text {i},{i % 2}\n" for i in range(60)))
    (folder / "test.csv").write_text(CSV + "Text 3,0\nnew,1\n")
    two = {"text": "text", "label": "label"}
    _, data = prepared(train="train.csv", test="test.csv", **two)
    assert data.sizes["test"] == 2
    assert data.dropped == 1, "Text 3 is in both"
    (folder / "selection.csv").write_text(CSV + "text 3,0\ntext 4,0\n")
    files = {"test": "test.csv", "selection": "selection.csv", "sizes": {"train": 5}}
    _, data = prepared(train="train.csv", **two, **files)
    assert data.sizes == {"train": 5, "selection": 1, "test": 2}
    assert data.dropped == 3, "text 3 of train and selection, text 4 of train"


def test_a_column_tells_the_splits(folder):
    said = ["train", "Validation", "dev", "test"]
    rows = "".join(f"text {i},{i // 4 % 2},{said[i % 4]}\n" for i in range(40))
    (folder / "t.csv").write_text("text,label,fold\n" + rows)
    task, data = prepared(train="t.csv", text="text", label="label", split="fold", labels=[0, 1])
    assert data.sizes == {"train": 10, "selection": 20, "test": 10}
    assert [int(name) % 4 for name in texts(task)["test"]] == [1] * 10, "the header is a line"


def test_groups_stay_together(folder):
    task, data = prepared(group="author")
    whose = [{int(name) % 20 for name in items} for items in texts(task).values()]
    assert sum(map(len, whose)) == 20
    assert sum(data.sizes.values()) == 60
    frame = task.score(bert(3), "test").predictions
    told = {(int(name) % 20, group) for name, group in zip(frame["item"], frame["group"], strict=True)}
    assert sorted(group for _, group in told) == list(range(len(whose[-1])))


def test_rows_of_one_text_are_a_group_of_the_test_split(folder):
    """Sixty rows of twenty texts, a pair in either order, tell as much as twenty do."""
    train = "".join(f"a{i},b{i},{i % 2}\n" for i in range(30))
    test = [(f"t{i}", f"u{i}") for i in range(20)]
    test += [(b, a) for a, b in test] + [(a.upper(), f" {b}  ") for a, b in test]
    rows = "".join(f"{a},{b},{i % 2}\n" for i, (a, b) in enumerate(test))
    (folder / "train.csv").write_text("one,other,label\n" + train)
    (folder / "test.csv").write_text("one,other,label\n" + rows)
    (folder / "once.csv").write_text("one,other,label\n" + "".join(rows.splitlines(keepends=True)[:20]))
    options = {"train": "train.csv", "text": ["one", "other"], "label": "label"}
    task, data = prepared(**options, test="test.csv")
    assert data.notes() == ["test: 60 items have 20 different texts; intervals count texts, not items"]
    frame = task.score(bert(2), "test").predictions
    pairs = frame["group"].groupby((frame["item"].astype(int) - 2) % 20)
    assert [len(set(groups)) for _, groups in pairs] == [1] * 20 == [1] * frame["group"].nunique()
    assert "group" not in task.score(bert(2), "selection").predictions
    task, data = prepared(**options, test="once.csv")
    assert data.notes() == []
    assert "group" not in task.score(bert(2), "test").predictions


def test_too_few_groups_are_told(folder):
    rows = [{"text": f"text {i}", "label": i % 2, "author": i % 3} for i in range(120)]
    train = lines(folder / "t.jsonl", rows)
    told = message(train=train, text="text", label="label", group="author")
    assert "selection split, which a hash carves out of 120 in 3 groups; add groups, or name a file" in told


def test_an_edited_file_is_another_task_and_a_moved_one_is_not(folder):
    first = make().fingerprint()
    assert make().fingerprint() == first
    assert json.loads(json.dumps(first))
    (folder / "elsewhere").mkdir()
    (folder / "reviews.csv").rename(folder / "elsewhere/reviews.csv")
    assert make(train="elsewhere/reviews.csv").fingerprint() == first
    text = (folder / "elsewhere/reviews.csv").read_text()
    (folder / "elsewhere/reviews.csv").write_text(text.replace("title 7", "title 8"))
    assert make(train="elsewhere/reviews.csv").fingerprint() != first
    write_reviews(folder / "reviews.csv")
    others = (
        {"text": "title"},
        {"label": "author"},
        {"metric": "f1_macro"},
        {"group": "author"},
        {"sizes": {"test": 3}},
    )
    found = [make(**other).fingerprint() for other in others]
    assert all(one != first for one in found)


def test_what_is_prepared_is_the_same_every_time_whatever_the_order_of_rows(folder):
    _, data = prepared()
    header, *rows = (folder / "reviews.csv").read_text().splitlines(keepends=True)
    (folder / "reviews.csv").write_text("".join([header, *reversed(rows)]))
    _, other = prepared()
    assert [row["input_ids"] for row in data.train] == [row["input_ids"] for row in other.train]
    (folder / "reviews.csv").write_text("".join([header, *rows]))
    assert prepared()[1].sha256 == data.sha256


PAGE = Path(__file__).parents[2] / "docs/your-data.md"


def test_the_suite_of_the_page_is_one(folder):
    block, _ = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "reviews.yaml").write_text(block)
    rows = "".join(f"text {i},{['good', 'bad'][i % 2]},{i // 2}\n" for i in range(200))
    (folder / "reviews.csv").write_text("text,verdict,review\n" + rows)
    suite = load_suite("reviews.yaml")
    assert len(list(plan(suite))) == 12


def test_the_options_of_the_page_are_those_that_there_are():
    named = {*re.findall(r"`(\w+)[:`]", PAGE.read_text(encoding="utf-8"))}
    known = {*inspect.signature(TableTask).parameters} - {"name", "mirror", "scoring_batch"}
    assert known <= named, "each is told of"


def message(**options):
    with pytest.raises(TaskError) as error:
        prepared(**options)
    assert "\n" not in str(error.value)
    return str(error.value)


BAD = {
    "no file": ({"train": "review.csv"}, "there is no file review.csv, seen from the folder"),
    "no train": ({"train": None}, "train: name a file (.csv, .tsv, .jsonl or .parquet)"),
    "no text": ({"text": None}, "text: name the column that holds the text"),
    "a column that is none": (
        {"text": "boddy"},
        "reviews.csv, line 2: there is no column 'boddy'; did you mean body?",
    ),
    "another": ({"label": "star"}, "reviews.csv, line 2: there is no column 'star'; did you mean stars?"),
    "three texts": ({"text": ["title", "body", "author"]}, "text: a model takes one text or a pair, not 3"),
    "one text twice": ({"text": ["body", "body"]}, "text: a column is there twice"),
    "kind": ({"kind": "regresion"}, "kind: 'regresion' is none; did you mean regression?"),
    "labels of numbers": ({"kind": "regression", "labels": [1, 2]}, "labels: regression has no classes"),
    "a class that is not named": (
        {"labels": [1, 2]},
        "reviews.csv, line 4: the label '3' is none of the classes 1, 2;",
    ),
    "one class": ({"labels": [1]}, "label stars: there are two classes at least, not ['1']"),
    "YAML's yes": (
        {"labels": [True, False]},
        "labels: YAML reads yes, no, true and false as no texts; quote them",
    ),
    "texts for classes": (
        {"label": "title"},
        "column 'title': 60 classes in 60 rows (title 0, title 1, title 10 …)",
    ),
    "texts for numbers": (
        {"label": "title", "kind": "regression"},
        "line 2, column 'title': 'title 0' is no finite",
    ),
    "no separator": (
        {"kind": "multi-label"},
        "line 2, column 'stars': '1' is a text; say what stands between two",
    ),
    "no switch": (
        {"label": ["stars", "title"]},
        "reviews.csv, line 2, column 'title': 'title 0' is neither 0 nor 1",
    ),
    "two ways to split": (
        {"split": "author", "test": "reviews.csv"},
        "split: a column tells the splits of train",
    ),
    "no split": ({"split": "author"}, "reviews.csv, line 2, column 'author': 'author 0' is no split"),
    "no group": ({"group": "writer"}, "reviews.csv, line 2: there is no column 'writer'"),
    "sizes": ({"sizes": {"tset": 5}}, "sizes: 'tset' is no split; did you mean test?"),
    "a size": ({"sizes": {"test": 0}}, "test must be a whole number above 0, got 0"),
    "metric": ({"metric": "f1_makro"}, "no metric is called 'f1_makro'; did you mean"),
    "metric of two": ({"metric": "f1"}, "metric f1 cannot score the test split: Target is multiclass"),
    "all is tested": (
        {"test": "reviews.csv"},
        "the train split is empty: of 120 rows 60 are of it, and 60 are left",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_options_are_one_line(folder, fault):
    options, told = BAD[fault]
    assert told in message(**options)


ROWS = {
    "an unseen label": (
        "new,ugly\n",
        "t.csv, line 3: the label 'ugly' is none of the classes bad, good; mend it",
    ),
    "no label": ("new, \n", "t.csv, line 3, column 'label': it is empty; fill it or leave the row out"),
    "a cell too many": (
        "a, text,good\n",
        "t.csv, line 3: 3 cells, but the header names 2 columns; put a text",
    ),
    "an open quote": (
        '"new,good\n',
        "t.csv, line 3: the row that begins here is broken (unexpected end of data)",
    ),
}


@pytest.mark.parametrize("fault", ROWS)
def test_bad_rows_are_named(folder, fault):
    row, told = ROWS[fault]
    (folder / "train.csv").write_text(
        CSV + "".join(f"text {i},{'good' if i % 2 else 'bad'}\n" for i in range(30))
    )
    (folder / "t.csv").write_text(CSV + "fine,good\n" + row)
    assert told in message(train="train.csv", test="t.csv", text="text", label="label")


@pytest.mark.parametrize(
    ("stars", "metric", "right"),
    [
        ([1, 2, 5], "mean_absolute_error", False),
        ([1, 2, 3], "mean_absolute_error", True),
        ([1, 2, 3], "mean_absolute_percentage_error", False),
        ([10, 20, 30], "pearson", True),
        ([1, 2, 5], "spearman", True),
        (["bad", "fair", "good"], "spearman", False),
        (["bad", "good"], "mse", True),
        (["bad", "fair", "good"], "f1_macro", True),
    ],
)
def test_a_metric_of_numbers_takes_no_class_for_another_number(folder, stars, metric, right):
    """As scikit-learn and SciPy have it of the numbers themselves."""
    rows = [{"text": f"text {i}", "label": stars[i % len(stars)]} for i in range(90)]
    options = {"train": lines(folder / "t.jsonl", rows), "text": "text", "label": "label", "metric": metric}
    if not right:
        assert "would take the classes for the numbers 0 to 2, by their places" in message(**options)
        return
    task, _ = prepared(**options)
    (name,) = task.metrics
    places = np.array([item.label for item in task.items().splits["test"]])
    answers = np.roll(places, 1)
    found = task.measures.of("test", places, Answers(answers, np.eye(len(stars))[answers]))[name]
    if isinstance(stars[0], int):
        own, said = np.array(stars)[places], np.array(stars)[answers]
        truth = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}.get(metric)
        expected = truth(said, own).statistic if truth else theirs.mean_absolute_error(own, said)
        assert found == pytest.approx(expected)


def test_a_metric_that_is_no_number_chooses_no_model(folder):
    for split, marks in {"train": "bad good", "selection": "good", "test": "bad good"}.items():
        rows = [f"{split} {mark} {i},{mark}\n" for i in range(4) for mark in marks.split()]
        (folder / f"{split}.csv").write_text(CSV + "".join(rows))
    files = {split: f"{split}.csv" for split in ("train", "selection", "test")}
    task, _ = prepared(**files, text="text", label="label", metric="roc_auc")
    model = bert(2)
    assert 0 <= task.score(model, "test").metrics["sklearn/roc_auc"] <= 1
    with pytest.raises(TaskError, match="roc_auc is nan on the selection split; are there items of every"):
        task.score(model, "selection")
    task.check_split("test")
    with pytest.raises(TaskError, match="roc_auc is nan on the selection split; are there items of every"):
        task.check_split("selection")


@pytest.mark.parametrize("column", ["label", "group"])
def test_a_missing_number_is_no_class_and_no_group(folder, column):
    """A column of numbers in Parquet may have NaN where nothing stands."""
    rows = {"text": [f"text {i}" for i in range(60)], "label": [float(i % 2) for i in range(60)]}
    rows["group"] = [i // 2 + 0.5 for i in range(60)]
    rows[column][7] = float("nan")
    Dataset.from_dict(rows).to_parquet("t.parquet")
    told = message(train="t.parquet", text="text", label="label", group="group")
    assert f"t.parquet, row 8, column '{column}': it is empty; fill it or leave the row out" in told


@pytest.mark.parametrize("missing", [None, float("nan"), ["a"]])
def test_a_list_of_labels_holds_no_missing_one(missing):
    row = Row({"tags": ["a", missing]}, "t.jsonl, line 7", 7)
    with pytest.raises(
        TaskError, match=f"t.jsonl, line 7, column 'tags': {re.escape(repr(missing))} is no label"
    ):
        class_names(row, "tags", None)


def test_bad_cells_of_json_are_named(folder):
    good = [{"text": f"text {i}", "label": i % 2} for i in range(30)]
    faults = {
        "t.jsonl, line 31, column 'text': None is no text": {"text": None, "label": 1},
        "t.jsonl, line 31, column 'text': 5 is no text": {"text": 5, "label": 1},
        "t.jsonl, line 31: there is no column 'label'": {"text": "x"},
        "t.jsonl, line 31, column 'label': it is empty": {"text": "x", "label": None},
        "t.jsonl, line 31, column 'label': [1] is no class; of lists say": {"text": "x", "label": [1]},
    }
    for told, row in faults.items():
        train = lines(folder / "t.jsonl", [*good, row])
        assert told in message(train=train, text="text", label="label")
    train = lines(folder / "t.jsonl", [*good, {"text": "x", "label": "1_5"}])
    told = message(train=train, text="text", label="label", kind="regression")
    assert told.endswith("line 31, column 'label': '1_5' is no finite number, as in 3.5")
    train = lines(folder / "t.jsonl", [*good, {"text": "x", "label": 10**400}])
    told = message(train=train, text="text", label="label", kind="regression")
    assert told.endswith(f"line 31, column 'label': 1{'0' * 59}… is no finite number, as in 3.5")
    train = lines(folder / "t.jsonl", [*good, {"text": "x", "label": float("1e999")}])
    assert "line 31: this is no JSON (JSON has no number Infinity)" in message(
        train=train, text="text", label="label"
    )
