"""What a row of a table is labelled with: one class of several, a number, or any of several classes.

Each kind has `names`, the classes in the order of the model's `outputs`, or none. It reads a label `of` a
row, says what is `learned` for it, gives the `loss` of outputs, (items, outputs), summed over items, and what
these answer, in the labels' own unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rankbench.tasks.data.lines import Row
from rankbench.tasks.metrics import Answers
from rankbench.tasks.options import TaskError
from rankbench.tasks.text.cells import cell, class_name, class_names, shown, switch

Label: TypeAlias = float | tuple[float, ...]
MOST_SHOWN = 10
COARSE = 1e-3
"""Of a deviation: steps between two numbers that a score may be moved by."""


@dataclass(frozen=True)
class OneClass:
    """One of the classes `names`, told by the column `column`."""

    column: str
    names: tuple[str, ...]
    loss_is = "cross-entropy per item"

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.names)

    def of(self, row: Row) -> int:
        """The number of the row's class."""
        name = class_name(row, self.column)
        if name not in self.names:
            raise TaskError(_unseen(row, name, self.names))
        return self.names.index(name)

    def learned(self, label: Label) -> Label:
        """The number itself."""
        return label

    def loss(self, outputs: Tensor, learned: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, learned, reduction="sum")

    def answers(self, outputs: NDArray[np.float32]) -> Answers:
        """The likeliest class."""
        chances = np.exp(outputs - outputs.max(axis=1, keepdims=True), dtype=np.float64)
        return Answers(outputs.argmax(axis=1), chances / chances.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Rating:
    """A number in the column `column`. The model learns it in standard deviations from the mean of the
    training items, so that it need not be of any size."""

    column: str
    mean: float = 0.0
    deviation: float = 1.0
    names: ClassVar[tuple[str, ...]] = ()
    loss_is = "squared error per item, of standardised ratings"
    outputs = 1

    def of(self, row: Row) -> float:
        """The number."""
        value = cell(row, self.column)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        python_alone = isinstance(value, bool) or "_" in str(value)  # of 1_5 it makes 15
        if python_alone or not math.isfinite(number):
            raise TaskError(
                f"{row.place}, column {self.column!r}: {shown(value)} is no finite number, as in 3.5"
            )
        return number

    def standardised(self, ratings: Iterable[Label]) -> Rating:
        """The same, its mean and deviation those of these ratings, which differ. Raises TaskError where
        double precision has none."""
        values = np.array([*ratings], np.float64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        if not np.finfo(np.float64).tiny <= deviation < math.inf:
            raise TaskError(
                f"label {self.column}: from {values.min():g} to {values.max():g} the training items' numbers "
                "are too large, or too near each other, to be scaled; give them in another unit"
            )
        return Rating(self.column, mean, deviation)

    def learned(self, label: Label) -> Label:
        """In standard deviations from the mean."""
        assert not isinstance(label, tuple)
        return (label - self.mean) / self.deviation

    def loss(self, outputs: Tensor, learned: Tensor) -> Tensor:
        """Squared error."""
        return F.mse_loss(outputs.squeeze(-1), learned.to(outputs.dtype), reduction="sum")

    def answers(self, outputs: NDArray[np.float32]) -> Answers:
        """The number itself, in single precision, as exact as the model is and half the file, unless ratings
        lie far from 0 beside how far apart they are: moments of one day in seconds would be 128 s apart."""
        rated = outputs[:, 0].astype(np.float64) * self.deviation + self.mean
        if np.spacing(np.float32(self.mean)) > COARSE * self.deviation:
            return Answers(rated)
        return Answers(rated.astype(np.float32).astype(np.float64))


@dataclass(frozen=True)
class SeveralClasses:
    """Any number of the classes `names`: each a column of 0 and 1, or all in one column, a list of names or a
    text of them with `separator` between."""

    columns: tuple[str, ...]
    names: tuple[str, ...]
    separator: str | None = None
    loss_is = "binary cross-entropy per item, summed over labels"

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.names)

    def of(self, row: Row) -> tuple[float, ...]:
        """1 for each class that the row has, 0 for each other."""
        if len(self.columns) > 1:
            return tuple(switch(row, column) for column in self.columns)
        given = class_names(row, self.columns[0], self.separator)
        for name in given:
            if name not in self.names:
                raise TaskError(_unseen(row, name, self.names))
        return tuple(float(name in given) for name in self.names)

    def learned(self, label: Label) -> Label:
        """The same numbers."""
        return label

    def loss(self, outputs: Tensor, learned: Tensor) -> Tensor:
        """Binary cross-entropy of every class."""
        return F.binary_cross_entropy_with_logits(outputs, learned.to(outputs.dtype), reduction="sum")

    def answers(self, outputs: NDArray[np.float32]) -> Answers:
        """The classes that are likelier than not."""
        return Answers((outputs > 0).astype(np.int64), 1 / (1 + np.exp(-outputs.astype(np.float64))))


def classes_of(label: Label) -> list[int]:
    """The numbers of the classes that an item has."""
    return [i for i, has in enumerate(label) if has] if isinstance(label, tuple) else [int(label)]


Labels: TypeAlias = OneClass | Rating | SeveralClasses


def _unseen(row: Row, name: str, names: Sequence[str]) -> str:
    known = ", ".join(names[:MOST_SHOWN]) + (", …" if len(names) > MOST_SHOWN else "")
    return (
        f"{row.place}: the label {shown(name)} is none of the classes {known}; mend it, or name it in labels"
    )
