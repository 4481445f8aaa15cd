"""Made-up records for the tests of the reports."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from rankbench.bench.records import (
    Curve,
    FailureRecord,
    Forgetting,
    MergeParity,
    Metrics,
    Observation,
    OverheadRecord,
    RunRecord,
    write_record,
)


def run_record(task: str, adapter: str, seed: int, **changes: Any) -> RunRecord:
    """A plain run: accuracy 0.8, a loss that falls 1.0, 0.9 … 0.1, one second a step."""
    fields: dict[str, Any] = {
        "suite": "made",
        "task": task,
        "adapter": adapter,
        "seed": seed,
        "model": "tiny",
        "fingerprint": "0" * 64,
        "config": {"adapter": {"name": adapter}},
        "protocol": {"length": 64, "targets": "query|value"},
        "metrics": accuracy(0.8),
        "curve": curve([(10 - step) / 10 for step in range(10)]),
        "timings": {"median_step": 0.5, "train": 10.0, "score": 2.0, "total": 12.5},
        "memory": {"peak_resident": 700.0},
        "parameters": {"total": 100_000, "trainable": 1500, "adapter": 1200},
        "diagnostics": {},
        "provenance": {"commit": "ab" * 20, "packages": {"torch": "2.13.0"}},
    }
    return RunRecord.model_validate(fields | changes)


def accuracy(best: float, last: float | None = None, nll: float | None = None) -> Metrics:
    """With the held-out loss, where one is given."""
    last = best if last is None else last
    beside = {} if nll is None else {"nll": nll}
    return Metrics(
        main="accuracy",
        best={"accuracy": best} | beside,
        last={"accuracy": last} | beside,
        best_step=5,
        last_step=10,
        held_out="nll" if beside else "",
    )


def curve(loss: list[float], penalty: float = 0.0, gradient_norm: float = 1.0) -> Curve:
    steps = len(loss)
    return Curve(
        step=list(range(1, steps + 1)),
        loss=loss,
        penalty=[penalty] * steps,
        gradient_norm=[gradient_norm] * steps,
        learning_rate=[1e-3] * steps,
        seconds=[1.0] * steps,
    )


def overhead_record(seconds: dict[str, Any], **changes: Any) -> OverheadRecord:
    """Contender -> rounds of one process, or of several."""
    fields: dict[str, Any] = {
        "suite": "made",
        "name": "encoder",
        "model": "tiny",
        "fingerprint": "0" * 64,
        "config": {},
        "seconds": seconds,
        "peak_resident": {"lora": 800.0, "scalora": 880.0},
        "parameters": {"lora": 1200, "scalora": 1200},
        "provenance": {},
    }
    return OverheadRecord.model_validate(fields | changes)


def save(folder: Path, *records: RunRecord | OverheadRecord | FailureRecord) -> Path:
    for record in records:
        if isinstance(record, OverheadRecord):
            write_record(folder / "overhead" / f"{record.name}.json", record)
        else:
            kind = "runs" if isinstance(record, RunRecord) else "failed"
            write_record(folder / kind / f"{record.task}--{record.adapter}--{record.seed}.json", record)
    return folder


def realistic(folder: Path, steps: int = 240, seeds: int = 3) -> Path:
    """Records as a laptop run would leave them; also what the figures were looked at with."""
    noise = random.Random(0)
    labels = ["lora", "rslora", "lora2", "scalora-scalar", "scalora", "scalora-i", "full"]
    for task in ("movie", "amazon", "regression"):
        for place, label in enumerate(labels):
            for seed in range(seeds):
                speed = 1 + 0.12 * place
                fall = [math.exp(-4 * speed * step / steps) for step in range(steps)]
                if task == "regression":
                    loss = [10 * math.exp(-14 * speed * step / steps) for step in range(steps)]
                else:
                    batches = random.Random(seed)
                    loss = [
                        0.33 + 0.36 * value + batches.gauss(0, 0.06) + noise.gauss(0, 0.01) for value in fall
                    ]
                gain = 0.81 + 0.003 * place + noise.gauss(0, 0.006)
                error = {"mse": 1.1 - gain + 0.4, "pearson": gain - 0.1}
                regression = Metrics(
                    main="mse", lower_is_better=True, best=error, last=error, best_step=9, last_step=9
                )
                lost = 0.02 * (1 + place) * (1 + 0.1 * random.Random(seed).gauss(0, 1))
                kind, likely = ("drift", 1.2 - gain) if task == "movie" else ("loss", None)
                scaled = label.startswith("scalora")
                probes = range(0, steps + 1, steps // 10)
                grown = {"full": 384, "lora": 4, "rslora": 4}.get(label, 4 + 6 * place)
                share = {
                    "step": list(range(1, steps, 10)),
                    "share": [min(1.0, 0.8 + 0.1 * noise.random()) for _ in range(1, steps, 10)],
                }
                record = run_record(
                    task,
                    label,
                    seed,
                    config={"adapter": {"name": label} if label == "full" else {"name": label, "rank": 4}},
                    protocol={"length": 64, "learning_rate": 1e-3, "targets": "query|value", "steps": steps},
                    metrics=accuracy(gain, gain - 0.004, likely) if task == "movie" else regression,
                    forgetting=None
                    if task == "regression"
                    else Forgetting(kind=kind, value=lost, items=48, text="ab"),
                    curve=curve(loss, penalty=0.3 if label == "lora2" else 0.0),
                    observations=[
                        Observation(
                            step=step,
                            accumulated_rank={
                                f"layer.{layer}": min(grown, round(grown * step / steps * 2) + layer)
                                for layer in range(3)
                            },
                        )
                        for step in probes
                        if task != "regression"
                    ],
                    diagnostics={"nonnegative_share": share, "clipped": 0.01} if scaled else {},
                    merge_parity=MergeParity(
                        largest_logit_difference=1e-6 * (1 + seed), top1_flips=0, items=64
                    ),
                )
                save(folder, record)
    for base, exponent in (("lora", 0.5), ("rslora", 0.0)):
        for rank in (4, 16, 64, 256):
            for seed in range(seeds):
                norm = (4 / rank) ** exponent * (1 + noise.gauss(0, 0.03))
                level = (
                    0.4 + 0.02 * exponent * math.log2(rank) - 0.004 * math.log2(rank) + noise.gauss(0, 0.003)
                )
                losses = [level + 0.3 * math.exp(-step / 40) for step in range(steps)]
                save(
                    folder,
                    run_record(
                        "movie-ranks",
                        f"{base}-r{rank}",
                        seed,
                        config={"adapter": {"name": base, "rank": rank}},
                        curve=curve(losses, gradient_norm=norm),
                    ),
                )
    cost = {"floor": 0.06, "lora": 0.1, "rslora": 0.1, "scalora": 0.13, "scalora-i": 0.104, "full": 0.15}
    rounds: dict[str, list[list[float]]] = {name: [] for name in cost}
    for _ in range(5):
        for name, value in cost.items():
            process = value * (1 + noise.gauss(0, 0.01))
            rounds[name].append([process * (1 + abs(noise.gauss(0, 0.05))) for _ in range(6)])
    peaks = {
        name: [peak * (1 + noise.gauss(0, 0.01)) for _ in range(5)]
        for name, peak in (("lora", 800.0), ("scalora", 880.0))
    }
    save(folder, overhead_record(rounds, peak_resident=peaks))
    failure = {"suite": "made", "task": "movie", "adapter": "peft", "seed": 0, "fingerprint": "0" * 64}
    blocks: dict[str, Any] = {"reason": "loss is NaN", "step": 17, "config": {}, "provenance": {}}
    save(folder, FailureRecord.model_validate(failure | blocks))
    return folder
