"""Scores of each run, item by item where its predictions allow: the main one as `tasks.metrics` splits it,
and the items' loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankbench.bench.records import RecordError, RunRecord
from rankbench.bench.records.losses import COLUMNS, counted, item_losses, names

if TYPE_CHECKING:  # a quarter of a second that commands without predictions save
    import pyarrow as pa

Array: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = dict[str, dict[int, Array]]
"""Adapter -> seed -> main score: of shape (items,), the same items for all, or () for the score alone."""


def main_scores(folder: Path, runs: Mapping[str, Mapping[int, RunRecord]]) -> Scores:
    """Of the chosen weights, in the records' units; `folder` holds the predictions of `runs`.

    By item only if all runs have the same ones. Raises RecordError where predictions are unreadable or
    do not give the score that their record states.
    """
    return _scores(runs, lambda record: _by_item(folder, record), lambda record: record.metrics.main)


def held_out_losses(folder: Path, runs: Mapping[str, Mapping[int, RunRecord]]) -> Scores:
    """The same of the items' losses, by runs that have measured them."""
    return _scores(runs, lambda record: _losses(folder, record), lambda record: record.metrics.held_out)


def _scores(
    runs: Mapping[str, Mapping[int, RunRecord]],
    by_item: Callable[[RunRecord], _ByItem | None],
    name: Callable[[RunRecord], str],
) -> Scores:
    split = {
        (adapter, seed): by_item(record) for adapter, seeds in runs.items() for seed, record in seeds.items()
    }
    found = [scores for scores in split.values() if scores is not None]
    whole = len(found) == len(split) and all(one.items == found[0].items for one in found)
    return {
        adapter: {
            seed: np.asarray(
                one.parts if whole and (one := split[adapter, seed]) else record.metrics.best[name(record)],
                np.float64,
            )
            for seed, record in seeds.items()
            if name(record) in record.metrics.best
        }
        for adapter, seeds in runs.items()
    }


def check_predictions(folder: Path, record: RunRecord) -> None:
    """Raise RecordError where a record's predictions are unreadable, or do not give the score it states."""
    _by_item(folder, record)


class _ByItem(NamedTuple):
    """A score item by item."""

    items: list[str]
    parts: Array


def _by_item(folder: Path, record: RunRecord) -> _ByItem | None:
    """None where there are no predictions or no such parts."""
    path = folder / record.predictions if record.predictions else None
    if path is None or not path.exists():
        return None
    main, split = record.metrics.main, record.metrics.known.parts
    columns = split.columns if split else ()
    table = _read(path, "score", *columns)
    if "score" in table.column_names:
        parts = _numbers(table, "score")
    elif split and {*columns} <= {*table.column_names}:
        table = counted(table)
        parts = split.of(*(_numbers(table, name) for name in columns))
    else:
        return None
    return _checked(path, record, main, _ByItem(names(table), parts))


def _losses(folder: Path, record: RunRecord) -> _ByItem | None:
    """None where there are no predictions."""
    path = folder / (record.predictions or "")
    if not path.is_file():
        return None
    found = item_losses(_read(path, *COLUMNS))
    return None if found is None else _checked(path, record, found.metric, _ByItem(*found[1:]))


def _checked(path: Path, record: RunRecord, metric: str, found: _ByItem) -> _ByItem:
    """The parts, if their mean is the score that the record states."""
    stated = record.metrics.best[metric]
    if not math.isclose(found.parts.mean(), stated, rel_tol=1e-4, abs_tol=1e-9):
        raise RecordError(
            f"{path} gives {metric} {found.parts.mean():.6g}, its record {stated:.6g}; "
            "delete both and run the suite again"
        )
    return found


def _numbers(table: pa.Table, column: str) -> Array:
    return np.asarray(table[column].to_numpy(), np.float64)


def constant_score(folder: Path, record: RunRecord) -> float | None:
    """Main score of the best answer that looks at no item: the commonest class, no correlation.

    None where it is not known, and where it takes predictions that there are none of. Raises RecordError
    where they are unreadable.
    """
    constant = record.metrics.known.constant
    path = folder / (record.predictions or "")
    if not callable(constant):
        return constant
    if not path.is_file():
        return None
    table = _read(path, "target")
    if "target" not in table.column_names:
        return None
    return constant(counted(table)["target"].to_pylist())


def _read(path: Path, *columns: str) -> pa.Table:
    """Items' names, and those of `columns` that there are: others are wide, and slow to read."""
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        present = [name for name in columns if name in file.schema_arrow.names]
        return file.read(["item", *present], use_threads=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"cannot read {path}: {error}; delete it with its record and run again") from error
