"""What is raised for a user's mistake, and how its message ends."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class AdapterError(ValueError):
    """An adapter cannot be made or attached as asked; the message names the way out."""


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of an error message: the closest known name, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"
