"""How an entry of a suite is unfolded over its grid, and how a label is made from its name and the point: to
be read. It is parsed in records of the first schema alone, which leave out what it was made from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any


def label(method: str, point: Mapping[str, Any]) -> str:
    """METHOD-KEYVALUE…, the learning rate first, then by the alphabet: a grid's order of keys is free."""
    return method + "".join(part(key, value) for key, value in in_order(point).items())


def entries(name: str, given: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label -> adapter, its settings and where they come from, of an entry of a suite. A label is the adapter
    unless `name` names another one; `grid` makes one entry per combination of its values, labelled
    LABEL-KEYVALUE… in an order of keys that the file does not decide.

    Raises ValueError for what is no entry.
    """
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"adapter {name}: give its hyperparameters as `key: value`, not {given!r}")
    spec = {"name": name, **(given or {})}
    grid = spec.pop("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise ValueError(f"adapter {name}: a grid is `key: [value, …]`, not {grid!r}")
    grid = in_order({str(key): values for key, values in grid.items()})
    for key in ("method", "point", "chosen_by", "widened"):
        if key in spec or key in grid:
            raise ValueError(f"adapter {name}: unknown key {key!r}")
    if both := [key for key in grid if key in spec and key != "name"]:
        raise ValueError(f"adapter {name}: {both[0]} is set beside the grid that varies it; leave one out")
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        yield label(name, point), spec | point | {"method": name, "point": point}


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
