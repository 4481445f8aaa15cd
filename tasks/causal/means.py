"""Scores of several tasks in one, item by item: the items' mean is the score, their spread its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Part(NamedTuple):
    """One task's items in a weighted mean of tasks' means."""

    values: NDArray[np.float64]
    """(items,), whose mean is the task's score."""
    weight: float
    """The task's in the mean; 0 of one that is scored beside it."""


def mean(parts: Sequence[Part]) -> float:
    """The weighted mean of the tasks' means."""
    return float(sum(part.weight * part.values.mean() for part in parts))


def linearised(parts: Sequence[Part]) -> NDArray[np.float64]:
    """(items of all tasks,), whose mean is `mean`: the score plus each item's influence on it.

    Of N items, one of the n of a task with weight w counts as m + w N / n (value - task's mean). The variance
    of their mean is then that of a stratified sample, the sum of w² s² / n (Cochran, Sampling Techniques,
    1977, section 5.3): how far apart the tasks' own means lie adds nothing to it.
    """
    items = sum(len(part.values) for part in parts)
    score = mean(parts)
    shares = [
        score + part.weight * items / len(part.values) * (part.values - part.values.mean()) for part in parts
    ]
    return np.concatenate(shares)


def perplexity(losses: NDArray[np.float64], tokens: NDArray[np.float64]) -> Part:
    """From each item's summed loss and number of tokens, (items,): exp of the mean loss of a token.

    A ratio of sums, linearised (Cochran 1977, section 6.4): an item counts as the perplexity plus its
    influence. The weight is 0.
    """
    of_a_token = losses.sum() / tokens.sum()
    score = np.exp(of_a_token)
    return Part(score * (1 + (losses - of_a_token * tokens) / tokens.mean()), 0.0)
