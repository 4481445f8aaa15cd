"""The main score of each run, item by item where its predictions allow.

A score that is a mean over items is split into its terms. Pearson's and Matthews' correlations are
linearised: item i counts as the score plus the item's influence (infinitesimal jackknife, Efron 1982,
10.1137/1.9781611970319), so that the items' mean is the score and their spread gives its standard error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankbench.bench.records.schema import RecordError, RunRecord

Array: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = dict[str, dict[int, Array]]
"""Adapter -> seed -> main score: of shape (items,), the same items for all, or () for the score alone."""

MISMATCHED = "mismatched/"
"""Begins the names of MNLI's second test set, which its main score leaves out."""
CORRELATIONS = ("pearson", "matthews_correlation")
"""Matthews' correlation of two classes is Pearson's of their numbers 0 and 1."""


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
    main = record.metrics.main
    frame = _read(path, "score", "squared_error")
    if "score" in frame:
        parts = frame["score"].to_numpy(np.float64)
    elif main == "mse" and "squared_error" in frame:
        parts = frame["squared_error"].to_numpy(np.float64)
    elif main in ("accuracy", *CORRELATIONS):
        frame = _read(path, "target", "prediction")
        frame = frame[~frame["item"].str.startswith(MISMATCHED)]
        target, prediction = (frame[name].to_numpy(np.float64) for name in ("target", "prediction"))
        parts = _correlation(target, prediction) if main in CORRELATIONS else 1.0 * (target == prediction)
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

    None for other metrics and without predictions. Raises RecordError where they are unreadable.
    """
    main, path = record.metrics.main, folder / (record.predictions or "")
    if main in CORRELATIONS:
        return 0.0
    if main not in ("accuracy", "acc") or not path.is_file():
        return None
    frame = _read(path, "target")
    if "target" not in frame:
        return None
    kept = frame.loc[~frame["item"].str.startswith(MISMATCHED), "target"]
    return float(kept.value_counts(normalize=True).max())


def _correlation(target: Array, prediction: Array) -> Array:
    """Pearson's correlation of (items,) and (items,) as a mean over items: shape (items,).

    Zeros where one of them is constant, which is scored 0 whichever items are drawn.
    """
    if np.ptp(target) == 0 or np.ptp(prediction) == 0:
        return np.zeros(len(target))
    x, y = ((values - values.mean()) / values.std() for values in (target, prediction))
    correlation = float((x * y).mean())
    parts: Array = correlation + x * y - correlation / 2 * (x**2 + y**2)
    return parts


def _read(path: Path, *columns: str) -> pd.DataFrame:
    """Items' names, and those of `columns` that there are: others are wide, and slow to read."""
    import pyarrow.parquet  # a quarter of a second that commands without predictions save

    try:
        file = pyarrow.parquet.ParquetFile(path)
        present = [name for name in columns if name in file.schema_arrow.names]
        return file.read(["item", *present]).to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordError(f"cannot read {path}: {error}; delete it with its record and run again") from error
