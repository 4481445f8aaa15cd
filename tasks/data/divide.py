"""Splits of a table: as its files or a column of it say, and what they lack carved out of training. No text
and no group stands in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rankbench.tasks.data.splits import SELECTION_SHARE, TEST_SHARE, normalise, place, sample, words

SPLITS = ("train", "selection", "test")
NAMES = {
    "train": "train", "training": "train",
    "selection": "selection", "validation": "selection", "valid": "selection", "val": "selection",
    "dev": "selection", "test": "test",
}  # fmt: skip
"""What a column may call a split -> the split."""


class Entry(NamedTuple):
    """One row, as far as splits go by it."""

    texts: tuple[str, ...]
    group: str | None
    """What must stay together, the author of a text for instance; None where there are no groups."""

    @property
    def key(self) -> str:
        """Texts that have it are one; of a pair in either order."""
        return "\n".join(sorted(map(normalise, self.texts)))

    @property
    def together(self) -> str:
        """What has it is carved into one split: the group, or texts of the same words."""
        return words(self.key) if self.group is None else f"group {self.group}"


class Divided(NamedTuple):
    """Which rows make each split: the split that they were given in, and their number in it."""

    rows: dict[str, list[tuple[str, int]]]
    dropped: int
    """Rows left out because a text or a group of theirs stands in a split that counts for more: test before
    selection before training."""


def divide(given: Mapping[str, Sequence[Entry]], sizes: Mapping[str, int | None]) -> Divided:
    """Every split, in the order of its texts' hashes and cut to size. Of `given` only `train` has to be
    there: of the others one that is not is carved out of it, by a hash of what stays together, about 20 % for
    test and 10 % for selection."""
    made: dict[str, list[tuple[str, int]]] = {split: [] for split in SPLITS}
    for split, entries in given.items():
        for number, entry in enumerate(entries):
            made[_carved(entry, given) if split == "train" else split].append((split, number))
    seen: set[tuple[str, str]] = set()
    dropped = 0
    for split in reversed(SPLITS):
        entries = [given[origin][number] for origin, number in made[split]]
        keys = [entry.key for entry in entries]
        marks = [
            {("text", key), ("group", key if entry.group is None else entry.together)}
            for key, entry in zip(keys, entries, strict=True)
        ]
        kept = [i for i, own in enumerate(marks) if not own & seen]
        dropped += len(marks) - len(kept)
        seen.update(*(marks[i] for i in kept))
        order = sample([keys[i] for i in kept], sizes[split])
        made[split] = [made[split][kept[i]] for i in order]
    return Divided(made, dropped)


def _carved(entry: Entry, given: Mapping[str, Sequence[Entry]]) -> str:
    """The split of a row of the training file."""
    position = place(entry.together)
    for split, share in (("test", TEST_SHARE), ("selection", SELECTION_SHARE)):
        if split not in given:
            if position < share:
                return split
            position -= share
    return "train"
