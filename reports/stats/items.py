"""The main score of each run, item by item where its predictions allow: as `tasks.metrics` splits it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankbench.bench.records import RecordError, RunRecord

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
    whole = len(found) == len(split) and all(scores.index.equals(found[0].index) for scores in found)
    return {
        adapter: {
            seed: np.asarray(
                split[adapter, seed] if whole else record.metrics.best[record.metrics.main], np.float64
            )
            for seed, record in seeds.items()
            if record.metrics.main in record.metrics.best
        }
        for adapter, seeds in runs.items()
    }


def _by_item(folder: Path, record: RunRecord) -> pd.Series[float] | None:
    """Item's name -> its part of the main score; None where there are no predictions or no such parts."""
    path = folder / record.predictions if record.predictions else None
    if path is None or not path.exists():
        return None
    main, split = record.metrics.main, record.metrics.known.parts
    columns = split.columns if split else ()
    frame = _read(path, "score", *columns)
    if "score" in frame:
        parts = frame["score"].to_numpy(np.float64)
    elif split and {*columns} <= {*frame}:
        frame = frame[frame["item"].map(record.metrics.counts)]
        parts = split.of(*(frame[name].to_numpy(np.float64) for name in columns))
    else:
        return None
    if not np.isclose(parts.mean(), record.metrics.best[main], rtol=1e-4, atol=1e-9):
        raise RecordError(
            f"{path} gives {main} {parts.mean():.6g}, its record {record.metrics.best[main]:.6g}; "
            "delete both and run the suite again"
        )
    return pd.Series(parts, index=pd.Index(frame["item"]))


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
    frame = _read(path, "target")
    if "target" not in frame:
        return None
    return constant(frame.loc[frame["item"].map(record.metrics.counts), "target"].tolist())


def _read(path: Path, *columns: str) -> pd.DataFrame:
    """Items' names, and those of `columns` that there are: others are wide, and slow to read."""
    import pyarrow.parquet  # a quarter of a second that commands without predictions save

    try:
        file = pyarrow.parquet.ParquetFile(path)
        present = [name for name in columns if name in file.schema_arrow.names]
        return file.read(["item", *present]).to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"cannot read {path}: {error}; delete it with its record and run again") from error
