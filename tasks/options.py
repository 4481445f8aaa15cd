"""Options as users write them in suite files, and what is raised where they are mistaken."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class TaskError(ValueError):
    """A task cannot be used as asked: unknown name or option, missing data, an empty split."""


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of an error message: the closest known names, or all of them."""
    close = difflib.get_close_matches(word, dict.fromkeys(known), n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"


def check_counts(task: str, **counts: int | None) -> None:
    """Each must be a whole number above zero; None stands for "all there are"."""
    for option, value in counts.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise TaskError(f"{task}: {option} must be a whole number above 0, got {value!r}")


def check_deadline(task: str, seconds: float | None) -> None:
    """Seconds above zero; None stands for "however long it takes"."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and 0 < seconds < float("inf")):
        raise TaskError(f"{task}: deadline must be a number of seconds above 0, got {seconds!r}")


def check_seed(task: str, seed: int) -> None:
    """The seed of generated data: a whole number from zero."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise TaskError(f"{task}: data_seed must be a whole number from 0, got {seed!r}")


def split_sizes(given: Mapping[str, int] | None) -> dict[str, int | None]:
    """Rows at most of each split, as a suite says: `{train: 2000, test: 500}`; None of those it leaves out.
    Raises TaskError for another form."""
    splits: dict[str, int | None] = dict.fromkeys(("train", "selection", "test"))
    if not isinstance(given, Mapping | None):
        raise TaskError(f"sizes: give rows at most a split, as in {{train: 2000, test: 500}}, not {given!r}")
    for split in given or {}:
        if split not in splits:
            raise TaskError(f"sizes: {split!r} is no split; {nearest(str(split), [*splits])}")
    return splits | dict(given or {})


@dataclass(frozen=True)
class Sizes:
    """Items at most per split (None: all), tokens at most per item, items per scoring batch."""

    train: int | None
    selection: int | None
    test: int | None
    max_length: int
    scoring_batch: int

    def checked(self, task: str) -> Sizes:
        """The same, or a TaskError that names the option at fault."""
        check_counts(task, **asdict(self))
        return self

    def protocol(self) -> dict[str, Any]:
        """What two results must share; of the splits that is what was used, not what was asked."""
        return {"max_length": self.max_length, "scoring_batch": self.scoring_batch}

    def short(self, used: Mapping[str, int]) -> dict[str, int]:
        """What was asked for of each split that has fewer items."""
        asked = {"train": self.train, "selection": self.selection, "test": self.test}
        return {split: count for split, count in asked.items() if count is not None and count > used[split]}

    def check_tokenizer(self, task: str, allowed: int) -> None:
        """Raise TaskError where `max_length` is above what the model's tokenizer allows."""
        if self.max_length > allowed:
            raise TaskError(
                f"{task}: max_length {self.max_length} is above the {allowed} tokens this model allows; "
                f"lower max_length"
            )
