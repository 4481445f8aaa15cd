"""The main score of each run, item by item where its predictions allow: as `tasks.metrics` splits it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankbench.bench.records import RecordError, RunRecord

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
    split = {
        (adapter, seed): _by_item(folder, record)
        for adapter, seeds in runs.items()
        for seed, record in seeds.items()
    }
    found = [scores for scores in split.values() if scores is not None]
    whole = len(found) == len(split) and all(one.items == found[0].items for one in found)
    return {
        adapter: {
            seed: np.asarray(
                one.parts
                if whole and (one := split[adapter, seed])
                else record.metrics.best[record.metrics.main],
                np.float64,
            )
            for seed, record in seeds.items()
            if record.metrics.main in record.metrics.best
        }
        for adapter, seeds in runs.items()
    }


def check_predictions(folder: Path, record: RunRecord) -> None:
    """Raise RecordError where a record's predictions are unreadable, or do not give the score it states."""
    _by_item(folder, record)


class _ByItem(NamedTuple):
    """A main score item by item."""

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
        table = _counted(table, record)
        parts = split.of(*(_numbers(table, name) for name in columns))
    else:
        return None
    if not np.isclose(parts.mean(), record.metrics.best[main], rtol=1e-4, atol=1e-9):
        raise RecordError(
            f"{path} gives {main} {parts.mean():.6g}, its record {record.metrics.best[main]:.6g}; "
            "delete both and run the suite again"
        )
    return _ByItem(table["item"].to_pylist(), parts)


def _numbers(table: pa.Table, column: str) -> Array:
    return np.asarray(table[column].to_numpy(), np.float64)


def _counted(table: pa.Table, record: RunRecord) -> pa.Table:
    """The items that the main score counts."""
    counts = [record.metrics.counts(item) for item in table["item"].to_pylist()]
    return table if all(counts) else table.filter(counts)


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
    return constant(_counted(table, record)["target"].to_pylist())


def _read(path: Path, *columns: str) -> pa.Table:
    """Items' names, and those of `columns` that there are: others are wide, and slow to read."""
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        present = [name for name in columns if name in file.schema_arrow.names]
        return file.read(["item", *present], use_threads=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"cannot read {path}: {error}; delete it with its record and run again") from error
