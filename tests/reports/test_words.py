"""The sections' words come from their text files as one line a paragraph."""

from __future__ import annotations

import pytest

from rankbench.reports.render import words as module
from rankbench.reports.render.words import words


@pytest.fixture
def texts(tmp_path, monkeypatch):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "made.md").write_text("One,\ntwo {count}.\n\n- a\n- b\n\n# other part\nThree\nfour.\n")
    monkeypatch.setattr(module, "files", lambda _: tmp_path)
    module._parts.cache_clear()
    yield
    module._parts.cache_clear()


def test_a_paragraph_is_one_line_and_placeholders_are_filled(texts):
    assert words("made", count=3) == "One, two 3.\n\n- a\n- b"
    assert words("made", "other part") == "Three four."


def test_what_is_not_there_is_refused(texts):
    with pytest.raises(KeyError):
        words("made", "third part")
    with pytest.raises(KeyError, match="count"):
        words("made")
