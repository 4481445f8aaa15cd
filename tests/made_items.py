"""Made-up runs with predictions for every test item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rankbench.bench.records import Metrics
from tests.made_records import accuracy, run_record, save


def save_scored(folder: Path, adapter: str, seed: int, frame: pd.DataFrame, metrics: Metrics, **changes: Any):
    """A run of the task `movie` with these predictions beside it."""
    name = f"movie--{adapter}--{seed}.parquet"
    save(folder, run_record("movie", adapter, seed, metrics=metrics, predictions=name, **changes))
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "runs" / name, index=False)


def save_answers(folder: Path, adapter: str, answers: np.ndarray, **changes: Any) -> Path:
    """Runs over seeds whose answers (seeds, items) are right where True."""
    for seed, right in enumerate(answers):
        targets = np.arange(len(right)) % 2
        frame = pd.DataFrame(
            {
                "item": [f"i{i}" for i in range(len(right))],
                "target": targets,
                "prediction": np.where(right, targets, 1 - targets),
            }
        )
        save_scored(folder, adapter, seed, frame, accuracy(float(np.mean(right))), **changes)
    return folder


def answers(
    generator: np.random.Generator, easiness: np.ndarray, seeds: int, luck: float = 0.0
) -> np.ndarray:
    """Right or wrong (seeds, items): items of their own easiness (items,), seeds of their own luck."""
    skill = luck * generator.standard_normal((seeds, 1))
    return generator.standard_normal((seeds, len(easiness))) < easiness + skill
