"""The state of an unfinished run at a URL, so that any machine can go on with it."""

from __future__ import annotations

import posixpath
from pathlib import Path

from rankbench.bench.records.mirror import stamp
from rankbench.bench.records.remote import Remote


class Copy:
    """Of the checkpoint at `path`, which is fetched from `url` if it lies there. Raises RecordError where the
    URL cannot be used, as `renew` does."""

    def __init__(self, path: Path, url: str) -> None:
        folder, self._name = posixpath.split(url)
        self._remote, self._path = Remote(folder), path
        self._remote.get(self._name, path)
        self._copied = stamp(path)

    def renew(self) -> None:
        """Copy what has been saved since the last time, if anything has."""
        now = stamp(self._path)
        if now and now != self._copied:
            self._remote.put(self._path, self._name)
            self._copied = now
