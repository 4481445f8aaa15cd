"""Where a suite's records lie, and how they are read and written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rankbench.bench.records.costs import OverheadRecord
from rankbench.bench.records.files import RecordError, check_writable, claim, remove, write_atomically
from rankbench.bench.records.fingerprint import Identity, differences, is_this
from rankbench.bench.records.mirror import CHOICES, Mirror
from rankbench.bench.records.remote import is_url
from rankbench.bench.records.run import RunRecord

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Folders:
    """Where a suite's files lie; a run's bear the name of its cell."""

    root: Path
    mirror: Mirror | None = None
    """Of a folder at a URL, which gets what is written here."""

    def send(self, *paths: Path) -> None:
        """Files written or deleted here: so it is to be at the URL, if there is one. Raises RecordError where
        that cannot be done now; the next command does it then."""
        if self.mirror:
            self.mirror.send(*paths)

    def check_writable(self) -> None:
        """Raise RecordError where something cannot be written, before it is there to be written."""
        for kind in ("runs", "failed", "checkpoints", "overhead"):
            check_writable(self.root / kind)

    def record(self, cell: str) -> Path:
        """The record of a finished run."""
        return self.root / "runs" / f"{cell}.json"

    def predictions(self, cell: str) -> Path:
        """What a finished run answered, item by item."""
        return self.record(cell).with_suffix(".parquet")

    def adapter(self, cell: str) -> Path:
        """What a finished run trained, where it was asked to save it."""
        return self.record(cell).with_suffix(".safetensors")

    def discard(self, cell: str) -> None:
        """Remove a stale record with its predictions and its adapter, the record first: none stands beside
        another run's."""
        for path in (self.record(cell), self.predictions(cell), self.adapter(cell)):
            path.unlink(missing_ok=True)

    def of(self, cell: str) -> tuple[Path, ...]:
        """All that says how a run ended, the record last."""
        return self.failure(cell), self.predictions(cell), self.adapter(cell), self.record(cell)

    def failure(self, cell: str) -> Path:
        """The record of a failed run."""
        return self.root / "failed" / f"{cell}.json"

    def checkpoint(self, cell: str) -> Path:
        """The state of an unfinished run."""
        return self.root / "checkpoints" / f"{cell}.pt"

    def checkpoint_url(self, cell: str) -> str:
        """Where a copy of that state is kept; empty where results lie in a folder of this machine."""
        return f"{self.mirror.url}/{self.root.name}/checkpoints/{cell}.pt" if self.mirror else ""

    def trained(self, cell: str) -> Path:
        """The adapter of a run that is being written."""
        return self.checkpoint(cell).with_suffix(".safetensors")

    def forget(self, cell: str) -> None:
        """Remove the state of a run that has ended."""
        remove(self.checkpoint(cell))
        self.trained(cell).unlink(missing_ok=True)
        if self.mirror:
            self.mirror.remote.remove(f"{self.root.name}/checkpoints/{cell}.pt")

    def claim(self, cell: str) -> Path:
        """The lock of the process that works on a run."""
        return self.root / "checkpoints" / f"{cell}.lock"

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
    def choices(self) -> Path:
        """What the suite's trials have chosen."""
        return self.root / CHOICES

    @property
    def overhead_claim(self) -> Path:
        """The lock of the process that measures: one at a time."""
        return self.root / "checkpoints" / "overhead.lock"


@contextmanager
def to_work_in(results: str, suite: str) -> Iterator[Folders]:
    """A suite's folder: under `results`, or of a URL's in this machine's cache, which nobody else has then.

    Raises RecordError where the URL cannot be used, or is.
    """
    if not is_url(results):
        yield Folders(Path(results) / suite)
        return
    mirror = Mirror(results)
    with mirror.held():
        yield Folders(mirror.local / suite, mirror)


def to_read(place: str | Path) -> Path:
    """A folder of this machine, or what lies at a URL fetched into one. Raises RecordError where that cannot
    be done."""
    return Mirror(str(place)).fetch() if is_url(place) else Path(place)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, atomically: compact, for a curve has thousands of numbers."""
    write_atomically(path, (record.model_dump_json() + "\n").encode())


def read_record(path: Path, schema: type[Record]) -> Record:
    """Read and check one record. Raises RecordError with the file's name and the way out."""
    try:
        return schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        faults = error.errors()
        if unknown := next((fault for fault in faults if fault["loc"] == ("schema_version",)), None):
            raise RecordError(
                f"{path} is of another version of rankbench (schema_version {unknown['input']}); use "
                "that one, or another folder"
            ) from error
        first = faults[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecordError(
            f"{path} is corrupt ({where}: {first['msg']}); delete it and run the suite again"
        ) from error


def why_missing(
    path: Path, schema: type[RunRecord] | type[OverheadRecord], parts: Identity, keep_old_versions: bool
) -> str | None:
    """None where the record of what has this identity lies there; otherwise why it does not: empty for one
    that was never made. Raises RecordError for a corrupt record."""
    if not path.exists():
        return ""
    record = read_record(path, schema)
    same = is_this(record, parts, keep_old_versions)
    return None if same else "; ".join(differences(record.identity, parts))


def read_runs(suite_folder: Path, cells: Collection[str] | None = None) -> Iterator[RunRecord]:
    """All run records of a suite, or those of these runs, in file-name order."""
    for path in sorted((suite_folder / "runs").glob("*.json")):
        if cells is None or path.stem in cells:
            yield read_record(path, RunRecord)


def tell(folders: Folders, baseline: str, stages: Mapping[str, Sequence[int]]) -> None:
    """Write what a suite says now into the records of its folder: its baseline, and the stages of its
    experiments. A record that another process is at is left to it: it writes what its own suite says. Raises
    RecordError for a corrupt record."""
    kinds: list[tuple[str, type[RunRecord] | type[OverheadRecord]]]
    kinds = [("runs", RunRecord), ("overhead", OverheadRecord)]
    for kind, schema in kinds:
        for path in sorted((folders.root / kind).glob("*.json")):
            if not _news(read_record(path, schema), baseline, stages):
                continue
            lock = folders.claim(path.stem) if kind == "runs" else folders.overhead_claim
            with claim(lock) as free:
                if free and path.exists():
                    record = read_record(path, schema)
                    write_record(path, record.model_copy(update=_news(record, baseline, stages)))


def _news(
    record: RunRecord | OverheadRecord, baseline: str, stages: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """What a record says otherwise. Of experiments that the suite does not have it says nothing."""
    said: dict[str, Any] = {"baseline": baseline}
    if isinstance(record, RunRecord) and record.task in stages:
        said["stages"] = [*stages[record.task]]
    return {name: value for name, value in said.items() if getattr(record, name) != value}


def holds_records(folder: Path) -> bool:
    """Whether there is anything to report of a folder."""
    return any(True for kind in ("runs", "overhead", "failed") for _ in folder.glob(f"{kind}/*.json"))
