"""How a file reaches the disk, whole or not at all; and which process does what, where several share a
folder of results.

A claim is a lock that the operating system holds for a process (`flock`, by filelock): one that dies,
however it dies, gives it back at once, so there is no claim to expire. On NFS the server keeps such
locks: they hold between machines, and a machine that is gone loses its own when its lease ends (about
90 seconds). Where a file system knows no locks at all, filelock falls back on marker files, which it
takes from dead processes of the same machine only.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

TRIES = 1000
"""At making a folder that other processes remove as often as it is empty."""


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
            f"cannot write {path}: {error.strerror or error}; choose another folder or free space"
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_atomically(path: Path, content: bytes) -> None:
    """Write content that is at hand. Raises RecordError as `writing` does."""
    with writing(path) as file:
        file.write(content)


def hash_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def copy(source: Path, path: Path) -> None:
    """Write what is in another file, which may not fit into memory. Raises RecordError as `writing` does."""
    with writing(path) as file, source.open("rb") as content:
        shutil.copyfileobj(content, file)


def remove(path: Path) -> None:
    """Delete a file, and what processes that were killed while writing it have left."""
    path.unlink(missing_ok=True)
    remove_unfinished(path)


def remove_unfinished(path: Path) -> None:
    """Delete what a process that was killed while writing a file has left beside it."""
    for leftover in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
        leftover.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."


def check_writable(folder: Path) -> None:
    """Raise RecordError now rather than after the first run. Makes nothing, so that processes that
    start together cannot take anything from each other."""
    for tries_left in reversed(range(TRIES)):
        place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                return
        except OSError as error:
            removed = isinstance(error, FileNotFoundError)  # meanwhile, by a process that left it empty
            if not (removed and tries_left):
                raise RecordError(
                    f"cannot write {folder}: {error.strerror}; choose another folder "
                    "(--results, of merge --into)"
                ) from error


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the lock file `path`; if so it is held until the block ends.

    Leaves neither the file nor an empty folder. Raises RecordError where the folder cannot be written.
    """
    lock = FileLock(path, blocking=False)
    try:
        _acquire(lock, path)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # While it is held: whoever has opened this file sees that it is gone, and tries again.
        path.unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # others' claims lie there, or checkpoints
            path.parent.rmdir()


def _acquire(lock: FileLock, path: Path) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return
        except Timeout:  # an OSError, too
            raise
        except OSError as error:
            removed = isinstance(error, (FileNotFoundError, FileExistsError))
            if not (removed and tries_left):
                raise RecordError(f"cannot write {path}: {error.strerror}; choose another folder") from error
