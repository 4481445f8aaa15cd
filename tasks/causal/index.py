"""Which YAML files state lm-eval's tasks, by name; read as bytes, since there are thousands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OWN_FOLDER = Path(__file__).with_name("lm_eval_tasks")
OWN_FOLDERS = (OWN_FOLDER, Path(__file__).with_name("commonsense_170k"))

_NAME = rb"[\"']?([\w.+-]+)[\"']?"
_DECLARED = re.compile(rb"^[\"']?(task|group)[\"']?:[ \t]*" + _NAME, re.MULTILINE)
_LIST = rb":(.*(?:\r?\n[ \t]*- .*)*)"
_TAGS = re.compile(rb"^[\"']?tag[\"']?" + _LIST, re.MULTILINE)
_INCLUDED = re.compile(rb"^[\"']?include[\"']?" + _LIST, re.MULTILINE)


@dataclass(frozen=True)
class Index:
    """What names stand for."""

    files: dict[str, Path] = field(default_factory=dict)
    """Task or group -> its file."""
    tags: dict[str, frozenset[str]] = field(default_factory=dict)
    """Tag -> the tasks that bear it."""

    def __or__(self, other: Index) -> Index:
        return Index(self.files | other.files, self.tags | other.tags)


@cache
def declared(folder: Path) -> Index:
    """The tasks, groups and tags in a folder and below it; of two of a name the first."""
    files: dict[str, Path] = {}
    tags: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        stated = _DECLARED.search(path.read_bytes())
        if stated and (name := stated[2].decode()) not in files:
            files[name] = path
            for tag in _tags(path):
                tags.setdefault(tag, set()).add(name)
    return Index(files, {tag: frozenset(names) for tag, names in tags.items()})


@cache
def _tags(path: Path, includers: tuple[Path, ...] = ()) -> list[str]:
    """A file's own, or those of the last file that it includes and that has some."""
    text = path.read_bytes() if path.is_file() and path not in includers else b""
    if own := _TAGS.search(text):
        return _words(own[1])
    included = _INCLUDED.search(text)
    each = (
        _tags(path.parent / name, (*includers, path))
        for name in reversed(_words(included[1]) if included else [])
    )
    return next((tags for tags in each if tags), [])


def _words(listed: bytes) -> list[str]:
    return [word.decode() for word in re.findall(rb"[\w.+/-]{2,}", listed)]


@cache
def stock_index() -> Index:
    """lm-eval's own, and ours."""
    spec = find_spec("lm_eval")
    theirs = [Path(folder, "tasks") for folder in (spec.submodule_search_locations or [])] if spec else []
    found = Index()
    for folder in (*theirs, *OWN_FOLDERS):
        found |= declared(folder)
    return found
