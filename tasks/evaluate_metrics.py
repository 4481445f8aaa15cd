"""Metrics of Hugging Face's `evaluate`, from a script on this disk, on the hub or in the hub's cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rankbench.tasks.metrics import UNKNOWN, Answers, Metric
from rankbench.tasks.options import TaskError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


EVALUATE = "evaluate/"
"""Begins their names in records."""


def of_evaluate(name: str, lower: bool, options: Mapping[str, Any]) -> Metric:
    """A metric of `evaluate`, called with these options; it is loaded when it computes, from a script on
    this disk, the hub or the hub's cache."""
    return replace(UNKNOWN, lower_is_better=lower, judge=partial(_evaluate, name, options))


def _evaluate(name: str, options: Mapping[str, Any], target: NDArray[np.float64], answers: Answers) -> float:
    """Raises TaskError where it cannot be loaded, and ValueError where it gives no single number."""
    given = {"predictions": answers.prediction.tolist(), "references": target.tolist()}
    found = _loaded(name).compute(**given, **options)
    short = name.rstrip("/").split("/")[-1].removesuffix(".py")
    values = {key: value for key, value in found.items() if isinstance(value, (int, float))}
    if short not in values and len(values) != 1:
        raise ValueError(f"it gives {', '.join(map(str, found)) or 'nothing'}, not one number called {short}")
    return float(values.get(short, next(iter(values.values()))))


@functools.cache
def _loaded(name: str) -> Any:
    import evaluate

    try:
        return evaluate.load(name, keep_in_memory=True)
    except (OSError, ImportError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        what = f"evaluate's metric {name!r} cannot be loaded, from the disk or the hub (is there a network?)"
        raise TaskError(f"{what}: {reason}") from error
