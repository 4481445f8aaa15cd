"""Splits that stay put: every choice is a hash of the text, never a shuffle or a row number."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

TEST_SHARE = 0.2
SELECTION_SHARE = 0.1


def normalise(text: str) -> str:
    """Case, punctuation and white space removed: texts with equal results are duplicates."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


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


def carve(keys: Sequence[str], held_out: Collection[str], selection: int | None, train: int | None) -> Carved:
    """Take a selection slice out of a training split, and leave out what would leak.

    Items whose key is in `held_out` (the test split) are never used; items whose key is also in
    the slice are not trained on.
    """
    free = [i for i in sample(keys) if keys[i] not in held_out]
    chosen = free[:selection]
    seen = {keys[i] for i in chosen}
    rest = [i for i in free[len(chosen) :] if keys[i] not in seen]
    return Carved(rest[:train], chosen, len(keys) - len(chosen) - len(rest))


def digest(rows: Iterable[Any]) -> str:
    """SHA-256 over rows of plain values, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(json.dumps(row, ensure_ascii=False, sort_keys=True, default=str).encode() + b"\n")
    return whole.hexdigest()
