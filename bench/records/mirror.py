"""Results at a URL: a folder in this machine's cache is worked in, and kept equal to what lies there.

One command works at a URL at a time (`report` and `compare` only read): a second one is refused. Claims run
by run, as in a folder, would have to expire where their holder died, by clocks that nobody compares: no store
takes them back as an operating system does with a lock. So there is one file, created if there is none, that
names the cache of its owner. Who finds the name of its own cache, and holds that cache's lock, knows that the
owner has died and goes on; anyone else is told which file to delete.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from rankbench.bench.records.files import RecordError, claim, write_atomically
from rankbench.bench.records.remote import PART, Remote

KINDS = ("runs", "failed", "overhead")
"""Folders whose files are kept equal. Checkpoints travel with the run that they are of."""

CHOICES = "choices.yaml"
"""What a suite's trials have chosen; kept equal, too."""

OWNER = "rankbench-owner.txt"
"""The file of the command that works at a URL."""

ADAPTER = ".safetensors"
"""How the files of saved adapters end."""

AT_ONCE = 16
"""Files that are fetched at a time."""

Stamp = tuple[int, int]
"""Size and time of a local file: another one is another writing of it."""


def stamp(path: Path) -> Stamp | None:
    """None where there is no file."""
    found = path.stat() if path.exists() else None
    return found and (found.st_size, found.st_mtime_ns)


@dataclass
class Mirror:
    """A URL and its folder in the cache. Every method raises RecordError where the URL cannot be used."""

    url: str
    """Without a slash at its end."""
    _equal: dict[str, tuple[str, Stamp]] = field(default_factory=dict)
    """Name -> version there and stamp here of the files that are equal."""

    def __post_init__(self) -> None:
        if not all(self.url.rstrip("/").partition("://")):
            raise RecordError(f"cannot use {self.url}: a URL is PROTOCOL://PLACE, such as s3://bucket/folder")
        self.url = self.url.rstrip("/")
        self.remote = Remote(self.url)
        self.local = _cache() / quote(self.url, safe="")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else works at the URL until the block ends. It begins and ends with both sides equal."""
        with claim(self.local / ".lock") as mine:
            if not mine:
                raise RecordError(f"{self.url} is in use by another rankbench on this machine")
            if not self.remote.create(OWNER, f"{self._name} {socket.gethostname()}"):
                cache, _, machine = self.remote.read(OWNER).partition(" ")
                if cache != self._name:
                    raise RecordError(
                        f"{self.url} is in use by rankbench on {machine or 'a machine without a name'}; "
                        f"if that has died, delete {self.url}/{OWNER}"
                    )
            try:
                there = self.remote.versions()
                for name in there:
                    if name.endswith(PART):  # left by a process that was killed while it sent it
                        self.remote.remove(name)
                self._pull(there)
                self._flush()
                yield
                self._flush()
            finally:
                self.remote.remove(OWNER)

    @property
    def _name(self) -> str:
        """This cache's, given once."""
        path = self.local / ".name"
        if not path.exists():
            write_atomically(path, uuid.uuid4().hex.encode())
        return path.read_text()

    def fetch(self) -> Path:
        """Have here what lies there, and nothing that was deleted there; the folder. A command that works at
        the URL from here keeps it so by itself. Adapters, which may be as large as models, are left there:
        `fetch_one` gets one."""
        with claim(self.local / ".lock") as mine:
            if mine:
                self._pull(self.remote.versions(), but=ADAPTER)
        return self.local

    def fetch_one(self, path: Path) -> None:
        """Have here a single file, if it lies there."""
        self.remote.get(path.relative_to(self.local).as_posix(), path)

    def send(self, *paths: Path) -> None:
        """Have there what these files are now, or that they were deleted. The old ones go first, the last one
        before the others: none stands there beside another writing of those that it speaks of."""
        now = {path.relative_to(self.local).as_posix(): stamp(path) for path in paths}
        changed = [name for name, here in now.items() if here != self._equal.get(name, (None, None))[1]]
        for name in reversed(changed):
            if name in self._equal:
                self.remote.remove(name)
                del self._equal[name]
        for name in changed:
            if here := now[name]:
                self._equal[name] = (self.remote.put(self.local / name, name), here)

    def _flush(self) -> None:
        """Have there whatever was written here, also before this command, run by run: what breaks off takes
        one away there, not all that have changed. A file that is missing here is not deleted there: a cache
        may be cleared."""
        names = (path.relative_to(self.local).as_posix() for path in self.local.rglob("*") if path.is_file())
        kept = sorted(filter(_is_kept, names), key=_run_and_kind)
        for _, files in groupby(kept, key=lambda name: _run_and_kind(name)[0]):
            self.send(*(self.local / name for name in files))
        self._remember()

    def _pull(self, versions: dict[str, str], but: str = "/") -> None:
        """Have here what lies there, except files whose names end so. What changed there since the two were
        equal wins; but what is gone there and has changed here was taken away to be replaced."""
        self._recall()
        there = {name: version for name, version in versions.items() if _is_kept(name)}
        for name in self._equal.keys() - there.keys():
            if stamp(self.local / name) == self._equal.pop(name)[1]:
                (self.local / name).unlink()
        wanted = [name for name, v in there.items() if not (self._has(name, v) or name.endswith(but))]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for name, came in zip(wanted, pool.map(self._get, wanted), strict=True):
                if came:
                    self._equal[name] = (there[name], came)
        self._remember()

    def _has(self, name: str, version: str) -> bool:
        return (self.local / name).exists() and self._equal.get(name, ("",))[0] == version

    def _get(self, name: str) -> Stamp | None:
        path = self.local / name
        return stamp(path) if self.remote.get(name, path) else None

    def _recall(self) -> None:
        path = self.local / ".equal.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        self._equal = {name: (version, tuple(here)) for name, (version, here) in kept.items()}

    def _remember(self) -> None:
        write_atomically(self.local / ".equal.json", json.dumps(self._equal).encode())


def mirror_of(path: Path) -> Mirror | None:
    """Of the URL in whose cache a file lies or would lie; None for any other file."""
    if not path.is_relative_to(_cache()):
        return None
    return Mirror(unquote(path.relative_to(_cache()).parts[0]))


def _cache() -> Path:
    if cache := os.environ.get("RANKBENCH_CACHE"):
        return Path(cache) / "results"
    import platformdirs  # a machine with nothing but what trains may lack it

    return platformdirs.user_cache_path("rankbench") / "results"


def _is_kept(name: str) -> bool:
    path = PurePosixPath(name)
    if path.name == CHOICES:
        return True
    return path.parent.name in KINDS and not path.name.startswith(".") and path.suffix != PART


def _run_and_kind(name: str) -> tuple[str, bool]:
    """By which files are sorted: those of a run together, its record last."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")), path.suffix == ".json"
