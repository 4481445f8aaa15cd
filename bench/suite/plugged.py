"""Plug-in files in a suite: what they hold, and which runs use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from rankbench import adapters, tasks
from rankbench.bench.plugins import Others, Plugin, PluginError, read
from rankbench.bench.plugins.loading import load
from rankbench.bench.suite.blocks import ConfigError
from rankbench.tasks import metrics

TABLES: dict[str, Others[Any]] = {
    "ADAPTERS": adapters.OTHERS,
    "TASKS": tasks.OTHERS,
    "METRICS": metrics.OTHERS,
}
"""What a file calls the dictionaries of what it holds, and where that is looked up."""

Named: TypeAlias = dict[str, Iterable[str]]
"""Table -> names in it."""


def read_all(paths: Any, folder: Path) -> tuple[Plugin, ...]:
    """The plug-ins of a suite whose file lies in `folder`, read, loaded, and in the place of all before.

    Raises ConfigError where one cannot be used, or two hold something of one name.
    """
    listed = [paths] if isinstance(paths, str) else paths
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise ConfigError(f"give the paths of Python files, as in [mine.py], not {paths!r}")
    for others in TABLES.values():
        others.plugged = {}
    plugins: list[Plugin] = []
    for path in listed:
        plugins.append(read_one(folder / Path(path).expanduser()))
        _refuse_twins(plugins)
        use(plugins[-1:])
    return tuple(plugins)


def read_one(path: Path) -> Plugin:
    """One file, read and not run yet. Raises ConfigError as `plugins.read` does."""
    try:
        return read(path)
    except PluginError as error:
        raise ConfigError(str(error)) from None


def use(plugins: Iterable[Plugin]) -> None:
    """Have what these files hold in the registries of this process. Raises ConfigError where one cannot be
    loaded, or holds nothing."""
    for plugin in plugins:
        try:
            module = load(plugin)
        except PluginError as error:
            raise ConfigError(str(error)) from error
        if not any(getattr(module, table, None) for table in TABLES):
            end = "end it with ADAPTERS = {'my-name': MyAdapter}, or TASKS or METRICS"
            raise ConfigError(f"{plugin.name} holds nothing that a suite can name: {end}")
        for table, others in TABLES.items():
            others.plug(plugin, _held(plugin, module, table, others))


def _held(plugin: Plugin, module: ModuleType, table: str, others: Others[Any]) -> dict[str, Any]:
    held = getattr(module, table, {})
    if not isinstance(held, dict):
        raise ConfigError(f"{plugin.name}: {table} is a dictionary of what the file holds, not {held!r}")
    for name, one in held.items():
        where = f"{plugin.name}: {table}: {name!r}"
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{where} is no name; give it letters and digits")
        if holder := others.holder(name):
            raise ConfigError(f"{where} is taken by {holder}; choose another name")
        if fault := others.fault(one):
            raise ConfigError(f"{where} {fault}")
        _, by = others.plugged.get(name, (None, plugin))
        if by.path != plugin.path:
            raise ConfigError(f"{where} is in {by.name} too; choose another name in one of them")
    return held


def _refuse_twins(plugins: Sequence[Plugin]) -> None:
    """Raise ConfigError for the last of them where it, or a module beside it, has the name of another's."""
    *before, last = plugins
    known = {source.module: source for plugin in before for source in plugin.sources}
    for source in last.sources:
        if source.path != known.get(source.module, source).path:
            other = known[source.module].path
            raise ConfigError(f"{other} and {source.path} are both the module {source.module}; rename one")


def named(adapter_names: Iterable[str], task_name: str = "", task: tasks.Task | None = None) -> Named:
    """What a run or a measurement names of each table."""
    found: Named = {"ADAPTERS": adapter_names}
    return found | ({"TASKS": [task_name], "METRICS": task.reported} if task else {})


def used(names: Named) -> tuple[Plugin, ...]:
    """The files that hold what has these names, each once."""
    found = (TABLES[table].plugin(name) for table in names for name in names[table])
    return tuple(dict.fromkeys(plugin for plugin in found if plugin))


def packages(names: Named) -> dict[str, str]:
    """The packages of others that register what has these names, and their versions."""
    found = [TABLES[table].package(name) for table in names for name in names[table]]
    return {package: version for one in found for package, version in one.items()}


def active() -> tuple[Plugin, ...]:
    """Those whose contents are in the registries of this process."""
    return tuple(dict.fromkeys(by for others in TABLES.values() for _, by in others.plugged.values()))


def hashes(plugins: Iterable[Plugin]) -> dict[str, dict[str, str]]:
    """What an identity holds of them, where there are any: file -> SHA-256."""
    found = {file: digest for plugin in plugins for file, digest in plugin.hashes.items()}
    return {"plugins": found} if found else {}
