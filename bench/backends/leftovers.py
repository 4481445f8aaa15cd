"""What a driver that was killed while it wrote has left behind."""

from __future__ import annotations

from collections.abc import Iterable, Set

from rankbench.bench.records import Folders
from rankbench.bench.records.files import claim, remove_unfinished


def clear(cells: Iterable[str], done: Set[str], folders: Folders) -> None:
    """Remove the half-written files of runs, and states and locks of those that are done. What another
    process holds is its own. Raises RecordError where the folder cannot be written."""
    halves = [path for kind in ("runs", "failed") for path in (folders.root / kind).glob(".*.json.*")]
    halves += (folders.root / "runs").glob(".*.parquet.*")
    halves += (folders.root / "runs").glob(".*.safetensors.*")
    left = {path.name[1:].rsplit(".", 2)[0] for path in halves}.intersection(cells)
    states = (folders.checkpoint, folders.trained, folders.claim)
    left |= {cell for cell in done if any(state(cell).exists() for state in states)}
    for cell in sorted(left):
        with claim(folders.claim(cell)) as free:
            if free:
                for path in folders.of(cell):
                    remove_unfinished(path)
                if cell in done:
                    folders.forget(cell)
