"""Tables of a user's own are read as they were written, and a broken row is named by its line."""

import csv
import json

import pandas as pd
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from rankbench.tasks import TaskError
from rankbench.tasks.data import tables
from tests.tasks.test_texts import TEXTS
from tests.tiny_text import write_mirror

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
"""Any text; csv's writer refuses NUL."""
ANYWHERE = [
    *sorted(set(TEXTS.values()) - {"", TEXTS["control"]}),
    "=1+1",
    "a;b",
    "a,b",
    "'",
    '"',
    "x\ry",
    "\u2028",
]


def rows(place, *, split="train", mirror=None):
    return tables.read(tables.source(place, split=split), mirror).rows


def values(path):
    return [row.values for row in rows(str(path))]


def message(place, **options):
    with pytest.raises(TaskError) as error:
        rows(place if isinstance(place, dict) else str(place), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_texts_of_any_script_and_newline_survive_a_spreadsheet(tmp_path, newline, encoding, mark):
    path = tmp_path / ("t.tsv" if mark == "\t" else "t.csv")
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=mark, lineterminator=newline, quoting=csv.QUOTE_ALL)
        writer.writerows([["text", "label"], *([text, str(i)] for i, text in enumerate(ANYWHERE))])
    assert values(path) == [{"text": text, "label": str(i)} for i, text in enumerate(ANYWHERE)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_quote_that_begins_a_text_of_a_tsv_swallows_no_row(tmp_path, newline):
    path = tmp_path / "t.tsv"
    lines = ["text\tlabel", '"Great film\tgood', "fine\tgood", "bad\tbad", 'well, "really"\tbad', "no\tbad"]
    path.write_bytes(newline.join(each.replace('well, "r', "well, r") for each in lines).encode())
    assert message(path).startswith(f"{path}, line 2: the quote that a cell begins with is closed rows below")
    path.write_bytes(newline.join(["text\tlabel", '"a\tb"\tgood', f'"a{newline}b"\tbad']).encode())
    assert values(path) == [{"text": "a\tb", "label": "good"}, {"text": f"a{newline}b", "label": "bad"}]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_what_pandas_writes_is_read(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("pandas") / "t.csv"
    pd.DataFrame(cells, columns=["a", "b"]).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    assert values(path) == [{"a": a, "b": b} for a, b in cells]


def test_rows_are_placed_by_the_line_that_they_begin_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('text,label\n\n"two\nlines",a\r\nplain,b\n,\n"",c\n')
    places = [row.place for row in rows(str(path))]
    assert places == [f"{path}, line {number}" for number in (3, 5, 7)]
    assert [row.number for row in rows(str(path))] == [3, 5, 7]


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
    made = [{"text": text, "label": i} for i, text in enumerate(TEXTS.values())]
    data = Dataset.from_list(made)
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in made)
    (tmp_path / "t.jsonl").write_text(f"\ufeff{lines}\n\n", encoding="utf-8")
    data.to_parquet(tmp_path / "t.parquet")
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "test": data.select([3])}).save_to_disk(tmp_path / "several")
    mirror = write_mirror(tmp_path / "mirror", "some/data", "default", {"train": data})
    for name in ("t.jsonl", "t.parquet", "one", "several"):
        assert values(tmp_path / name) == made, name
    hub = {"hub": "some/data", "revision": "0" * 40}
    assert [row.values for row in rows(hub, mirror=mirror)] == made
    chosen = rows({"folder": str(tmp_path / "several"), "split": "test"})
    assert [row.values for row in chosen] == [made[3]]
    assert rows(str(tmp_path / "several"), split="test") == chosen
    assert [row.place for row in rows(str(tmp_path / "t.jsonl"))][2].endswith("t.jsonl, line 3")
    assert [row.place for row in rows(str(tmp_path / "t.parquet"))][2].endswith("t.parquet, row 3")


def test_classes_that_are_stored_as_numbers_have_their_names(tmp_path):
    features = Features({"label": ClassLabel(names=["bad", "good"]), "text": Value("string")})
    Dataset.from_dict({"label": [1, 0, -1], "text": list("abc")}, features=features).to_parquet(
        tmp_path / "t.parquet"
    )
    table = tables.read(tables.source(str(tmp_path / "t.parquet")))
    assert [row.values["label"] for row in table.rows] == ["good", "bad", None]
    assert table.classes == {"label": ["bad", "good"]}


@pytest.mark.parametrize("name", ["t.csv", "folder"])
def test_a_pin_is_of_the_bytes_and_not_of_the_place(tmp_path, name):
    def write(folder, text):
        folder.mkdir()
        if name == "folder":
            Dataset.from_dict({"text": [text]}).save_to_disk(folder / name)
            (folder / name / "state.json").write_text("{}")  # it holds a fingerprint drawn at random
        else:
            (folder / name).write_text(f"text\n{text}\n")
        return tables.pin(tables.source(str(folder / name)))

    first, edited, moved = (write(tmp_path / one, text) for one, text in [("a", "x"), ("b", "y"), ("c", "x")])
    assert first == moved != edited


def test_a_pin_of_the_hub_is_its_commit_or_the_mirrors_files(tmp_path, monkeypatch):
    monkeypatch.delenv("RANKBENCH_MIRROR", raising=False)
    hub = tables.source({"hub": "some/data", "revision": "0" * 40, "split": "test"})
    assert tables.pin(hub) == {"hub": "some/data", "config": "default", "revision": "0" * 40, "split": "test"}
    mirror = write_mirror(tmp_path, "some/data", "default", {"test": Dataset.from_dict({"a": [1]})})
    assert "files" in tables.pin(hub, mirror)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "a,b\n1,2\n3,4,5\n", "t.csv, line 3: 3 cells, but the header names 2 columns; put a text"),
        ("t.csv", "a,b\r1,2\r3\r", "t.csv, line 3: 1 cells, but the header names 2 columns"),
        ("t.csv", 'a,b\n1,2\n"3,4\n5,6\n', "t.csv, line 3: the row that begins here is broken (unex"),
        ("t.csv", 'a,b\n1,2\n"3"x,4\n', "t.csv, line 3: the row that begins here is broken (',' expected"),
        ("t.csv", "a,b,a\n1,2,3\n", "t.csv, line 1: 2 columns are called 'a'; rename all but one"),
        ("t.csv", "a,b\n", "t.csv has no row below its header"),
        ("t.csv", "", "t.csv has no row below its header"),
        ("t.csv", b"a,b\n1,2\nCaf\xe9,4\n", "t.csv, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("t.csv", b"a,b\r1,2\r\xe9,4\r", "t.csv, line 3: byte 0xe9 is not UTF-8"),
        ("t.csv", b"\xff\xfea\x00,", "t.csv begins as UTF-16 and is not"),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\n", "t.csv is a Git LFS pointer"),
        ("t.jsonl", '{"a": 1}\n{"a": 2\n', "line 2: this is no JSON (Expecting ',' delimiter, column 8)"),
        ("t.jsonl", '{"a": 1}\n\n{"a": NaN}\n', "t.jsonl, line 3: this is no JSON (JSON has no number NaN)"),
        ("t.jsonl", '{"a": "\\ud83d\\ude00"}\n{"a": ["b \\ud83d"]}\n', r"line 2: '\ud83d' is half of a sign"),
        ("t.jsonl", '{"\\udE00": "b"}\n', r"t.jsonl, line 1: '\ude00' is half of a sign, as where a text"),
        ("t.jsonl", "[1, 2]\n", "t.jsonl, line 1: [1, 2] is no JSON object; write {"),
        ("t.jsonl", "[" * 100_000, "t.jsonl, line 1: this is no JSON ("),
        ("t.jsonl", "\n", "t.jsonl has no row"),
        ("t.parquet", "no parquet", "t.parquet is no readable Parquet file"),
        ("t.xlsx", "PK", "t.xlsx: a table is .csv, .tsv, .jsonl, .ndjson or .parquet; save it as one"),
    ],
)  # fmt: skip
def test_broken_files_are_named_by_their_line(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert told in message(path)


def test_two_columns_of_one_name_are_refused_in_parquet_too(tmp_path):
    parquet.write_table(pyarrow.table([["x"], ["y"]], names=["text", "text"]), tmp_path / "t.parquet")
    assert "t.parquet: 2 columns are called 'text'; rename all but one" in message(tmp_path / "t.parquet")


def test_places_that_are_no_table(tmp_path):
    (tmp_path / "reviews.csv").write_text("a\n1\n")
    assert f"did you mean {tmp_path / 'reviews.csv'}?" in message(tmp_path / "review.csv")
    assert "is no folder of datasets.save_to_disk" in message(tmp_path)
    DatasetDict({"dev": Dataset.from_dict({"a": [1]})}).save_to_disk(tmp_path / "saved")
    assert "saved has no split 'train', only dev" in message(tmp_path / "saved")
    Dataset.from_dict({"a": [1]}).save_to_disk(tmp_path / "one")
    for name in ("one", "reviews.csv"):
        told = message({"folder": str(tmp_path / name), "split": "test"})
        assert f"{name} has no splits; leave `split` out" in told, "all rows would be the test split's"
    assert "give its hub commit as `revision`" in message({"hub": "some/data"})
    assert "no key 'revison'; did you mean revision?" in message({"hub": "some/data", "revison": "x"})
    assert "a table's split must be a text, got 3" in message({"hub": "a/b", "revision": "x", "split": 3})
    assert "names no table: give a path" in message({"file": "x"})
