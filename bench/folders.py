"""Which folder of results a word on the command line stands for."""

from __future__ import annotations

from pathlib import Path

from adapters.base import nearest
from bench.config import load_suite, suite_names
from bench.record import RecordError


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
