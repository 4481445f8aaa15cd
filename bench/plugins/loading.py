"""Plug-ins as modules: imported from the bytes that were read, whatever lies on the disk by now."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from types import ModuleType

from rankbench.bench.plugins.source import Plugin, PluginError, Source, told


class _Finder(MetaPathFinder, ExecutionLoader):
    """Finds the modules of plug-ins in what was read of them."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Of nothing else."""
        return importlib.util.spec_from_loader(fullname, self) if fullname in self.sources else None

    def is_package(self, fullname: str) -> bool:
        """Whether modules lie in it."""
        return self.sources[fullname].is_package

    def get_filename(self, fullname: str) -> str:
        """What tracebacks show."""
        return self.sources[fullname].path

    def get_source(self, fullname: str) -> str:
        """What is run."""
        return decode_source(self.sources[fullname].code)


_FINDER = _Finder()


def load(plugin: Plugin) -> ModuleType:
    """The plug-in's module, run once; again where it, or a module beside it, has become another.

    Raises PluginError where one of its modules has another one's name, and for all that it raises itself.
    """
    main = plugin.sources[0].module
    if main in sys.modules and all(_FINDER.sources.get(one.module) == one for one in plugin.sources):
        return sys.modules[main]
    for source in plugin.sources:
        _refuse_hiding(source)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _forget(plugin)
    _FINDER.sources |= {source.module: source for source in plugin.sources}
    try:
        return importlib.import_module(main)
    except (Exception, SystemExit) as error:  # whatever somebody's module raises
        _forget(plugin)
        raise PluginError(where(error, plugin)) from error


def _forget(plugin: Plugin) -> None:
    for source in plugin.sources:
        sys.modules.pop(source.module, None)
        _FINDER.sources.pop(source.module, None)


def _refuse_hiding(source: Source) -> None:
    """Raise PluginError for a module that would stand in the place of one of Python's or of a package's."""
    if source.module in _FINDER.sources or "." in source.module:
        return
    found = importlib.util.find_spec(source.module)
    if found is not None and found.origin != source.path:
        raise PluginError(
            f"{source.path} would hide the module {source.module} of {found.origin or 'Python'}; rename it"
        )


def where(error: BaseException, plugin: Plugin) -> str:
    """An error in one line, after the last line of the plug-in's own that it went through."""
    return f"{_place(error, plugin.sources) or plugin.path}: {told(error)}"


def blamed(error: BaseException) -> str:
    """The same of whatever plug-in it went through; empty where it went through none."""
    place = _place(error, _FINDER.sources.values())
    return f"{place}: {told(error)}" if place else ""


def _place(error: BaseException, sources: Iterable[Source]) -> str:
    own = {source.path for source in sources}
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else ""
