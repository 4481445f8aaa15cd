"""How a label of the suite is made from an entry's name and the point of its grid: to be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def label(method: str, point: Mapping[str, Any]) -> str:
    """METHOD-KEYVALUE…, the learning rate first, then by the alphabet: a grid's order of keys is free."""
    return method + "".join(part(key, value) for key, value in in_order(point).items())


def in_order(point: Mapping[str, Any]) -> dict[str, Any]:
    """By keys, the learning rate first."""
    return {key: point[key] for key in sorted(point, key=lambda key: (key != "learning_rate", key))}


def rank_of(settings: dict[str, Any]) -> int | None:
    """The rank among an adapter's settings, PEFT's by its own name; None where it has none."""
    rank: int | None = settings.get("rank", settings.get("config", {}).get("r"))
    return rank


def part(key: str, value: Any) -> str:
    """As a part of a label, where "+" and upper case are not allowed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        shown = f"{value:g}".replace("+", "")
    else:
        shown = str(value).lower()
    return f"-{key.replace('_', '-')}{shown}"
