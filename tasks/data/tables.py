"""Tables of a user's own: a CSV, TSV, JSON Lines or Parquet file, a folder of `datasets.save_to_disk`, or a
data set of the hub at a commit. Each is read into rows that know where they stand.

A path is relative to the current folder, as a model's is.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rankbench.tasks.data.files import read_parquet, root_cause
from rankbench.tasks.data.hub import HubPin, load_hub
from rankbench.tasks.data.lines import Row, read_delimited, read_json_lines
from rankbench.tasks.data.packages import sha256_of
from rankbench.tasks.options import TaskError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

Mirror: TypeAlias = str | os.PathLike[str] | None

READERS = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
USUAL = {"train": "train", "selection": "validation", "test": "test"}
"""What data sets of several splits call ours."""
HUB_KEYS = ("hub", "revision", "config", "split")
FOLDER_KEYS = ("folder", "split")


@dataclass(frozen=True)
class Source:
    """Where rows come from: a file or a folder, or a data set of the hub."""

    path: Path | None
    hub: HubPin | None = None
    split: str = "train"
    """Of a data set that has several."""
    is_asked: bool = False
    """Whether the suite names that split: there has to be one."""

    def __str__(self) -> str:
        return str(self.path or self.hub)


@dataclass(frozen=True)
class Table:
    """What was read."""

    rows: list[Row]
    classes: dict[str, list[str]] = field(default_factory=dict)
    """Column -> its classes' names in their order, where the data set states them; cells hold the names."""


def source(place: str | Mapping[str, Any], *, split: str = "train") -> Source:
    """What a suite says of a table: a path, `{folder: PATH, split: NAME}`, or `{hub: OWNER/NAME, revision:
    COMMIT, config: NAME, split: NAME}`; `split` is the one to read where it says none.

    Raises TaskError for anything else, and where nothing lies at a path; reads nothing.
    """
    if isinstance(place, str):
        return Source(_checked(Path(place).expanduser()), split=split)
    if not isinstance(place, Mapping) or not {"hub", "folder"} & set(place):
        raise TaskError(f"{place!r} names no table: give a path, or {{hub: owner/name, revision: commit}}")
    known = HUB_KEYS if "hub" in place else FOLDER_KEYS
    for key, value in place.items():
        if key not in known:
            raise TaskError(f"a table has no key {key!r}; {nearest(str(key), known)}")
        if not isinstance(value, str) or not value:
            raise TaskError(f"a table's {key} must be a text, got {value!r}")
    split = place.get("split", split)
    if "hub" not in place:
        return Source(_checked(Path(place["folder"]).expanduser()), split=split, is_asked="split" in place)
    if "revision" not in place:
        raise TaskError(f"{place['hub']}: give its hub commit as `revision`, so that the run can be repeated")
    return Source(None, HubPin(place["hub"], place.get("config"), place["revision"]), split)


def _checked(path: Path) -> Path:
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        near = f"; did you mean {path.with_name(close[0])}?" if close else ""
        raise TaskError(f"there is no file {path}, seen from the folder {Path.cwd()}{near}")
    if path.is_file() and path.suffix.lower() not in (*READERS, ".parquet"):
        raise TaskError(f"{path}: a table is {', '.join(READERS)} or .parquet; save it as one of them")
    return path


def pin(one: Source, mirror: Mirror = None) -> dict[str, str]:
    """What fixes the rows, for a fingerprint: the file's or folder's name and the hash of its bytes, or the
    hub's commit (or the hash of the mirror's files). Where a folder lies makes no difference."""
    if one.hub is not None:
        return one.hub.fingerprint(mirror, (one.split,)) | {"split": one.split}
    path = one.path
    assert path is not None
    try:
        if path.is_file():
            return {"file": path.name, "sha256": sha256_of(path)}
        files = sorted(each for each in path.rglob("*") if each.is_file())
        lines = [f"{each.relative_to(path).as_posix()} {sha256_of(each)}\n" for each in files]
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from error
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    return {"folder": path.name, "sha256": whole, "split": one.split}


def read(one: Source, mirror: Mirror = None) -> Table:
    """All rows, in order. Raises TaskError, naming line or row, for what cannot be read, and where there is
    no row."""
    if one.hub is not None:
        loaded = load_hub(one.hub, mirror, (one.split,))[one.split]
        return _of_dataset(loaded.data, loaded.where)
    path = one.path
    assert path is not None
    try:
        table = _read_path(path, one)
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror or root_cause(error)}") from error
    if not table.rows:
        raise TaskError(f"{path} has no row below its header" if path.is_file() else f"{path} has no row")
    return table


def _read_path(path: Path, one: Source) -> Table:
    if path.is_dir():
        return _of_dataset(_saved(path, one), lambda row: f"{path}, row {row + 1}")
    if one.is_asked:
        raise _without_splits(path)
    if path.suffix.lower() == ".parquet":
        return _of_dataset(read_parquet(path), lambda row: f"{path}, row {row + 1}")
    return Table(READERS[path.suffix.lower()](path))


def _without_splits(path: Path) -> TaskError:
    """All of it would be read in the place of the split that is asked for."""
    return TaskError(f"{path} has no splits; leave `split` out to have all of its rows")


def _saved(path: Path, one: Source) -> Dataset:
    """A split of a folder of `datasets.save_to_disk`."""
    import datasets
    import pyarrow

    try:
        loaded = datasets.load_from_disk(str(path), keep_in_memory=True)
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        what = f"{path} is no folder of datasets.save_to_disk that can be read"
        raise TaskError(f"{what}: {root_cause(error)}") from error
    if isinstance(loaded, datasets.Dataset):
        if one.is_asked and one.split != str(loaded.split):
            raise _without_splits(path)
        return loaded
    if one.split not in loaded:
        raise TaskError(f"{path} has no split {one.split!r}, only {', '.join(loaded)}")
    return loaded[one.split]


def _of_dataset(data: Dataset, where: Callable[[int], str]) -> Table:
    """Classes that are stored as numbers become their names; a hidden one (-1) becomes None."""
    from datasets import ClassLabel

    classes = {name: kind.names for name, kind in data.features.items() if isinstance(kind, ClassLabel)}
    columns: dict[str, list[Any]] = {name: list(data[name]) for name in data.column_names}
    for name, names in classes.items():
        columns[name] = [names[number] if number in range(len(names)) else None for number in columns[name]]
    found = zip(*columns.values(), strict=True)
    return Table(
        [Row(dict(zip(columns, cells, strict=True)), where(i), i + 1) for i, cells in enumerate(found)],
        classes,
    )
