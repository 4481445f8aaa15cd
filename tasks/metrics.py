"""Every metric that a task reports: which way is better, where it ends, and how it is shown.

Nothing elsewhere guesses this from a metric's name. Importing this module loads no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rankbench.tasks.base import TaskError


@dataclass(frozen=True)
class Metric:
    """One metric, in the unit that tasks return it in."""

    low: float
    """The least and the largest value that it can take."""
    high: float
    lower_is_better: bool = False
    percent: bool = False
    """Whether it is a share, or a correlation, that is shown × 100."""


SHARE = Metric(0.0, 1.0, percent=True)
CORRELATION = Metric(-1.0, 1.0, percent=True)
ERROR = Metric(0.0, math.inf, lower_is_better=True)

METRICS: dict[str, Metric] = {
    # GLUE's and the ratings'
    "accuracy": SHARE,
    "f1": SHARE,
    "matthews_correlation": CORRELATION,
    "pearson": CORRELATION,
    "spearman": CORRELATION,
    "mse": ERROR,
    # lm-eval's, by its own names; a filter's name follows after an underscore
    "acc": SHARE,
    "acc_norm": SHARE,
    "acc_all": SHARE,
    "acc_bytes": SHARE,
    "acc_mutual_info": SHARE,
    "exact_match": SHARE,
    "exact_match_strict_match": SHARE,
    "exact_match_flexible_extract": SHARE,
    "mcc": CORRELATION,
    "brier_score": Metric(0.0, 2.0, lower_is_better=True),
    "bleu": Metric(0.0, 100.0),
    "chrf": Metric(0.0, 100.0),
    "ter": ERROR,
    "perplexity": Metric(1.0, math.inf, lower_is_better=True),
    "word_perplexity": Metric(1.0, math.inf, lower_is_better=True),
    "byte_perplexity": Metric(1.0, math.inf, lower_is_better=True),
    "bits_per_byte": ERROR,
    # what generation is selected by: the mean log-likelihood of an answer's token
    "answer_loglikelihood": Metric(-math.inf, 0.0),
}


def metric(name: str) -> Metric:
    """The metric of that name. Raises TaskError for one that is not listed here."""
    if name not in METRICS:
        raise TaskError(f"nothing is known of the metric {name!r}; say in tasks/metrics.py how it is read")
    return METRICS[name]
