"""GLUE on the local mirror, and all nine shapes on made-up rows."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rankbench import tasks
from rankbench.tasks.data import hub
from rankbench.tasks.data.splits import normalise
from rankbench.tasks.text.glue import SHAPES
from tests.tiny_text import SHARED_HUB, bert, encoder_tokenizer, write_mirror

needs_hub = pytest.mark.skipif(not SHARED_HUB.is_dir(), reason="../shared/hub is absent")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Every GLUE configuration with 12 training and 4 validation rows; one text is in both."""
    root = tmp_path_factory.mktemp("mirror")
    for name, shape in SHAPES.items():

        def rows(prefix, count, shape=shape):
            columns = {c: [f"{prefix} {c} {i}" for i in range(count)] for c in shape.columns}
            if not shape.labels:
                label, values = Value("float32"), [i / 3 for i in range(count)]
            else:
                label = ClassLabel(names=[str(k) for k in range(len(shape.labels))])
                values = [i % len(shape.labels) for i in range(count)]
            features = Features(
                {c: Value("string") for c in columns} | {"label": label, "idx": Value("int32")}
            )
            return Dataset.from_dict(columns | {"label": values, "idx": range(count)}, features=features)

        train = rows("train", 12)
        leak = rows("VALID", 1)
        splits = {"train": Dataset.from_list([*train, *leak], features=train.features)}
        names = ("validation_matched", "validation_mismatched") if name == "mnli" else ("validation",)
        splits |= {split: rows("valid", 4) for split in names}
        folder = root / name
        write_mirror(folder, "nyu-mll/glue", name, splits)
    return root


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_all_nine_prepare_and_score(name, made_up):
    task = tasks.create(name, selection=4, mirror=made_up / name)
    prepared = task.prepare(encoder_tokenizer())
    assert prepared.sizes["train"] == 8
    assert prepared.sizes["selection"] == 4
    assert prepared.sizes["test"] == 4
    assert prepared.dropped == 1
    score = task.score(bert(task.head.outputs), "test")
    assert task.metric in score.metrics
    if name == "mnli":
        assert set(score.metrics) == {"accuracy", "accuracy_mismatched"}
        assert score.predictions["item"].str.split("/").str[0].value_counts().to_dict() == {
            "matched": 4,
            "mismatched": 4,
        }
    expected = {"cola": {"matthews_correlation"}, "stsb": {"pearson", "spearman"}}
    expected |= {"mrpc": {"accuracy", "f1"}, "qqp": {"accuracy", "f1"}}
    assert set(score.metrics) >= expected.get(name, {"accuracy"})
    assert "accuracy_mismatched" not in task.score(bert(task.head.outputs), "selection").metrics


@needs_hub
@pytest.mark.parametrize(("name", "test"), [("rte", 277), ("mrpc", 408), ("cola", 1043)])
def test_the_mirror_has_the_hubs_rows_and_no_text_in_two_splits(name, test):
    task = tasks.create(name, mirror=SHARED_HUB)
    items = task.items()
    assert len(items.splits["test"]) == test
    assert len(items.splits["selection"]) == 256
    texts = {
        split: {"\n".join(normalise(text) for text in row.texts) for row in rows}
        for split, rows in items.splits.items()
    }
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["selection"]
    assert not texts["selection"] & texts["test"]
    total = task._rows(hub.load_hub(task.pin, SHARED_HUB, ("train",))["train"])
    assert len(items.splits["train"]) + 256 + items.dropped == len(total)


@needs_hub
def test_limits_take_the_same_items_every_time():
    small = tasks.create("rte", train=20, selection=10, test=15, mirror=SHARED_HUB).items().splits
    large = tasks.create("rte", train=40, selection=10, test=30, mirror=SHARED_HUB).items().splits
    assert {row.id for row in small["test"]} < {row.id for row in large["test"]}
    assert [row.id for row in small["train"]] == [row.id for row in large["train"]][:20]
    assert small["selection"] == large["selection"]


def test_no_mirror(tmp_path):
    task = tasks.create("rte", mirror=tmp_path / "missing")
    for use in (task.fingerprint, task.fetch, lambda: task.prepare(encoder_tokenizer())):
        with pytest.raises(tasks.TaskError, match="no mirror folder"):
            use()
