"""A user's mistake: what is raised, how its message ends, and checks of hyperparameters."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence


class AdapterError(ValueError):
    """An adapter cannot be made or attached as asked; the message names the way out."""


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of an error message: the closest known name, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"


def check_positive(**values: float) -> None:
    """Raise AdapterError naming the first hyperparameter that is not a positive number."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise AdapterError(f"{key} must be a positive number, not {value!r}")


def check_count(**values: int) -> None:
    """Raise AdapterError naming the first hyperparameter that is not a positive whole number."""
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise AdapterError(f"{key} must be a positive whole number, not {value!r}")


def check_steps(**values: float) -> None:
    """Raise AdapterError naming the first hyperparameter that is neither a number of steps nor a fraction."""
    for key, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        if not number or (value >= 1 and value != int(value)):
            raise AdapterError(f"{key} must be a number of steps or a fraction below 1, not {value!r}")


def check_flag(**values: bool) -> None:
    """Raise AdapterError naming the first hyperparameter that is neither true nor false."""
    for key, value in values.items():
        if not isinstance(value, bool):
            raise AdapterError(f"{key} must be true or false, not {value!r}")
