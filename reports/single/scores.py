"""How sure the score of a single run is: over test items, for there is one seed."""

from __future__ import annotations

import math
from pathlib import Path

from scipy.special import stdtrit

from rankbench.bench.records import RunRecord
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.items import main_scores


def over_items(folder: Path, record: RunRecord) -> tuple[float, float] | None:
    """Ends of the 95 % interval of the main score for new test items, Student's t over those there are, cut
    where the metric ends; `folder` holds the run's predictions. None where the score is no mean over items,
    where there are no predictions, and where the items do not differ.

    Raises RecordError where the predictions do not give the score.
    """
    scores = main_scores(folder, {record.adapter: {record.seed: record}})[record.adapter].get(record.seed)
    if scores is None or scores.size < 2 or not (spread := scores.std(ddof=1)):
        return None
    reach = stdtrit(scores.size - 1, (1 + LEVEL) / 2) * spread / math.sqrt(scores.size)
    scale = record.metrics.scale
    low, high = float(scores.mean() - reach), float(scores.mean() + reach)
    return (
        low if scale.low is None else max(low, scale.low),
        high if scale.high is None else min(high, scale.high),
    )
