"""Every metric: what computes it, what an item adds to it, where it ends, how it is read and shown.

A new metric is one entry of `METRICS`; a task reports it by naming it, and nothing elsewhere goes by a
metric's name. This module loads neither torch nor pandas, and scikit-learn and SciPy when they compute.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rankbench.bench.plugins import Others
from rankbench.tasks.options import TaskError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

BESIDE = "mismatched/"
"""Begins the names of scored items that the main score leaves out: those of MNLI's second test set."""


class Answers(NamedTuple):
    """What a model says of some items."""

    prediction: Any
    """Numbers of classes, or ratings, (items,); of several labels 0 or 1 each, (items, labels)."""
    probability: Any = None
    """Of every class or label, (items, classes); None of ratings."""


class Parts(NamedTuple):
    """How a score is a mean over items."""

    columns: tuple[str, ...]
    """Of the predictions."""
    of: Callable[..., Array]
    """Those columns, each (items,) -> each item's part, (items,), whose mean is the score."""


@dataclass(frozen=True)
class Metric:
    """One metric, in the unit that tasks return it in."""

    low: float
    """The least and the largest value that it can take."""
    high: float
    lower_is_better: bool = False
    percent: bool = False
    """Whether it is a share, or a correlation, that is shown × 100."""
    compute: Callable[[Array, Array], float] | None = None
    """Targets and predictions, both (items,) -> its value; None where lm-eval computes it."""
    judge: Callable[[Array, Answers], float] | None = None
    """The same of one that may look at probabilities, and score several labels an item: a library's."""
    parts: Parts | None = None
    """None where it is no mean over items, and where the predictions hold each item's `score`."""
    constant: float | Callable[[list[Any]], float | None] | None = None
    """What the best answer that looks at no item scores, always or on these targets; None: not known."""
    published: str | None = None
    """What papers call it, where that is another name."""
    selected_by: str | None = None
    """The metric that models are selected by instead, where this one is too costly: answers are written."""

    @property
    def slack(self) -> float:
        """By how much the mean of its parts may miss it near 0. A correlation is measured on targets in
        single precision, as models learn them, and misses by up to 1e-7; an error may be of a small unit."""
        return 1e-6 if self.percent else 1e-9


def _sklearn(name: str, **options: Any) -> Callable[[Array, Array], float]:
    def compute(target: Array, prediction: Array) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(target, prediction, **options))

    return compute


def _correlation(name: str) -> Callable[[Array, Array], float]:
    """SciPy's; 0 where targets or predictions are all one, which SciPy has no number for."""

    def compute(target: Array, prediction: Array) -> float:
        from scipy import stats

        if _is_constant(target) or _is_constant(prediction):
            return 0.0
        return float(getattr(stats, name)(prediction, target).statistic)

    return compute


def _is_constant(values: Array) -> bool:
    return bool(values.min() == values.max())


def _hits(target: Array, prediction: Array) -> Array:
    return (target == prediction).astype(float)


def _influences(target: Array, prediction: Array) -> Array:
    """Pearson's correlation, linearised: an item counts as the score plus the item's influence
    (infinitesimal jackknife, Efron 1982, 10.1137/1.9781611970319), so that the items' mean is the score and
    their spread gives its standard error.

    Zeros where one of them is constant, which is scored 0 whichever items are drawn.
    """
    if _is_constant(target) or _is_constant(prediction):
        return target - target
    x, y = ((values - values.mean()) / values.std() for values in (target, prediction))
    return _linearised(x * y, x**2, y**2)


def _class_influences(target: Array, prediction: Array) -> Array:
    """The same of Matthews', which is Pearson's of all classes' indicators together (Gorodkin 2004,
    10.1016/j.compbiolchem.2004.09.006): of two classes Pearson's of their numbers."""
    import numpy as np

    if _is_constant(target) or _is_constant(prediction):
        return target - target
    classes = np.union1d(target, prediction)
    indicators = (np.equal.outer(values, classes) for values in (target, prediction))
    centred = (each - each.mean(0) for each in indicators)
    x, y = (each / math.sqrt((each**2).sum(1).mean()) for each in centred)
    return _linearised((x * y).sum(1), (x**2).sum(1), (y**2).sum(1))


def _linearised(products: Array, squares: Array, others: Array) -> Array:
    """Of standardised values: the mean of `products` is the correlation, those of the squares are 1."""
    correlation = float(products.mean())
    return correlation + products - correlation / 2 * (squares + others)


def _commonest(targets: list[Any]) -> float:
    return Counter(targets).most_common(1)[0][1] / len(targets)


UNKNOWN = Metric(-math.inf, math.inf)
"""How a metric is read that is not listed here."""
SHARE = Metric(0.0, 1.0, percent=True)
CORRELATION = Metric(-1.0, 1.0, percent=True, constant=0.0)
ERROR = Metric(0.0, math.inf, lower_is_better=True)
PERPLEXITY = replace(ERROR, low=1.0)
HITS = Parts(("target", "prediction"), _hits)
INFLUENCES = Parts(("target", "prediction"), _influences)
CLASS_INFLUENCES = Parts(("target", "prediction"), _class_influences)

METRICS: dict[str, Metric] = {
    # GLUE's and the ratings'
    "accuracy": replace(SHARE, compute=_sklearn("accuracy_score"), parts=HITS, constant=_commonest),
    "accuracy_mismatched": SHARE,
    "f1": replace(SHARE, compute=_sklearn("f1_score", zero_division=0.0)),
    "matthews_correlation": replace(
        CORRELATION, compute=_sklearn("matthews_corrcoef"), parts=CLASS_INFLUENCES
    ),
    "pearson": replace(
        CORRELATION, compute=_correlation("pearsonr"), parts=INFLUENCES, published="correlation"
    ),
    "spearman": replace(CORRELATION, compute=_correlation("spearmanr")),
    "mse": replace(
        ERROR, compute=_sklearn("mean_squared_error"), parts=Parts(("squared_error",), lambda error: error)
    ),
    # lm-eval's, by its own names; a filter's name follows after an underscore
    "acc": replace(SHARE, constant=_commonest, published="accuracy"),
    "acc_norm": SHARE,
    "acc_all": SHARE,
    "acc_bytes": SHARE,
    "acc_mutual_info": SHARE,
    "exact_match": SHARE,
    "exact_match_strict_match": replace(SHARE, selected_by="answer_loglikelihood"),
    "exact_match_flexible_extract": SHARE,
    "math_verify": SHARE,
    "mcc": CORRELATION,
    "brier_score": replace(ERROR, high=2.0),
    "bleu": Metric(0.0, 100.0),
    "chrf": Metric(0.0, 100.0),
    "ter": ERROR,
    "perplexity": PERPLEXITY,
    "word_perplexity": PERPLEXITY,
    "byte_perplexity": PERPLEXITY,
    "bits_per_byte": ERROR,
    # the mean loss of test items beside an accuracy (`bench.records.losses`)
    "nll": ERROR,
    # of several tasks
    "mean": SHARE,
    # what generation is selected by: the mean log-likelihood of an answer's token
    "answer_loglikelihood": Metric(-math.inf, 0.0),
}


def _fault(found: Any) -> str:
    return "" if isinstance(found, Metric) else "is no tasks.metrics.Metric"


OTHERS: Others[Metric] = Others("metric", "rankbench.metrics", lambda: METRICS, _fault, TaskError)
"""Of packages, by entry points that name a `Metric`, and of plug-in files."""


def find(name: str) -> Metric | None:
    """The metric that records call so, where a task scores on several after the name of that one:
    `gsm8k/exact_match`; None where nothing is known of it here. Raises TaskError for one of another package
    that cannot be loaded."""
    if name.startswith("sklearn/"):
        from rankbench.tasks.sklearn_metrics import of_sklearn

        return of_sklearn(name)
    if name in METRICS:
        return METRICS[name]
    if name in OTHERS.names():
        return OTHERS.load(name)
    return find(name.partition("/")[2]) if "/" in name else None


def metric(name: str) -> Metric:
    """The metric that records call so. Raises TaskError where nothing is known of it."""
    if (found := find(name)) is None:
        raise TaskError(f"nothing is known of the metric {name!r}; say in tasks/metrics.py how it is read")
    return found


def refuse_out_of_range(name: str, value: float) -> None:
    """Raise TaskError where another's metric is outside the range of its entry, where reports end intervals
    and by which they tell errors. Ours are tested."""
    if name not in OTHERS.names():
        return
    known = metric(name)
    if not known.low - known.slack <= value <= known.high + known.slack:
        raise TaskError(
            f"metric {name} is {value:.6g}, outside the range of its entry, {known.low:g} to {known.high:g}; "
            "give it the `low` and `high` that it has"
        )


def compute(name: str, target: Array, prediction: Array) -> float:
    """The metric's value on targets and predictions, both (items,). Raises TaskError where lm-eval alone
    computes it."""
    function = metric(name).compute
    if function is None:
        raise TaskError(f"nothing here computes the metric {name!r}: lm-eval does, for its own tasks")
    return function(target, prediction)
