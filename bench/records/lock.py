"""Which process does what, where several share a folder of results.

A claim is a lock that the operating system holds for a process (`flock`, by filelock): one that dies,
however it dies, gives it back at once, so there is no claim to expire. On NFS the server keeps such
locks: they hold between machines, and a machine that is gone loses its own when its lease ends (about
90 seconds). Where a file system knows no locks at all, filelock falls back on marker files, which it
takes from dead processes of the same machine only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rankbench.bench.records.files import RecordError

TRIES = 1000
"""At making a folder that other processes remove as often as it is empty."""


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
                raise RecordError(
                    f"cannot write {path}: {error.strerror}; choose another --results folder"
                ) from error
