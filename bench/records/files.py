"""How a file reaches the disk: whole or not at all."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class RecordError(ValueError):
    """A record is missing, corrupt, half-written or of another schema, or cannot be written."""


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A temporary sibling of its own to write to, as a stream; flushed to the disk and renamed at the end.

    Raises RecordError if the folder cannot be written or the disk is full; nothing is left then, and
    what was there before stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise RecordError(
            f"cannot write {path}: {error.strerror or error}; choose another --results folder or free space"
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_atomically(path: Path, content: bytes) -> None:
    """Write content that is at hand. Raises RecordError as `writing` does."""
    with writing(path) as file:
        file.write(content)


def remove(path: Path) -> None:
    """Delete a file, and what a process that was killed while writing it has left."""
    path.unlink(missing_ok=True)
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
        leftover.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."


def check_writable(folder: Path) -> None:
    """Raise RecordError now rather than after the first run. Makes nothing, so that processes that
    start together cannot take anything from each other."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise RecordError(
            f"cannot write {folder}: {error.strerror}; choose another --results folder"
        ) from error
