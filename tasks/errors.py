"""What is raised for a user's mistake, and how its message ends."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class TaskError(ValueError):
    """A task cannot be used as asked: unknown name or option, missing data, an empty split."""


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of an error message: the closest known names, or all of them."""
    close = difflib.get_close_matches(word, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
