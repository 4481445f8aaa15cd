"""The loss of each test item, as a run's predictions tell it.

It is a proper score (Gneiting & Raftery 2007, 10.1198/016214506000001437): in the long run best for a model
that says what it truly expects. An accuracy is not: it counts which side of a threshold an answer is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankbench.tasks.metrics import BESIDE

if TYPE_CHECKING:  # a quarter of a second that commands without predictions save
    import pyarrow as pa

Array: TypeAlias = NDArray[np.float64]

NLL, MSE = "nll", "mse"
COLUMNS = ("squared_error", "target", "logits", "loglikelihood", "loglikelihoods")
"""Of predictions: those that losses follow from."""


class ItemLosses(NamedTuple):
    """What the mean of the losses is called, and each of them."""

    metric: str
    """By its name in `tasks.metrics`: nats of the right class, choice or answer, or the squared error."""
    items: list[str]
    values: Array


def item_losses(predictions: pa.Table) -> ItemLosses | None:
    """Of the items that the main score counts; None where the predictions tell answers alone.

    Choices that lm-eval scores by their log-likelihoods count as classes whose logits these are. Several
    labels of one item, 0 or 1 each, count as independent: their losses add up.
    """
    predictions = counted(predictions)
    found = _losses(predictions)
    return None if found is None else ItemLosses(found[0], names(predictions), found[1])


def counted(predictions: pa.Table) -> pa.Table:
    """The items that the main score counts: MNLI's second test set is scored beside it."""
    import pyarrow.compute

    beside = pyarrow.compute.starts_with(predictions["item"], BESIDE)
    if not pyarrow.compute.any(beside).as_py():
        return predictions
    return predictions.filter(pyarrow.compute.invert(beside))


def names(predictions: pa.Table) -> list[str]:
    """Of the items: by way of NumPy, since Arrow's own `to_pylist` is slow."""
    return predictions["item"].to_numpy().tolist()


def _losses(predictions: pa.Table) -> tuple[str, Array] | None:
    columns = {name for name in predictions.column_names if not predictions[name].null_count}
    if "squared_error" in columns:
        return MSE, numbers(predictions, "squared_error")
    if "loglikelihood" in columns:
        return NLL, -numbers(predictions, "loglikelihood")
    logits = next((name for name in ("loglikelihoods", "logits") if name in columns), None)
    if logits is None or "target" not in columns:
        return None
    # Choices may differ in number, so the rows lie one after the other.
    counts, flat = _rows(predictions, logits)
    starts = np.cumsum(counts) - counts
    if "list" in str(predictions["target"].type):
        _, labels = _rows(predictions, "target")
        return NLL, np.add.reduceat(np.logaddexp(0, flat) - labels * flat, starts)
    target = predictions["target"].to_numpy()
    if target.dtype.kind not in "iuf":
        return None
    if (counts == 1).all():
        return MSE, (target - flat) ** 2
    right = target.astype(np.int64)
    if not ((right >= 0) & (right < counts)).all():
        return None
    return NLL, np.logaddexp.reduceat(flat, starts) - flat[starts + right]


def _rows(table: pa.Table, column: str) -> tuple[NDArray[np.int64], Array]:
    """The length of each row of a column of lists, and all their numbers."""
    rows = table[column].combine_chunks()
    return rows.value_lengths().to_numpy(), np.asarray(rows.flatten().to_numpy(), np.float64)


def numbers(table: pa.Table, column: str) -> Array:
    """A column, (items,)."""
    return np.asarray(table[column].to_numpy(), np.float64)
