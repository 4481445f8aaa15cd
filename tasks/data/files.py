"""A local mirror of hub data sets: a folder of Parquet files laid out as REPO/CONFIG/SPLIT-….parquet.

Where REPO holds the hub's README.md, its `configs` say which files belong to a split, as on the hub.
Files are read whole into memory: no cache stands between a folder and what is read from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankbench.tasks.data.rows import Rows
from rankbench.tasks.options import TaskError

if TYPE_CHECKING:
    from datasets import Dataset

    from rankbench.tasks.data.hub import HubPin

POINTER = b"version https://git-lfs"
PART = re.compile(r"-(\d+)-of-(\d+)(?:-[0-9a-f]+)?$")
"""Which part of how many a file is, at the end of its name; the hub once put a hash behind."""


def read_mirror(pin: HubPin, mirror: Path, splits: tuple[str, ...]) -> dict[str, Rows]:
    """The given splits of a data set. Raises TaskError for what is missing, unreadable or not alike."""
    from datasets import concatenate_datasets

    files = split_files(pin, mirror)
    loaded = {}
    for split in splits:
        if split not in files:
            wanted = Path(pin.repo, pin.config or "default", f"{split}-00000-of-00001.parquet")
            raise TaskError(
                f"{pin} has no split {split!r} in the mirror {mirror}, only {', '.join(files)}; add {wanted}"
            )
        paths = files[split]
        for _, together in groupby(paths, lambda path: path.parent):
            _refuse_other_parts(pin, split, [*together])
        parts = [read_parquet(path) for path in paths]
        for path, part in zip(paths, parts, strict=True):
            if part.features != parts[0].features:
                raise TaskError(f"{path} has other columns or classes than {paths[0]}; write them alike")
        counts = tuple((path, len(part)) for path, part in zip(paths, parts, strict=True))
        loaded[split] = Rows(concatenate_datasets(parts), split, str(pin), counts)
    _refuse_other_classes(pin, loaded)
    return loaded


def _refuse_other_classes(pin: HubPin, loaded: dict[str, Rows]) -> None:
    """A class of one name has one number in all splits."""
    from datasets import ClassLabel

    named: dict[str, tuple[str, list[str]]] = {}
    for split, rows in loaded.items():
        for column, kind in rows.data.features.items():
            if isinstance(kind, ClassLabel):
                first, names = named.setdefault(column, (split, kind.names))
                if names != kind.names:
                    raise TaskError(
                        f"{pin}, column {column!r}: the classes are {', '.join(names)} in the split {first} "
                        f"and {', '.join(kind.names)} in {split}; write the files with one order of classes"
                    )


def read_parquet(path: Path) -> Dataset:
    """One file, whole. Raises TaskError where it cannot be read."""
    import pyarrow
    from datasets import Dataset
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise TaskError(f"{path} is a Git LFS pointer, not data; run `git lfs pull` in the mirror")
            file.seek(0)
            table = parquet.ParquetFile(file).read()
        refuse_twice(str(path), table.column_names)
        return Dataset(table)
    except TaskError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise TaskError(f"{path} is no readable Parquet file ({root_cause(error)}); copy it again") from error


def refuse_twice(place: str, names: Iterable[str]) -> None:
    """Raise TaskError where two columns have one name: a row could tell one of them alone."""
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise TaskError(f"{place}: {count} columns are called {name!r}; rename all but one")


def split_files(pin: HubPin, mirror: Path) -> dict[str, list[Path]]:
    """The Parquet files of every split, in order: by the README's `configs`, and by the layout what it does
    not name. Raises TaskError where the data set, its configuration or a part of a split is missing."""
    folder = mirror / pin.repo
    if not folder.is_dir():
        raise TaskError(f"the mirror {mirror} holds no {pin.repo}; add it, or use the hub (no mirror)")
    files = _by_layout(folder, pin) | _by_card(folder, pin)
    if not files:
        there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "none"
        config = pin.config or "default"
        raise TaskError(
            f"{folder} holds no Parquet file of the configuration {config} (folders: {there}); "
            f"lay it out as {pin.repo}/{config}/SPLIT-00000-of-00001.parquet"
        )
    return files


def _by_card(folder: Path, pin: HubPin) -> dict[str, list[Path]]:
    """What the README's YAML header says of the configuration; nothing where it says nothing."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    import yaml
    from datasets.data_files import sanitize_patterns
    from huggingface_hub import metadata_load

    try:
        configs = (metadata_load(card) or {}).get("configs") or []
        named = [config for config in configs if config["config_name"] == (pin.config or "default")]
        patterns = sanitize_patterns(named[0].get("data_files") or {}) if named else {}
        found = {
            split: _parquet(path for pattern in each for path in folder.glob(pattern))
            for split, each in patterns.items()
        }
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError, yaml.YAMLError) as error:
        reason = f"cannot read the configs of {card}: {root_cause(error)}; mend or remove it"
        raise TaskError(reason) from error
    return {split: paths for split, paths in found.items() if paths}


def _by_layout(folder: Path, pin: HubPin) -> dict[str, list[Path]]:
    """CONFIG/SPLIT-….parquet; data sets of one configuration may lie in `default`, `data` or REPO itself."""
    places = [folder / pin.config] if pin.config else [folder / "default", folder / "data", folder]
    for place in places:
        files: dict[str, list[Path]] = {}
        for path in _parquet(place.glob("*.parquet")):
            files.setdefault(path.stem.split("-")[0], []).append(path)
        if files:
            return files
    return {}


def _parquet(paths: Any) -> list[Path]:
    return sorted({path for path in paths if path.suffix == ".parquet"})


def _refuse_other_parts(pin: HubPin, split: str, paths: list[Path]) -> None:
    """A split is read once and whole. In a folder, files named `…-00000-of-00002` are two, each once, with
    nothing beside them; others that are named after the split differ by numbers alone. What a README names
    otherwise is read as on the hub."""
    folder, names = paths[0].parent, ", ".join(path.name for path in paths)
    parts = [(match[2], match[1]) for path in paths if (match := PART.search(path.stem))]
    if not parts:
        if len({re.sub(r"\d+", "", path.stem) for path in paths if path.stem.startswith(split)}) > 1:
            raise TaskError(
                f"{folder} has several files of the split {split!r} of {pin} that are no numbered parts: "
                f"{names}; keep one, or name them {split}-00000-of-{len(paths):05}.parquet and so on"
            )
        return
    total = parts[0][0]
    if len(set(parts)) < len(paths) or any(other != total for other, _ in parts):
        raise TaskError(f"{folder} has the split {split!r} of {pin} more than once: {names}; keep one")
    if len(parts) != int(total):
        raise TaskError(
            f"{folder} has {len(parts)} of the {int(total)} files of the split {split!r} of {pin}"
        )


def root_cause(error: BaseException) -> str:
    """The first line of what began it: `datasets` wraps errors in its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), "") or type(error).__name__
