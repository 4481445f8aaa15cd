"""Splits of a table: nothing leaks, nothing is lost, and rows stay where they are when others come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankbench.tasks.data.divide import SPLITS, Entry, divide
from rankbench.tasks.data.splits import normalise

ALL = dict.fromkeys(SPLITS)
TEXT = st.sampled_from([f"text {i}" for i in range(30)] + ["Text 1", "TEXT  2", "text 3!", "ｔｅｘｔ 4"])
GROUPED = st.builds(lambda text, group: Entry((text,), group), TEXT, st.sampled_from("abcdefgh"))
ALONE = st.builds(lambda *texts: Entry(texts, None), TEXT, TEXT)
GIVEN = st.one_of(
    *(
        st.fixed_dictionaries({"train": rows}, optional={"selection": rows, "test": rows})
        for rows in (st.lists(GROUPED, max_size=40), st.lists(ALONE, max_size=40))
    )
)


@given(GIVEN)
def test_no_text_and_no_group_stands_in_two_splits_and_every_row_is_counted(pools):
    made = divide(pools, ALL)
    chosen = {split: [pools[origin][i] for origin, i in rows] for split, rows in made.rows.items()}
    for mark in (
        lambda row: tuple(map(normalise, row.texts)),
        lambda row: row.group or tuple(map(normalise, row.texts)),
    ):
        seen = [{mark(row) for row in rows} for rows in chosen.values()]
        assert sum(map(len, seen)) == len(set().union(*seen))
    used = [each for rows in made.rows.values() for each in rows]
    assert len(used) == len(set(used)) == sum(map(len, pools.values())) - made.dropped
    for split, rows in made.rows.items():
        assert split == "train" or split not in pools or {origin for origin, _ in rows} <= {split}


@pytest.mark.parametrize("group", [None, "author"])
def test_what_is_carved_does_not_move_when_rows_come(group):
    def entry(i):
        return Entry((f"text {i}",), group and f"{group} {i // 2}")

    def places(rows):
        made = divide({"train": rows}, ALL).rows
        return {rows[i].texts: split for split, each in made.items() for _, i in each}

    few, many = places([entry(i) for i in range(300)]), places([entry(i) for i in reversed(range(900))])
    assert many.items() >= few.items()
    shares = [[*many.values()].count(split) / 900 for split in SPLITS]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.05)


def test_only_what_is_lacking_is_carved():
    rows = [Entry((f"text {i}",), None) for i in range(1000)]
    other = [Entry((f"other {i}",), None) for i in range(5)]
    made = divide({"train": rows, "test": other}, ALL).rows
    assert len(made["test"]) == 5
    assert len(made["selection"]) == pytest.approx(100, abs=30)
    made = divide({"train": rows, "test": other, "selection": rows[:10]}, ALL)
    assert [len(made.rows[split]) for split in SPLITS] == [990, 10, 5]
    assert made.dropped == 10


def test_a_text_that_is_called_as_a_group_is_no_group():
    given = {"train": [Entry((f"text {i}",), "a") for i in range(20)], "selection": [Entry(("x",), "b")]}
    given["test"] = [Entry(("group a",), "c")]
    assert divide(given, ALL).dropped == 0


def test_a_split_is_cut_to_a_sample_that_a_smaller_one_is_part_of():
    rows = {"train": [Entry((f"text {i}",), None) for i in range(200)]}
    whole, ten, five = (divide(rows, ALL | {"train": size}).rows["train"] for size in (None, 10, 5))
    assert whole[:10] == ten
    assert ten[:5] == five


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a {}", "b {}"), ("b {}", "a {}")), (("Caf\u00e9 {}!",), ("Cafe\u0301 {}",))],
    ids=["a pair in the other order", "a letter in its other form"],
)
def test_what_says_the_same_is_carved_into_one_split(one, other):
    rows = [
        Entry(tuple(text.format(i) for text in texts), None) for i in range(200) for texts in (one, other)
    ]
    made = divide({"train": rows}, ALL)
    split_of = {i: split for split, each in made.rows.items() for _, i in each}
    assert made.dropped == 0
    assert all(split_of[i] == split_of[i + 1] for i in range(0, 400, 2))
