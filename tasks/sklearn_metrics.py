"""Metrics of scikit-learn by their own names, which records put behind `sklearn/`.

All that is known of them follows from the name: scorers (`f1_macro`, `neg_log_loss`) are higher where better,
functions too if they end in `_score`; if they end in `_error`, `_loss` or `_deviance` they are lower where
better. So the user guide has it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from rankbench.tasks.metrics import ERROR, METRICS, SHARE, UNKNOWN, Answers, Metric
from rankbench.tasks.options import TaskError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

SKLEARN = "sklearn/"
SHARES = (
    "accuracy", "average_precision", "balanced_accuracy", "completeness", "f1", "fowlkes_mallows",
    "hamming_loss", "homogeneity", "jaccard", "label_ranking_average_precision", "precision", "recall",
    "roc_auc", "top_k_accuracy", "v_measure", "zero_one_loss",
)  # fmt: skip
"""Begin the names of metrics from 0 to 1."""
LOWER = ("_error", "_loss", "_deviance")
OF_PREDICTIONS, OF_PROBABILITIES = ("y_pred", "labels_pred"), ("y_score", "y_proba")
"""Second parameters of scikit-learn's functions."""


def sklearn_name(name: str) -> str:
    """A metric of scikit-learn as records call it. Raises TaskError, with the nearest, where it has none of
    that name that gives one number."""
    from sklearn import metrics

    short = name.removeprefix(SKLEARN)
    if is_sklearns(short):
        return SKLEARN + short
    functions = [each for each in dir(metrics) if _second_parameter(each)]
    ours = [each for each, known in METRICS.items() if known.compute]
    raise TaskError(
        f"no metric is called {name!r}; {nearest(short, [*ours, *metrics.get_scorer_names(), *functions])}"
    )


def is_sklearns(short: str) -> bool:
    """Whether scikit-learn has a metric of that name that gives one number."""
    from sklearn import metrics

    return short in metrics.get_scorer_names() or bool(_second_parameter(short))


def _second_parameter(short: str) -> str:
    """Of a score or an error of (targets, answers) that needs to be told no more; empty where it is none."""
    from sklearn import metrics

    function = getattr(metrics, short, None)
    if not short.endswith(("_score", *LOWER)) or not inspect.isfunction(function):
        return ""
    _, second, *further = inspect.signature(function).parameters.values()
    told = not any(each.default is each.empty for each in further)
    return second.name if told and second.name in (*OF_PREDICTIONS, *OF_PROBABILITIES) else ""


def of_sklearn(name: str) -> Metric:
    """How the metric that records call so is read and computed; scikit-learn is loaded when it computes."""
    short = name.removeprefix(SKLEARN)
    lower = short.endswith(LOWER) and not short.startswith("neg_")
    base = SHARE if short.startswith(SHARES) else ERROR if lower else UNKNOWN
    return replace(
        base,
        lower_is_better=lower,
        judge=partial(_sklearn, short),
        constant=partial(_best_constant, short, lower),
    )


def _sklearn(short: str, target: Array, answers: Answers) -> float:
    """Raises ValueError, scikit-learn's own, where targets and answers are not what the metric is of."""
    import sklearn
    from sklearn import metrics

    probable = takes_probabilities(SKLEARN + short)
    if probable and answers.probability is None:
        raise ValueError("it is of probabilities, which ratings have none of")
    with warnings.catch_warnings(), sklearn.config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore")  # of a class that nothing is said to be of: its precision is then 0
        if short in metrics.get_scorer_names():
            return float(metrics.get_scorer(short)(_answering(target, answers), answers, target))
        given = answers.probability if probable else answers.prediction
        if probable and target.ndim == 1 and given.shape[1] == 2:
            given = given[:, 1]
        return float(getattr(metrics, short)(target, given))


def _answering(target: Array, answers: Answers) -> Any:
    """An estimator of scikit-learn's whose inputs are its answers."""
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    class Answering(BaseEstimator):
        def fit(self) -> None:
            """Scorers take what could be fitted."""

        def predict(self, given: Answers) -> Any:
            return given.prediction

    class Rating(RegressorMixin, Answering):
        pass

    class Classifying(ClassifierMixin, Answering):
        asked = False
        """For probabilities."""

        def predict_proba(self, given: Answers) -> Any:
            self.asked = True
            return given.probability

    if answers.probability is None:
        return Rating()
    made: Any = Classifying()
    count = answers.probability.shape[1]
    made.classes_ = np.arange(count) if target.ndim == 1 else np.eye(count, dtype=int)
    return made


@functools.cache
def takes_probabilities(name: str) -> bool:
    """Whether the metric that records call so looks at probabilities, not at the classes alone."""
    import numpy as np
    from sklearn import metrics

    short = name.removeprefix(SKLEARN)
    if short not in metrics.get_scorer_names():
        return _second_parameter(short) in OF_PROBABILITIES
    target = np.array([0, 1])
    answers = Answers(target, np.eye(2))
    estimator = _answering(target, answers)
    with contextlib.suppress(ValueError), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it may be of ratings or of several labels: it has asked all the same
        metrics.get_scorer(short)(estimator, answers, target)
    return bool(estimator.asked)


def is_of_ratings(short: str) -> bool:
    """Whether it takes targets and answers for numbers, as an error does, by the module that holds it."""
    from sklearn import metrics

    known = short in metrics.get_scorer_names()
    function = metrics.get_scorer(short)._score_func if known else getattr(metrics, short, None)
    return getattr(function, "__module__", "").endswith("._regression")


def _best_constant(short: str, lower: bool, targets: list[Any]) -> float | None:
    """Of answers that look at no item: a class, or how often each is; the mean or the median rating; the
    commonest set of labels, or all that are commoner than some."""
    import numpy as np

    target = np.asarray(targets)
    found = []
    for prediction, chance in _constants(targets):
        rows = (len(target), *np.shape(prediction))
        probability = None if chance is None else np.broadcast_to(chance, (len(target), len(chance)))
        try:
            value = _sklearn(short, target, Answers(np.broadcast_to(prediction, rows), probability))
        except ValueError:  # not what this metric is of
            continue
        if math.isfinite(value):
            found.append(value)
    return (min if lower else max)(found, default=None)


def _constants(targets: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Predictions and probabilities of one item, to be said of all."""
    import numpy as np

    target = np.asarray(targets)
    if target.ndim == 2:
        shares = target.mean(0)
        for often in sorted({*shares}):
            yield (shares >= often).astype(int), shares
        yield np.array(Counter(map(tuple, targets)).most_common(1)[0][0]), shares
    elif isinstance(targets[0], int):
        shares = np.bincount(target, minlength=2) / len(target)
        for one in range(len(shares)):
            yield from ((one, shares), (one, np.eye(len(shares))[one]))
    else:
        yield from ((float(np.mean(target)), None), (float(np.median(target)), None))
