"""Scores of each run, item by item where its predictions allow: the main one as `tasks.metrics` splits it,
and the items' loss. Items of one group, sentences of one author for instance, are not drawn independently of
each other: there the groups are the items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankbench.bench.records import RecordError, RunRecord
from rankbench.bench.records.losses import COLUMNS, MSE, counted, item_losses, names, numbers
from rankbench.tasks.metrics import PERPLEXITY, UNKNOWN, find

if TYPE_CHECKING:  # a quarter of a second that commands without predictions save
    import pyarrow as pa

Array: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = dict[str, dict[int, Array]]
"""Adapter -> seed -> main score: of shape (items,), the same items for all, or (groups,) where they have any,
or () for the score alone."""


def main_scores(folder: Path, runs: Mapping[str, Mapping[int, RunRecord]]) -> Scores:
    """Of the chosen weights, in the records' units; `folder` holds the predictions of `runs`.

    By item only if all runs have the same ones. Raises RecordError where predictions are unreadable or
    do not give the score that their record states.
    """
    return _scores(
        runs,
        lambda record: _by_item(folder, record),
        lambda record: record.metrics.best.get(record.metrics.main),
    )


def held_out_losses(folder: Path, runs: Mapping[str, Mapping[int, RunRecord]]) -> Scores:
    """The same of the items' losses, by runs that have measured them."""
    return _scores(
        runs,
        lambda record: _losses(folder, record),
        lambda record: record.metrics.best.get(record.metrics.held_out),
    )


def losses_told(folder: Path, runs: Mapping[str, Mapping[int, RunRecord]]) -> Scores:
    """The same by every run whose predictions or record tell it, also where nothing of it was recorded, and
    where the main score is such a loss, or the exponential of one."""
    return _scores(runs, lambda record: _main_or_beside(folder, record), mean_loss)


def mean_loss(record: RunRecord) -> float | None:
    """Of the test items, as the record says: the squared error, or nats an item, of a perplexity nats a
    token. None where it does not."""
    metrics = record.metrics
    if metrics.known == PERPLEXITY:
        return math.log(metrics.best[metrics.main])
    return metrics.best.get(metrics.held_out or MSE)


def logarithm(errors: Array) -> Array:
    """Of errors' mean, item by item, (items,) -> (items,): the logarithm and the item's influence on it.

    The mean of these over the items is log(mean) exactly; their spread gives its standard error to first
    order (the delta method). So the difference of two methods' rows has the logarithm of their ratio of means
    for its mean, and is on each item about their difference over the other's mean: a ratio with items as a
    second level, whose reciprocal has the negative.
    """
    mean = errors.mean()
    return np.asarray(np.log(mean) + errors / mean - 1)


def _scores(
    runs: Mapping[str, Mapping[int, RunRecord]],
    by_item: Callable[[RunRecord], _ByItem | None],
    as_recorded: Callable[[RunRecord], float | None],
) -> Scores:
    split = {
        (adapter, seed): by_item(record) for adapter, seeds in runs.items() for seed, record in seeds.items()
    }
    found = [scores for scores in split.values() if scores is not None]
    whole = len(found) == len(split) and all(one.items == found[0].items for one in found)

    def score(adapter: str, seed: int, record: RunRecord) -> Array | float | None:
        one, recorded = split[adapter, seed], as_recorded(record)
        if one is None or (recorded is not None and not whole):
            return recorded
        return one.parts if whole else float(one.parts.mean())

    return {
        adapter: {
            seed: np.asarray(one, np.float64)
            for seed, record in seeds.items()
            if (one := score(adapter, seed, record)) is not None
        }
        for adapter, seeds in runs.items()
    }


def check_predictions(folder: Path, record: RunRecord) -> None:
    """Raise RecordError where a record's predictions are unreadable, or do not give the score it states."""
    _by_item(folder, record)


class _ByItem(NamedTuple):
    """A score item by item, or group by group."""

    items: list[str]
    """Of all items, what they are called and whose group they are in."""
    parts: Array


def _by_item(folder: Path, record: RunRecord) -> _ByItem | None:
    """None where there are no predictions or no such parts."""
    path = folder / record.predictions if record.predictions else None
    if path is None or not path.exists():
        return None
    main, split = record.metrics.main, record.metrics.known.parts
    columns = split.columns if split else ()
    table = read_columns(path, "score", *columns)
    if "score" in table.column_names:
        parts = numbers(table, "score")
    elif split and {*columns} <= {*table.column_names}:
        table = counted(table)
        parts = split.of(*(numbers(table, name) for name in columns))
    else:
        return None
    return _checked(path, record, main, _grouped(table, _ByItem(names(table), parts)))


def _losses(folder: Path, record: RunRecord) -> _ByItem | None:
    """None where there are no predictions."""
    path = folder / (record.predictions or "")
    if not path.is_file():
        return None
    table = counted(read_columns(path, *COLUMNS))
    found = item_losses(table)
    if found is None:
        return None
    return _checked(path, record, found.metric, _grouped(table, _ByItem(*found[1:])))


def _grouped(table: pa.Table, found: _ByItem) -> _ByItem:
    """A part for each group where `table` has any: the mean of all items, and the sum of what the group's own
    are beyond it, at such a scale that the mean stays. Their spread is that of a ratio of sums over groups
    (Cochran 1977, Sampling Techniques, 6.4): a group counts by its size.
    """
    if "group" not in table.column_names:
        return found
    of = table["group"].to_numpy()
    groups, place = np.unique(of, return_inverse=True)
    mean = found.parts.mean()
    beyond = np.bincount(place, found.parts - mean) * len(groups) / len(of)
    return _ByItem([f"{group}: {name}" for group, name in zip(of, found.items, strict=True)], mean + beyond)


def _main_or_beside(folder: Path, record: RunRecord) -> _ByItem | None:
    """Of a perplexity, which the predictions hold item by item, its logarithm."""
    if record.metrics.known != PERPLEXITY:
        return _losses(folder, record)
    found = _by_item(folder, record)
    return None if found is None else found._replace(parts=logarithm(found.parts))


def _checked(path: Path, record: RunRecord, metric: str, found: _ByItem) -> _ByItem:
    """The parts, if their mean is the score that the record states, where it states one."""
    stated, slack = record.metrics.best.get(metric), (find(metric) or UNKNOWN).slack
    if stated is not None and not math.isclose(found.parts.mean(), stated, rel_tol=1e-4, abs_tol=slack):
        raise RecordError(
            f"{path} gives {metric} {found.parts.mean():.6g}, its record {stated:.6g}; "
            "delete both and run the suite again"
        )
    return found


def read_columns(path: Path, *columns: str) -> pa.Table:
    """Items' names and groups, and those of `columns`, that there are: others are wide, and slow to read."""
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        present = [name for name in ("group", *columns) if name in file.schema_arrow.names]
        return file.read(["item", *present], use_threads=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"cannot read {path}: {error}; delete it with its record and run again") from error
