"""What records of the first schema leave out: it is read from their labels, which were made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankbench.bench.records.labels import in_order, part, rank_of


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
