"""Splits that stay put: every choice is a hash of the text, never a shuffle or a row number."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from rankbench.tasks.options import TaskError

TEST_SHARE = 0.2
SELECTION_SHARE = 0.1


def normalise(text: str) -> str:
    """What makes two texts one: Unicode's compatible forms (NFKC), case and white space, nothing else.

    A sign, a mark or an emoji is a part of what is said: "7 + 2" is not "7 − 2". Unicode's caseless
    match (definition D146) folds twice, since a compatible form may have a case of its own.
    """
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def words(text: str) -> str:
    """The words alone. "Sad :(" and "SAD!!!" are two texts, but variants of one: they lie in one split."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip() or text


def place(key: str) -> float:
    """A fixed, evenly spread number in [0, 1) for a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def split_of(key: str) -> Literal["train", "selection", "test"]:
    """The split of a text (or of the group of texts) called `key`."""
    position = place(key)
    if position < TEST_SHARE:
        return "test"
    return "selection" if position < TEST_SHARE + SELECTION_SHARE else "train"


def sample(keys: Sequence[str], count: int | None = None) -> list[int]:
    """Indices of at most `count` keys, in the order of their hashes: a fixed random sample."""
    return sorted(range(len(keys)), key=lambda i: (place(keys[i]), i))[:count]


class Carved(NamedTuple):
    """Indices into a training split, and how many of it may not be used."""

    train: list[int]
    selection: list[int]
    dropped: int


def carve(
    task: str, keys: Sequence[str], held_out: Collection[str], selection: int | None, train: int | None
) -> Carved:
    """Take a selection slice out of a training split, and leave out what would leak.

    Items whose key is in `held_out` (the test split) are never used; items whose key is also in
    the slice are not trained on. Raises TaskError, with the counts, where nothing is left to train on.
    """
    free = [i for i in sample(keys) if keys[i] not in held_out]
    chosen = free[:selection]
    seen = {keys[i] for i in chosen}
    rest = [i for i in free[len(chosen) :] if keys[i] not in seen]
    if not rest and len({*keys}) == 1 < len(keys):
        raise TaskError(
            f"{task}: nothing is left to train on: all {len(keys)} rows of the training split have the same "
            "text or prompt, so that they lie in one split; write into it what tells them apart"
        )
    if not rest:
        slice_ = f"selection: {'all' if selection is None else selection}"
        raise TaskError(
            f"{task}: nothing is left to train on: of {len(keys)} rows of the training split, "
            f"{len(keys) - len(free)} have a text of the test split, {len(chosen)} became the selection "
            f"slice ({slice_}) and {len(free) - len(chosen)} have a text of that slice; "
            "lower selection, or add rows"
        )
    return Carved(rest[:train], chosen, len(keys) - len(chosen) - len(rest))


def digest(rows: Iterable[Any]) -> str:
    """SHA-256 over rows of plain values, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str).encode() + b"\n")
    return whole.hexdigest()
