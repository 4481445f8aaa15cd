"""GLUE's metrics as a local `evaluate` module, since the hub's own cannot be fetched offline.

Loaded by path: `evaluate.load(METRICS_FILE, NAME)`, NAME one of NAMES. All values are fractions.
A constant prediction has no correlation with anything: it scores 0, not NaN.
"""

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn import metrics

NAMES = ("matthews", "accuracy", "accuracy_f1", "correlation", "regression")


def _correlations(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    if np.ptp(predictions) == 0 or np.ptp(targets) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(stats.pearsonr(predictions, targets).statistic),
        "spearman": float(stats.spearmanr(predictions, targets).statistic),
    }


class GlueMetrics(evaluate.Metric):
    """One metric, or the pair that GLUE reports together."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in NAMES:
            raise KeyError(f"unknown metric {self.config_name!r}, one of {', '.join(NAMES)}")
        kind = "float32" if self.config_name in ("correlation", "regression") else "int64"
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value(kind), "references": datasets.Value(kind)}
            ),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        predicted, target = np.asarray(predictions), np.asarray(references)
        match self.config_name:
            case "matthews":
                return {"matthews_correlation": float(metrics.matthews_corrcoef(target, predicted))}
            case "correlation":
                return _correlations(target, predicted)
            case "regression":
                mse = float(metrics.mean_squared_error(target, predicted))
                return _correlations(target, predicted) | {"mse": mse}
        accuracy = {"accuracy": float(metrics.accuracy_score(target, predicted))}
        if self.config_name == "accuracy_f1":
            return accuracy | {"f1": float(metrics.f1_score(target, predicted, zero_division=0.0))}
        return accuracy
