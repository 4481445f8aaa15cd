"""Files at an fsspec URL (`s3://bucket/folder`, `file:///mnt/shared`): each is there whole or not at all.

An object store (fsspec's asynchronous file systems) shows an object when all of it has arrived, and can
create one only if there is none. Any other file system gets a temporary sibling that is renamed, and
creates exclusively by itself. What a URL's protocol needs besides fsspec, fsspec says.
"""

from __future__ import annotations

import posixpath
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankbench.bench.records.files import RecordError, writing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


PART = ".part"
"""How the name of a file ends that is not whole yet."""


def is_url(place: str | Path) -> bool:
    """Whether fsspec is to look there, rather than in a folder of this machine."""
    return "://" in str(place)


@dataclass(frozen=True)
class Remote:
    """A folder at a URL; names are relative to it. What goes wrong there is a RecordError, in one line."""

    url: str

    def versions(self) -> dict[str, str]:
        """Name -> which writing of the file it is, for every file below the folder."""
        with self._told():
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        return {name.removeprefix(self._root).lstrip("/"): _version(info) for name, info in found.items()}

    def get(self, name: str, path: Path) -> bool:
        """Copy a file from there to `path`; False where there is none."""
        with self._told():
            try:
                source = self._files.open(self._place(name), "rb")
            except FileNotFoundError:
                return False
            with source, writing(path) as file:
                shutil.copyfileobj(source, file)
        return True

    def put(self, path: Path, name: str) -> str:
        """Copy a file from `path` to there; its version there."""
        place = self._place(name)
        with self._told():
            if self._files.async_impl:
                self._files.put_file(str(path), place)
            else:
                temporary = f"{place}.{uuid.uuid4().hex}{PART}"
                self._files.makedirs(posixpath.dirname(place), exist_ok=True)
                self._files.put_file(str(path), temporary)
                self._files.mv(temporary, place)
            self._files.invalidate_cache()
            return _version(self._files.info(place))

    def create(self, name: str, text: str) -> bool:
        """Write a small file if there is none: of several that try at once, one does."""
        place = self._place(name)
        with self._told():
            try:
                if self._files.async_impl:
                    self._files.pipe_file(place, text.encode(), mode="create")
                else:
                    self._files.makedirs(posixpath.dirname(place), exist_ok=True)
                    with self._files.open(place, "xb") as file:
                        file.write(text.encode())
            except FileExistsError:
                return False
        return True

    def read(self, name: str) -> str:
        """What `create` wrote."""
        with self._told():
            found: bytes = self._files.cat_file(self._place(name))
        return found.decode()

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        with self._told():
            try:
                self._files.rm_file(self._place(name))
            except FileNotFoundError:
                return

    @cached_property
    def _at(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs  # takes a tenth of a second, and most results lie in a folder

        with self._told():
            files, root = url_to_fs(self.url)
        return files, root.rstrip("/")

    @property
    def _files(self) -> AbstractFileSystem:
        return self._at[0]

    @property
    def _root(self) -> str:
        return self._at[1]

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A file system's package may raise anything: a class of its own, OSError, ImportError."""
        try:
            yield
        except RecordError:
            raise
        except Exception as error:
            first = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise RecordError(f"cannot use {self.url}: {first}") from error


def _version(info: dict[str, Any]) -> str:
    """By what the store says of the content, or by what a file system says of the file."""
    tag = info.get("ETag") or info.get("etag")
    return str(tag or [info.get(key) for key in ("size", "mtime", "ino")])
