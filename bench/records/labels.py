"""How a label of the suite is made from an entry's name and the point of its grid: to be read. It is parsed
in records of the first schema alone, which leave out what it was made from."""

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


def told_by(label: str, config: Mapping[str, Any]) -> tuple[str, dict[str, Any], int | None]:
    """The method of a run, its point in a grid and its rank."""
    settings = config.get("adapter", {})
    given = {"learning_rate": config.get("learning_rate"), **settings}
    return *taken_apart(label, given), rank_of(settings)


def taken_apart(label: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method and the point of the label of a run whose settings are `given`."""
    point: dict[str, Any] = {}
    # The longest first: `target_rank` ends as `rank` does.
    parts = sorted(((part(key, value), key) for key, value in given.items()), key=lambda each: -len(each[0]))
    while found := next(((end, key) for end, key in parts if key not in point and label.endswith(end)), None):
        end, key = found
        label = label.removesuffix(end)
        point[key] = given[key]
    return label, in_order(point)
