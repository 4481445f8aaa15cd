"""What a run leaves of its items, so that its report needs nothing of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankbench.tasks import Score, TaskError
from rankbench.tasks.metrics import OTHERS, metric, refuse_out_of_range

if TYPE_CHECKING:  # what trains, or measures a step, goes without
    import pandas as pd


def with_parts(name: str, score: Score) -> pd.DataFrame:
    """The predictions; where a metric of others has the name, with each item's part of it.

    Raises TaskError where the mean of the parts is not the score, and for one of theirs out of its range.
    """
    for each, value in score.metrics.items():
        refuse_out_of_range(each, value)
    rows, known = score.predictions, metric(name)
    split = known.parts
    if split is None or name not in OTHERS.names() or "score" in rows:
        return rows
    parts = split.of(*(rows[column].to_numpy(np.float64) for column in split.columns))
    if not np.isclose(np.mean(parts), score.metrics[name], rtol=1e-4, atol=known.slack):
        raise TaskError(
            f"the parts of metric {name!r} have the mean {np.mean(parts):.6g}, its value is "
            f"{score.metrics[name]:.6g}; give parts whose mean it is, or none"
        )
    return rows.assign(score=parts)
