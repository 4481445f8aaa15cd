"""Where results lie: the files of a suite's folder, and which folder a word on the command line means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rankbench.adapters.base import nearest
from rankbench.bench.records.files import check_writable
from rankbench.bench.records.lock import claim
from rankbench.bench.records.schema import (
    OverheadRecord,
    RecordError,
    RunRecord,
    read_record,
    write_record,
)
from rankbench.bench.suite.schema import RunSpec, load_suite, suite_names


@dataclass(frozen=True)
class Folders:
    """Where a suite's files lie."""

    root: Path

    def check_writable(self) -> None:
        """Raise RecordError where something cannot be written, before it is there to be written."""
        for kind in ("runs", "failed", "checkpoints", "overhead"):
            check_writable(self.root / kind)

    def record(self, spec: RunSpec) -> Path:
        """The record of a finished run."""
        return self.root / "runs" / f"{spec.cell}.json"

    def predictions(self, spec: RunSpec) -> Path:
        """What a finished run answered, item by item."""
        return self.record(spec).with_suffix(".parquet")

    def discard(self, spec: RunSpec) -> None:
        """Remove a stale record and its predictions, the record first: none stands beside
        another run's predictions."""
        self.record(spec).unlink(missing_ok=True)
        self.predictions(spec).unlink(missing_ok=True)

    def failure(self, spec: RunSpec) -> Path:
        """The record of a failed run."""
        return self.root / "failed" / f"{spec.cell}.json"

    def checkpoint(self, spec: RunSpec) -> Path:
        """The state of an unfinished run."""
        return self.root / "checkpoints" / f"{spec.cell}.pt"

    def claim(self, spec: RunSpec) -> Path:
        """The lock of the process that works on a run."""
        return self.root / "checkpoints" / f"{spec.cell}.lock"

    def overhead(self, name: str) -> Path:
        """The record of an overhead measurement."""
        return self.root / "overhead" / f"{name}.json"

    def unfinished_overhead(self, name: str) -> Path:
        """What the processes of an overhead measurement have measured that is not finished."""
        return self.root / "checkpoints" / f"overhead--{name}.json"

    def failed_overhead(self, name: str) -> Path:
        """The record of an overhead measurement that failed."""
        return self.root / "failed" / f"overhead--{name}.json"

    @property
    def overhead_claim(self) -> Path:
        """The lock of the process that measures: one at a time."""
        return self.root / "checkpoints" / "overhead.lock"


def set_baseline(folders: Folders, baseline: str) -> None:
    """Write what a suite says now into the records of its folder. A record that another process is at is
    left to it: it writes what its own suite says. Raises RecordError for a corrupt record."""
    kinds: list[tuple[str, type[RunRecord] | type[OverheadRecord]]]
    kinds = [("runs", RunRecord), ("overhead", OverheadRecord)]
    for kind, schema in kinds:
        for path in sorted((folders.root / kind).glob("*.json")):
            if read_record(path, schema).baseline == baseline:
                continue
            lock = folders.root / "checkpoints" / f"{path.stem}.lock"
            with claim(lock if kind == "runs" else folders.overhead_claim) as free:
                if free and path.exists():
                    changed = read_record(path, schema).model_copy(update={"baseline": baseline})
                    write_record(path, changed)


def results_folder(word: str, results: Path) -> Path:
    """A folder of records: a path, or under `results` the folder of a suite, by its name or its file.

    Raises RecordError where there are no records, ConfigError for a broken suite file.
    """
    is_file = Path(word).suffix in {".yaml", ".yml"}
    by_name = results / (load_suite(word).name if is_file else word)
    places = [Path(word), by_name] if word else []
    for folder in places:
        if _holds_records(folder):
            return folder
    there = [place for place in places if place.is_dir()]
    folder = there[0] if there else by_name
    if is_file or folder.name in suite_names():
        suite = word if is_file else folder.name
        raise RecordError(f"no records under {folder}; run `rankbench run {suite}` first")
    beside = Path(word).parent if Path(word).parent.name else results
    known = sorted(str(Path(word).parent / path.name) for path in beside.glob("*/") if _holds_records(path))
    if there:
        raise RecordError(f"no records under {folder}; known: {', '.join(known) or 'none'}")
    raise RecordError(f"no folder of results {word!r}{nearest(word, known)}")


def _holds_records(folder: Path) -> bool:
    return any(True for kind in ("runs", "overhead", "failed") for _ in folder.glob(f"{kind}/*.json"))
