"""How a label of the suite is made from an entry's name and the point of its grid, and taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def label(method: str, point: Mapping[str, Any]) -> str:
    """METHOD-KEYVALUE…, the learning rate first, then by the alphabet: a grid's order of keys is free."""
    return method + "".join(_part(key, value) for key, value in in_order(point).items())


def in_order(point: Mapping[str, Any]) -> dict[str, Any]:
    """By keys, the learning rate first."""
    return {key: point[key] for key in sorted(point, key=lambda key: (key != "learning_rate", key))}


def taken_apart(text: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method and the point of a label of a run whose settings are `given`: for records without them."""
    point: dict[str, Any] = {}
    # The longest first: `target_rank` ends as `rank` does.
    parts = sorted(((_part(key, value), key) for key, value in given.items()), key=lambda each: -len(each[0]))
    while key := next((key for part, key in parts if key not in point and text.endswith(part)), None):
        text = text.removesuffix(_part(key, given[key]))
        point[key] = given[key]
    return text, in_order(point)


def _part(key: str, value: Any) -> str:
    """As a part of a label, where "+" and upper case are not allowed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        shown = f"{value:g}".replace("+", "")
    else:
        shown = str(value).lower()
    return f"-{key.replace('_', '-')}{shown}"
