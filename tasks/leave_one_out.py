"""How a score that is no mean over items splits over them all the same: by leaving each out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2000
"""Scores that are computed for it; above, a score is not split, and seeds alone count."""


def item_parts(score: Callable[[NDArray[Any]], float], *columns: NDArray[Any]) -> NDArray[np.float64] | None:
    """Each item's part of a score, (items,), whose mean is the score and whose spread gives its standard
    error: the jackknife's pseudo-values (Tukey 1958; Efron & Stein 1981, 10.1214/aos/1176345462), moved so
    that their mean is the score. Of a mean over items they are the items' own values.

    `score` of the indices of items; `columns`, each (items, …), are all that it looks at: items that agree
    in them are left out once for all. None where the score of fewer items is not defined, or of more than
    `MOST` of them would be needed.
    """
    items = len(columns[0])
    looked_at = np.column_stack([np.reshape(column, (items, -1)) for column in columns])
    _, first, kind = np.unique(looked_at, axis=0, return_index=True, return_inverse=True)
    if items < 3 or len(first) > MOST:
        return None
    everyone = np.arange(items)
    try:
        without = np.array([score(np.delete(everyone, left_out)) for left_out in first])[kind.ravel()]
        whole = score(everyone)
    except ValueError:
        return None
    parts: NDArray[np.float64] = whole + (items - 1) * (without.mean() - without)
    return parts if math.isfinite(float(parts.sum())) else None
