"""What the best answer reaches that looks at no item: who does not beat it has learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rankbench.bench.records import RunRecord
from rankbench.bench.records.losses import COLUMNS, MSE, counted, item_losses
from rankbench.reports.stats.items import read_columns


def constant_score(folder: Path, record: RunRecord) -> float | None:
    """Main score of such an answer: the commonest class, no correlation.

    None where it is not known, and where it takes predictions that there are none of. Raises RecordError
    where they are unreadable.
    """
    constant = record.metrics.known.constant
    path = folder / (record.predictions or "")
    if not callable(constant):
        return constant
    if not path.is_file():
        return None
    table = read_columns(path, "target")
    if "target" not in table.column_names:
        return None
    return constant(counted(table)["target"].to_pylist())


def constant_loss(folder: Path, record: RunRecord) -> float | None:
    """Mean loss of the items for such an answer: it says how common each class is, and its loss is their
    entropy in nats; or the mean rating, and its loss is the ratings' variance.

    None and RecordError as above; None too of an item with several labels, and of free answers.
    """
    path = folder / (record.predictions or "")
    if not path.is_file():
        return None
    table = counted(read_columns(path, *COLUMNS))
    found = item_losses(table)
    if found is None or "target" not in table.column_names:
        return None
    targets = table["target"].to_numpy()
    if targets.dtype.kind not in "iuf":
        return None
    if found.metric == MSE:
        return float(targets.var())
    shares = np.unique(targets, return_counts=True)[1] / len(targets)
    return float(-(shares * np.log(shares)).sum())
