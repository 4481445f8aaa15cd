"""Mirrors of hub data sets: by their README or by the layout; every fault one line that names the file."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rankbench.tasks import TaskError
from rankbench.tasks.data import hub
from rankbench.tasks.data.hub import HubPin
from tests.tiny_text import write_mirror

PIN = HubPin("some/data", "main", "0" * 40)
ROWS = Dataset.from_dict({"x": [1, 2]})


@pytest.fixture
def mirror(tmp_path):
    return write_mirror(tmp_path / "mirror", "some/data", "main", {"train": ROWS})


def read(root: Path, *splits: str, pin: HubPin = PIN) -> list:
    return [hub.load_hub(pin, root, splits)[split].data["x"][:] for split in splits]


def message(root: Path, *splits: str, pin: HubPin = PIN) -> str:
    with pytest.raises(TaskError) as error:
        hub.load_hub(pin, root, splits)
    assert "\n" not in str(error.value)
    return str(error.value)


def lay_out(root: Path, *names: str, rows: Dataset = ROWS) -> Path:
    for name in names:
        path = root / "some/data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(path)
    return root


def test_the_mirror_option_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("RANKBENCH_MIRROR", raising=False)
    assert hub.resolve_mirror(None) is None
    monkeypatch.setenv("RANKBENCH_MIRROR", str(tmp_path))
    assert hub.resolve_mirror(None) == tmp_path
    (tmp_path / "other").mkdir()
    assert hub.resolve_mirror(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(TaskError, match="no mirror folder"):
        hub.resolve_mirror(tmp_path / "missing")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("main", "main/train-00000-of-00001.parquet"),
        ("main", "main/train.parquet"),
        (None, "default/train-00000-of-00001.parquet"),
        (None, "data/train-00000-of-00001.parquet"),
        (None, "train-00000-of-00001.parquet"),
    ],
)
def test_the_layout_is_enough(tmp_path, config, name):
    assert read(lay_out(tmp_path, name), "train", pin=replace(PIN, config=config)) == [[1, 2]]


def test_a_readme_that_says_nothing_of_the_files_leaves_it_to_the_layout(tmp_path):
    root = lay_out(tmp_path, "main/train-00000-of-00001.parquet")
    card = root / "some/data/README.md"
    for text in ("# A data set\n", "---\nlicense: mit\n---\n", "---\nconfigs:\n- config_name: other\n---\n"):
        card.write_text(text)
        assert read(root, "train") == [[1, 2]]
    card.write_text("---\nconfigs: [\n---\n")
    assert f"cannot read the configs of {card}" in message(root, "train")


def test_the_readme_wins_over_the_layout(tmp_path):
    root = lay_out(tmp_path, "main/train-00000-of-00001.parquet")
    lay_out(root, "elsewhere/part.parquet", rows=Dataset.from_dict({"x": [7]}))
    card = "---\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: elsewhere/*}\n---\n"
    (root / "some/data/README.md").write_text(card)
    assert read(root, "train") == [[7]]


@pytest.mark.parametrize(
    "name", ["a [b] c", "100%", "what?", "star*", "{a,b}", "día 日本 🎉", "a::b", "x#y", "k=v"]
)
@pytest.mark.parametrize("card", [True, False])
def test_any_path_is_a_path(tmp_path, mirror, name, card):
    root = shutil.copytree(mirror, tmp_path / name)
    if not card:
        (root / "some/data/README.md").unlink()
    assert read(root, "train") == [[1, 2]]
    assert PIN.fingerprint(root, ("train",)) == PIN.fingerprint(mirror, ("train",))


def test_files_of_one_split_are_read_in_order_and_named_by_row(tmp_path):
    root = lay_out(tmp_path, "main/train-00000-of-00002.parquet")
    lay_out(root, "main/train-00001-of-00002.parquet", rows=Dataset.from_dict({"x": [3]}))
    assert read(root, "train") == [[1, 2, 3]]
    rows = hub.load_hub(PIN, root, ("train",))["train"]
    assert rows.where(1).endswith("train-00000-of-00002.parquet, split train, row 1")
    assert rows.where(2).endswith("train-00001-of-00002.parquet, split train, row 0")
    (root / "some/data/main/train-00001-of-00002.parquet").unlink()
    assert "has 1 of the 2 files of the split 'train'" in message(root, "train")


def test_files_whose_columns_differ(tmp_path):
    root = lay_out(tmp_path, "main/train-00000-of-00002.parquet")
    lay_out(root, "main/train-00001-of-00002.parquet", rows=Dataset.from_dict({"y": ["a"]}))
    assert "train-00001-of-00002.parquet has other columns or classes than " in message(root, "train")


OLD = "6ef3e1a1cb5a1f0a", "0123456789abcdef"


def test_older_names_end_in_a_hash(tmp_path):
    files = [f"main/train-0000{i}-of-00002-{hash}.parquet" for i, hash in enumerate(OLD)]
    root = lay_out(tmp_path, *files)
    assert read(root, "train") == [[1, 2, 1, 2]]
    (root / "some/data" / files[1]).unlink()
    assert "has 1 of the 2 files of the split 'train'" in message(root, "train")


@pytest.mark.parametrize("total", [1, 2])
def test_one_part_with_two_hashes_is_there_twice(tmp_path, total):
    root = lay_out(tmp_path, *(f"main/train-00000-of-0000{total}-{hash}.parquet" for hash in OLD))
    assert "more than once: train-00000-of-" in message(root, "train")


def test_files_without_a_total_are_parts_where_they_are_counted_through(tmp_path):
    root = lay_out(tmp_path, "main/train-0.parquet", "main/train-1.parquet")
    assert read(root, "train") == [[1, 2, 1, 2]]
    lay_out(root, "main/train-copy.parquet")
    told = message(root, "train")
    assert "no numbered parts: train-0.parquet, train-1.parquet, train-copy.parquet; keep one" in told


def test_what_a_card_calls_a_split_is_one(tmp_path):
    """By names of its own, and by one name in several folders, as the hub reads it."""
    root = lay_out(tmp_path, "books.parquet", "wiki.parquet")
    lay_out(root, *(f"{part}/test-00000-of-00001-{OLD[0]}.parquet" for part in ("one", "two")))
    card = ["---", "configs:", "- config_name: main", "  data_files:"]
    card += ["  - split: train", "    path: [books.parquet, wiki.parquet]"]
    card += ["  - split: test", "    path: '*/test-*'", "---", ""]
    (root / "some/data/README.md").write_text("\n".join(card))
    assert read(root, "train", "test") == [[1, 2, 1, 2]] * 2


@pytest.mark.parametrize("other", ["train.parquet", "train-00000-of-00003.parquet"])
def test_a_split_that_is_there_twice(tmp_path, other):
    root = lay_out(tmp_path, "main/train-00000-of-00001.parquet", f"main/{other}")
    assert f"more than once: train-00000-of-00001.parquet, {other}" in message(root, "train")


def test_classes_in_another_order(tmp_path):
    """Each file's numbers go by its own names: read together, they would be wrong without a word."""

    def rows(*names):
        return Dataset.from_dict(
            {"label": [0, 1]}, features=Features({"label": ClassLabel(names=list(names))})
        )

    root = lay_out(tmp_path / "splits", "main/train-00000-of-00001.parquet", rows=rows("no", "yes"))
    lay_out(root, "main/test-00000-of-00001.parquet", rows=rows("yes", "no"))
    text = message(root, "train", "test")
    assert "column 'label': the classes are no, yes in the split train and yes, no in test" in text
    root = lay_out(tmp_path / "files", "main/train-00000-of-00002.parquet", rows=rows("no", "yes"))
    lay_out(root, "main/train-00001-of-00002.parquet", rows=rows("yes", "no"))
    assert "train-00001-of-00002.parquet has other columns or classes than " in message(root, "train")


def test_what_a_mirror_lacks(mirror):
    expected = (
        "no split 'validation' in the mirror .*, only train; add some/data/main/validation-00000-of-00001"
    )
    with pytest.raises(TaskError, match=expected):
        hub.load_hub(PIN, mirror, ("train", "validation"))
    other = message(mirror, "train", pin=replace(PIN, config="other"))
    assert "no Parquet file of the configuration other (folders: main); lay it out as" in other
    assert "holds no other/data" in message(mirror, "train", pin=replace(PIN, repo="other/data"))


def test_an_empty_split_matters_where_it_is_read(tmp_path):
    root = lay_out(tmp_path, "main/train-00000-of-00001.parquet")
    lay_out(root, "main/test-00000-of-00001.parquet", rows=ROWS.select([]))
    assert read(root, "train") == [[1, 2]]
    text = message(root, "train", "test")
    assert text.startswith("the split 'test' of some/data (main) is empty: no row in ")
    assert text.endswith("test-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer"),
        (b"", "is no readable Parquet file"),
        (b"PAR1 half a file", "is no readable Parquet file"),
    ],
)
def test_a_damaged_file_is_named(mirror, content, expected):
    path = mirror / "some/data/main/train-00000-of-00001.parquet"
    path.write_bytes(content)
    assert f"{path} {expected}" in message(mirror, "train")


def test_half_a_file_is_named(mirror):
    path = mirror / "some/data/main/train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path} is no readable Parquet file" in message(mirror, "train")


def test_a_mirror_is_known_by_its_content(tmp_path):
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    for root, data in ((one, ROWS), (two, ROWS), (three, Dataset.from_dict({"x": [1, 3]}))):
        write_mirror(root, "some/data", "main", {"train": data})
    assert [read(root, "train") for root in (one, three)] == [[[1, 2]], [[1, 3]]]
    prints = [PIN.fingerprint(root, ("train",)) for root in (one, two, three)]
    assert prints[0] == prints[1] != prints[2]
    assert PIN.fingerprint(None, ("train",))["revision"] == PIN.revision
    lay_out(two, "main/test-00000-of-00001.parquet")
    assert PIN.fingerprint(two, ("train",)) == prints[0], "a split that is not read does not matter"
    assert PIN.fingerprint(two, ("train", "test")) != prints[0]
    lay_out(one, "main/train-00000-of-00001.parquet", rows=Dataset.from_dict({"x": [9]}))
    assert read(one, "train") == [[9]], "nothing stands between a folder and what is read of it"
    assert PIN.fingerprint(tmp_path / "three/some", ("train",)) != prints[2], "what is missing raises nothing"


def test_class_names_and_kinds_of_columns_are_kept(tmp_path):
    features = Features({"x": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = Dataset.from_dict({"x": ["a"], "label": [1]}, features=features)
    root = write_mirror(tmp_path, "some/data", "main", {"train": rows})
    assert hub.load_hub(PIN, root, ("train",))["train"].data.features == features


def test_the_hubs_errors_are_one_line_with_their_cause(monkeypatch):
    def fail(*_, **__):
        try:
            raise pyarrow.ArrowInvalid("the bytes are wrong\nmore")
        except pyarrow.ArrowInvalid as cause:
            raise datasets.exceptions.DatasetGenerationError("An error occurred") from cause

    monkeypatch.setattr(datasets, "load_dataset", fail)
    text = message(None, "train")
    assert text.startswith("cannot load some/data (main) from the hub")
    assert text.endswith("the bytes are wrong")


def test_a_branch_is_refused_with_the_commit_that_it_is_now(monkeypatch):
    now = SimpleNamespace(hash="1" * 40)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: now)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("a branch was read"))
    with pytest.raises(TaskError, match=f"'main' is no commit, .*: revision: {now.hash}$"):
        hub.load_hub(HubPin("some/data", None, "main"), None, ("train",))
