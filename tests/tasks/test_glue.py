"""GLUE on the local mirror: the hub's rows, and no text in two splits."""

import pytest

from rankbench import tasks
from rankbench.tasks.data import hub
from rankbench.tasks.data.splits import normalise
from tests.tiny_text import SHARED_HUB, encoder_tokenizer

needs_hub = pytest.mark.skipif(not SHARED_HUB.is_dir(), reason="../shared/hub is absent")


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
