"""A registry of what is not ours: entry points of installed packages, and what plug-in files hold."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from rankbench.bench.plugins.source import Plugin, told

T = TypeVar("T")


@dataclass
class Others(Generic[T]):
    """Adapters, tasks or metrics of others, by name. A name that rankbench has itself stays rankbench's."""

    what: str
    """What one of them is called in messages."""
    group: str
    """Of entry points."""
    own: Callable[[], Collection[str]]
    """The names that rankbench has itself."""
    fault: Callable[[Any], str]
    """What is wrong with something of that name; empty where it is one of them."""
    error: type[Exception]
    """Raised for what cannot be loaded."""
    plugged: dict[str, tuple[T, Plugin]] = field(default_factory=dict)
    """Name -> what it is, and the file that it came from."""

    @cached_property
    def entries(self) -> dict[str, EntryPoint]:
        """Of installed packages."""
        own = self.own()
        return {entry.name: entry for entry in entry_points(group=self.group) if entry.name not in own}

    def forget(self) -> None:
        """Which packages are installed: they are looked for again."""
        self.__dict__.pop("entries", None)

    def names(self) -> list[str]:
        """Packages' first."""
        return list(dict.fromkeys([*self.entries, *self.plugged]))

    def load(self, name: str) -> T:
        """What has that name. Raises `error` where its package cannot be loaded, or has something else."""
        if name in self.plugged:
            return self.plugged[name][0]
        entry = self.entries[name]
        try:
            found: T = entry.load()
        except Exception as error:  # whatever a module of somebody else's raises
            raise self.error(
                f"{self.what} {name!r} cannot be loaded from {entry.value} ({told(error)})"
            ) from error
        if fault := self.fault(found):
            raise self.error(f"{self.what} {name!r}: {entry.value} {fault}")
        return found

    def package(self, name: str) -> dict[str, str]:
        """The package that registered it, and its version; empty for what no package did."""
        entry = None if name in self.plugged else self.entries.get(name)
        return {entry.dist.name: entry.dist.version} if entry and entry.dist else {}

    def plugin(self, name: str) -> Plugin | None:
        """The file that it came from; None where it came from none."""
        return self.plugged[name][1] if name in self.plugged else None

    def plug(self, plugin: Plugin, found: dict[str, T]) -> None:
        """Take in what a file holds, in the place of what the file held before."""
        self.plugged = {name: one for name, one in self.plugged.items() if one[1].path != plugin.path} | {
            name: (one, plugin) for name, one in found.items()
        }

    def holder(self, name: str) -> str:
        """Who has a name that no file may take; empty where nobody has."""
        if name in self.own():
            return "rankbench"
        dist = self.entries[name].dist if name in self.entries else None
        return f"the package {dist.name}" if dist else ""
