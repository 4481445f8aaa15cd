"""Made-up records of a suite that tunes its methods: trials, and the runs whose settings these chose."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rankbench.bench.records import Forgetting, RunRecord
from tests.made_records import accuracy, curve, overhead_record, run_record, save

RATES = [1e-4, 3e-4, 1e-3, 3e-3, 8e-3, 2e-3]


def trial(task: str, method: str, number: int, loss: float, **changes: Any) -> RunRecord:
    """A trial of the experiment `task`; its rate is `RATES`' of its number unless `point` says more."""
    point = changes.pop("point", {"learning_rate": RATES[number % len(RATES)]})
    config = {
        "adapter": {"name": changes.pop("name", method)},
        "learning_rate": point.get("learning_rate"),
        "scored_on": "selection",
        "training": {"steps": changes.pop("steps", 10)},
    }
    fields: dict[str, Any] = {
        "method": method,
        "point": point,
        "config": config,
        "protocol": {"length": 64, "scored_on": "selection"},
        "fingerprint": f"{task}-{method}-{number}",
        "metrics": accuracy(1 - loss, nll=loss),
    }
    label = changes.pop("label", f"{method}-t{number:02d}")
    return run_record(f"{task}-trials", label, 1000, **fields | changes)


def chosen(task: str, method: str, seed: int, trials: Sequence[RunRecord], **changes: Any) -> RunRecord:
    """A run whose settings are those of the best of the trials."""
    best = min(trials, key=lambda one: one.metrics.best[one.metrics.held_out or one.metrics.main])
    config = {"adapter": {"name": method, **best.point}, "learning_rate": best.point.get("learning_rate")}
    fields: dict[str, Any] = {
        "config": config,
        "tuned": True,
        "chosen_by": [one.fingerprint for one in trials],
    }
    return run_record(task, method, seed, **fields | changes)


def board(folder: Path, methods: int = 40, seeds: int = 3, trials: int = 6, items: int = 60) -> Path:
    """Two tasks, each with so many methods; also what the pages were looked at with."""
    noise = random.Random(0)
    names = ["lora", "scalora", "dora", *(f"method-{place:02d}" for place in range(3, methods))][:methods]
    for task in ("cola", "movie"):
        for place, name in enumerate(names):
            level = 0.45 + 0.004 * ((7 * place) % methods)
            found = []
            for number in range(trials):
                point = {"learning_rate": 10 ** noise.uniform(-4, -2)}
                point |= {"smoothness": 10 ** noise.uniform(1, 3.5)} if name == "scalora" else {}
                off = abs(math.log10(point["learning_rate"]) + 2.8)
                found.append(trial(task, name, number, level + 0.08 * off * off, point=point))
            save(folder, *found)
            for seed in range(seeds):
                _run(folder, task, name, seed, found, level + noise.gauss(0, 0.004), place, items)
    rounds = {
        name: [[0.1 * (1 + 0.02 * place) * noise.uniform(0.99, 1.01)] * 3 for _ in range(5)]
        for place, name in enumerate(names)
    }
    peaks = {
        name: [800.0 + 10 * place + noise.uniform(0, 2) for _ in range(5)] for place, name in enumerate(names)
    }
    parameters = {name: 1200 + 40 * place for place, name in enumerate(names)}
    save(folder, overhead_record(rounds, peak_resident=peaks, parameters=parameters))
    return folder


def _run(
    folder: Path,
    task: str,
    name: str,
    seed: int,
    found: Sequence[RunRecord],
    level: float,
    place: int,
    items: int,
) -> None:
    """With the loss of each test item: the same items are hard for all methods."""
    hard = np.random.default_rng(7).normal(0, 0.15, items)
    loss = np.maximum(
        0.01, level + hard - hard.mean() + np.random.default_rng((place, seed)).normal(0, 0.03, items)
    )
    target = np.arange(items) % 2
    right = loss < np.quantile(loss, 0.7)
    file = f"{task}--{name}--{seed}.parquet"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {
            "item": [f"i{at}" for at in range(items)],
            "target": target,
            "prediction": np.where(right, target, 1 - target),
            "loglikelihood": -loss,
        }
    ).to_parquet(folder / "runs" / file, index=False)
    metrics = accuracy(float(right.mean()), nll=float(loss.mean()))
    falls = curve([level + 0.3 * math.exp(-step / 20) for step in range(100)])
    kept = Forgetting(kind="drift", value=0.01 * (1 + place) + 0.001 * seed, items=32, text="ab")
    counts = {"total": 100_000, "trainable": 1500 + 40 * place, "adapter": 1200 + 40 * place}
    save(
        folder,
        chosen(
            task,
            name,
            seed,
            found,
            metrics=metrics,
            predictions=file,
            curve=falls,
            forgetting=kept,
            parameters=counts,
        ),
    )
