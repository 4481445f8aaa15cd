"""Which texts are one, and what a training split is carved into."""

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankbench.tasks import TaskError
from rankbench.tasks.data.splits import carve, normalise, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 7 + 2?", "What is 7 − 2?"),
        ("दिन", "दीन"),
        ("C++", "C#"),
        ("good 👍", "good 👎"),
        ("👍", "👎"),
        ("!!!", "???"),
        ("a_b", "a b"),
        ("no", "no!"),
        ("résumé", "resume"),
        ("3.14", "314"),
        ("x² = 4", "x = 4"),
        ("שׁ", "שׂ"),
        ("ab", "a b"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_signs_marks_and_pictures_tell_texts_apart(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("e\u0301te\u0301", "ÉTÉ"),
        ("ﬁne", "fine"),
        ("ＡＢＣ　１", "abc 1"),
        (" a\tb\n\u00a0c ", "A B C"),
        ("ΌΣΟΣ", "όσος"),
        ("x²", "x2"),
    ],
)
def test_case_white_space_and_compatible_forms_do_not(one, other):
    assert normalise(one) == normalise(other)


def test_every_character_by_itself():
    """Of those that the standard leaves open, most of all, some."""
    for character in map(chr, range(sys.maxunicode + 1)):
        open_ones = unicodedata.category(character) in ("Cn", "Co")
        if unicodedata.category(character) == "Cs" or (open_ones and ord(character) % 97):
            continue
        key = normalise(character)
        assert normalise(key) == key
        assert normalise(unicodedata.normalize("NFKC", character)) == key
        assert normalise(unicodedata.normalize("NFD", character)) == key
        kept = re.sub(r"\s", "", unicodedata.normalize("NFKC", character).casefold())
        assert bool(key) == bool(kept), "nothing but white space is nothing"


@given(st.text(), st.text())
def test_texts_are_one_by_unicodes_caseless_match(one, other):
    def match(text):  # the standard's definition D146, with white space as one blank
        for _ in range(2):
            text = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text)).casefold()
        return " ".join(unicodedata.normalize("NFKD", text).split())

    assert (normalise(one) == normalise(other)) == (match(one) == match(other))
    assert match(normalise(one)) == match(one)


def test_variants_of_a_text_have_its_words():
    assert words("Ugh! I HATE it :(") == words("ugh i hate it!!!") != words("ugh i hate them")
    assert words("👍") != words("👎")


def test_what_a_split_is_carved_into():
    keys = [str(i) for i in range(10)] + ["held", "held", "0"]
    carved = carve("t", keys, {"held"}, 3, None)
    slice_ = {keys[i] for i in carved.selection}
    assert len(slice_) == 3
    assert not slice_ & {keys[i] for i in carved.train}
    assert "held" not in {keys[i] for i in (*carved.train, *carved.selection)}
    assert carved.dropped == 13 - 3 - len(carved.train)
    assert carve("t", keys, {"held"}, 3, 4).train == carved.train[:4]


def test_nothing_left_says_what_took_it():
    expected = (
        "t: nothing is left to train on: of 5 rows of the training split, 2 have a text of the test split, "
    )
    with pytest.raises(
        TaskError, match=re.escape(expected) + "1 became the selection .* 2 have a text of that"
    ):
        carve("t", ["a", "b", "x", "x", "x"], {"a", "b"}, 1, None)
    with pytest.raises(TaskError, match="all 3 rows of the training split have the same text or prompt, so"):
        carve("t", ["x"] * 3, set(), 1, None)
    with pytest.raises(TaskError, match=r"3 became the selection slice .selection: all. and 0"):
        carve("t", ["a", "b", "c"], set(), None, None)
    with pytest.raises(TaskError, match="of 2 rows of the training split, 2 have a text of the test split"):
        carve("t", ["a", "b"], {"a", "b"}, 1, None)
