"""Trials that have ended, without training: records of what a given loss makes of each point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from rankbench.bench.records import FailureRecord, Folders, RunRecord, write_record
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import RunSpec, Suite, load_suite
from tests.made_records import accuracy, run_record

Loss = Callable[[RunSpec], float | str]
"""What a trial reaches; or the kind of its failure."""

EXPERIMENT: dict[str, Any] = {
    "task": "tiny-classification",
    "model": "tiny-bert",
    "targets": ["query"],
    "training": {"steps": 8, "batch_size": 4, "learning_rate": 1e-3},
    "tune": {"trials": 4},
    "adapters": {"lora": {"rank": 2}, "rslora": {"rank": 2}},
}


RATES = {"learning_rate": [1e-4, 1e-2, "log"]}
"""One range for both methods, whatever their own are."""


def experiment(**changes: Any) -> dict[str, Any]:
    """EXPERIMENT with other settings; nothing is shared with it."""
    made = yaml.safe_load(yaml.safe_dump(EXPERIMENT | changes))
    return made | {"tune": {"space": RATES} | made["tune"]} if made["tune"] else made


def suite_of(folder: Path, **experiments: Any) -> Suite:
    """A suite file with these experiments, read."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"seeds": [0, 1], "experiments": experiments}))
    return load_suite(str(path))


def end(specs: Iterable[RunSpec], folders: Folders, loss: Loss) -> None:
    """Write how these trials ended."""
    for spec in specs:
        job, reached = resolve(spec), loss(spec)
        known = {**job.place, "identity": job.identity, "fingerprint": job.fingerprint, "config": job.config}
        if isinstance(reached, str):
            failure = FailureRecord(**known, kind=reached, reason="made", provenance={})
            write_record(folders.failure(spec.cell), failure)
        else:
            named = {key: known.pop(key) for key in ("task", "adapter", "seed")}
            metrics = accuracy(0.5, nll=reached)
            record: RunRecord = run_record(**named, **known, **job.told, metrics=metrics)
            write_record(folders.record(spec.cell), record)
