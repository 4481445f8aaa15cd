"""Several folders of one suite's results put together into one: each run once, as it was recorded.

`gather` reads and checks all before `write` begins, so that a corrupt record, or two runs of one name,
leave the target as it was. Each file is written atomically, the predictions before their record. A merge that
was killed is completed by the same call, and one that is done changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankbench.bench.records.costs import OverheadRecord
from rankbench.bench.records.files import RecordError, claim, copy, hash_of, write_atomically
from rankbench.bench.records.fingerprint import differences
from rankbench.bench.records.run import FailureRecord, RunRecord
from rankbench.bench.records.store import Folders, read_record

AT_MOST = 3
"""Differences of two runs that are named."""

Check = Callable[[Path, RunRecord], object]
"""Of the folder of a record and its predictions: raises RecordError where these do not give its score."""


@dataclass
class Merged:
    """What of the sources is in the target, and what is not."""

    runs: dict[str, Path] = field(default_factory=dict)
    """Cell -> its record: in the target, or else in the first source that has it."""
    overhead: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, Path] = field(default_factory=dict)
    """Of what has no record, by the name of the file."""
    left_out: list[str] = field(default_factory=list)
    """A sentence for each record that another one stands for, though it is not the same."""


def gather(sources: Sequence[Path], into: Path, check: Check, *, keep_first: bool = False) -> Merged:
    """Read and check all records, and write nothing. What comes first counts: `into` itself, then the sources
    in their order.

    Raises RecordError for a record or predictions that are corrupt, for records of several suites or
    baselines, for different runs of one cell, and, unless the first is to be kept, for one run with different
    results.
    """
    found = Merged()
    says = _Says()
    others = [folder for folder in sources if not (into.exists() and folder.samefile(into))]
    for folder in [into, *others]:
        for path in _records(folder, "runs"):
            _add_run(found, says, path, check, keep_first)
        for path in _records(folder, "overhead"):
            _add_overhead(found, says, path)
        for path in _records(folder, "failed"):
            says.hear(path, "suite", read_record(path, FailureRecord).suite)
            found.failures.setdefault(path.stem, path)
    done = {*found.runs, *(f"overhead--{name}" for name in found.overhead)}
    found.failures = {name: path for name, path in found.failures.items() if name not in done}
    Folders(into).check_writable()
    return found


def _records(folder: Path, kind: str) -> Iterator[Path]:
    yield from sorted((folder / kind).glob("*.json"))


@dataclass
class _Says:
    """What all records must say alike, with the first that said it."""

    heard: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def hear(self, path: Path, what: str, value: str) -> None:
        first, said = self.heard.setdefault(what, (path, value))
        if value == said:
            return
        way_out = (
            "merge each suite by itself"
            if what == "suite"
            else "let `rankbench report SUITE --results DIR` write one and the same into both folders"
        )
        raise RecordError(f"{first} is of the {what} {said}, {path} of {value}; {way_out}")


def _add_run(found: Merged, says: _Says, path: Path, check: Check, keep_first: bool) -> None:
    record = read_record(path, RunRecord)
    cell = f"{record.task}--{record.adapter}--s{record.seed}"
    if path.stem != cell:
        raise RecordError(f"{path} is the record of {cell}; rename it, and its predictions")
    if record.predictions and not (path.parent / record.predictions).exists():
        raise RecordError(
            f"{path} has lost its predictions, {record.predictions}; delete it, or run it again"
        )
    check(path.parent, record)
    _check_saved(path, record)
    says.hear(path, "suite", record.suite)
    says.hear(path, "baseline", record.baseline)
    first = found.runs.setdefault(cell, path)
    if first == path:
        return
    other = read_record(first, RunRecord)
    if record.fingerprint != other.fingerprint:
        named = differences(other.identity, record.identity)
        told = "; ".join(named[:AT_MOST]) + (f"; and {len(named) - AT_MOST} more" if named[AT_MOST:] else "")
        raise RecordError(f"{first} and {path} are different runs ({told}); merge them into folders apart")
    if _computed(record) == _computed(other):
        if record.saved and not other.saved:
            found.runs[cell] = path
        return
    main = record.metrics.main
    scores = " and ".join(f"{one.metrics.best.get(main, 'nothing')}" for one in (other, record))
    told = f"{first} and {path} are one run with different results ({main} {scores})"
    if not keep_first:
        raise RecordError(f"{told}: on other machines rounding can differ; --keep first takes the first")
    found.left_out.append(f"{told}: the first is kept")


def _check_saved(path: Path, record: RunRecord) -> None:
    """Raise RecordError where the adapter that a record speaks of is not beside it as it was."""
    if record.saved:
        adapter = path.with_suffix(".safetensors")
        if not adapter.exists() or hash_of(adapter) != record.saved.sha256:
            raise RecordError(f"{adapter} is not as it was saved; delete {path.name}, or run it again")


def _computed(record: RunRecord) -> dict[str, object]:
    """What is the same bit for bit wherever arithmetic is."""
    curve = record.curve.model_dump(exclude={"seconds"})
    return {"curve": curve} | {
        name: getattr(record, name) for name in ("metrics", "observations", "forgetting")
    }


def _add_overhead(found: Merged, says: _Says, path: Path) -> None:
    """Costs of two measurements, on two machines or in two hours, are never put together."""
    record = read_record(path, OverheadRecord)
    says.hear(path, "suite", record.suite)
    says.hear(path, "baseline", record.baseline)
    if path.stem != record.name:
        raise RecordError(f"{path} is the measurement {record.name}; rename it")
    first = found.overhead.setdefault(record.name, path)
    if first != path and read_record(first, OverheadRecord) != record:
        found.left_out.append(f"{path} is left out: {first} is another measurement of the same")


def write(found: Merged, into: Path) -> int:
    """Copy what was gathered and is not there; returns how many records that were. The sources are not
    changed.

    Raises RecordError where another process is at a run, or the folder cannot be written; the same call goes
    on then.
    """
    folders = Folders(into)
    written = sum(_copied_run(path, folders, cell) for cell, path in found.runs.items())
    for name, path in found.overhead.items():
        written += _copied(path, folders.overhead(name))
        folders.failed_overhead(name).unlink(missing_ok=True)
    return written + sum(_copied(path, folders.failure(name)) for name, path in found.failures.items())


def _copied_run(path: Path, folders: Folders, cell: str) -> bool:
    """Whether it was not there; now it is, and is no failure any more."""
    if path != folders.record(cell):
        with claim(folders.claim(cell)) as free:
            if not free:
                raise RecordError(f"another process works on {cell}; merge again when it is done")
            if (predictions := path.with_suffix(".parquet")).exists():
                write_atomically(folders.predictions(cell), predictions.read_bytes())
            if (adapter := path.with_suffix(".safetensors")).exists():
                copy(adapter, folders.adapter(cell))
            write_atomically(folders.record(cell), path.read_bytes())
    folders.failure(cell).unlink(missing_ok=True)
    return path != folders.record(cell)


def _copied(path: Path, target: Path) -> bool:
    """Whether it was not there."""
    if path == target:
        return False
    write_atomically(target, path.read_bytes())
    return True
