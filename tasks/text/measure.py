"""The metrics of `tasks.metrics` through Hugging Face's `evaluate`, without its scripts on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from rankbench.tasks.metrics import compute


class Reported(evaluate.Metric):
    """Any of our metrics, of numbers in the precision that models give."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float32")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description=__doc__ or "", citation="", features=features)

    def _compute(
        self, predictions: list[float], references: list[float], names: Sequence[str]
    ) -> dict[str, float]:
        target, predicted = np.asarray(references), np.asarray(predictions)
        return {name: compute(name, target, predicted) for name in names}


def measure(names: Sequence[str], targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """The metrics of these names. Raises TaskError for one that is unknown or that lm-eval alone computes."""
    reported: Any = Reported(keep_in_memory=True)
    return reported.compute(references=list(targets), predictions=list(predictions), names=names)
