"""Records: whole or not at all, checked when read, fingerprinted by everything that matters."""

from __future__ import annotations

import os

import pytest

from rankbench.bench.records import RecordError, RunRecord, fingerprint, read_record, write_atomically


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left on device"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="another folder"):
        write_atomically(tmp_path / "file" / "record.json", b"x")


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 1}'])
def test_a_corrupt_record_is_named_with_the_way_out(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=r"record\.json is corrupt.*delete it"):
        read_record(path, RunRecord)


def test_a_record_of_a_later_schema_is_not_to_be_deleted(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"schema_version": 99}')
    with pytest.raises(RecordError, match=r"record\.json is of another version of rankbench") as caught:
        read_record(path, RunRecord)
    assert "delete" not in str(caught.value)


def test_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    base = {"a": 1, "b": {"c": [1, 2], "d": 0.1}}
    assert fingerprint(base) == fingerprint({"b": {"d": 0.1, "c": [1, 2]}, "a": 1})
    for other in ({**base, "a": 2}, {**base, "b": {"c": [2, 1], "d": 0.1}}, {**base, "e": None}):
        assert fingerprint(other) != fingerprint(base)
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": float("nan")})
