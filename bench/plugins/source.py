"""A plug-in as it was read: a Python file and the modules beside it that it imports, by their bytes.

What is hashed, what is carried to other processes and machines, and what is run are the same bytes: a file
that is edited while its suite runs changes nothing of that suite.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


class PluginError(ValueError):
    """A plug-in cannot be used; the message names the file and what is wrong with it, in one line."""


OURS = "rankbench"
"""No plug-in's own, though a clone of it may lie beside one."""


@dataclass(frozen=True)
class Source:
    """One module."""

    module: str
    """The name that it is imported by."""
    path: str
    """Of its file, absolute: what messages and tracebacks name."""
    code: bytes

    @property
    def is_package(self) -> bool:
        """Whether other modules lie in it."""
        return Path(self.path).name == "__init__.py"


@dataclass(frozen=True)
class Plugin:
    """Can be pickled, and is all that another process needs to load it."""

    path: str
    """Of the file, absolute."""
    sources: tuple[Source, ...]
    """The file itself first."""

    @property
    def name(self) -> str:
        """The file's."""
        return Path(self.path).name

    @cached_property
    def hashes(self) -> dict[str, str]:
        """File, by its path from the plug-in's folder -> SHA-256 of its bytes."""
        folder = Path(self.path).parent
        return {
            Path(one.path).relative_to(folder).as_posix(): hashlib.sha256(one.code).hexdigest()
            for one in self.sources
        }


def read(path: Path) -> Plugin:
    """A plug-in with every module beside it that an `import` in it names, in a function too; nothing is run.

    Raises PluginError for a file that is not there, is no Python file, or has a syntax error.
    """
    path = path.absolute()
    if path.suffix != ".py" or not path.stem.replace("-", "_").isidentifier() or path.stem.startswith("__"):
        raise PluginError(f"{path.name} is no plug-in: it takes a Python file with a plain name, as mine.py")
    if path.stem == OURS:
        raise PluginError(f"{path} would hide the module {OURS}; rename it")
    found: dict[str, Source] = {}
    asked = [path.stem]
    while asked:
        module = asked.pop()
        place = path if module == path.stem else _place(path.parent, module)
        if module in found or place is None or module.partition(".")[0] == OURS:
            continue
        found[module] = Source(module, str(place), _bytes(place))
        asked += _imported(found[module])
    return Plugin(str(path), tuple(found.values()))


def told(error: BaseException) -> str:
    """Its kind and its message, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _place(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split("."))
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files if file.is_file()), None)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PluginError(f"plug-in {path} cannot be read: {error.strerror}") from None


def _imported(source: Source) -> Iterator[str]:
    """Whatever may be a module that it imports, and the packages that hold it."""
    try:
        tree = ast.parse(source.code, source.path)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise PluginError(f"{source.path}{line}: {error.msg}") from None
    except ValueError as error:  # a null byte, before Python 3.11.4
        raise PluginError(f"{source.path}: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(source, node)
            named = [".".join(filter(None, (base, alias.name))) for alias in node.names]
        else:
            continue
        for dotted in named:
            parts = dotted.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _base(source: Source, node: ast.ImportFrom) -> str:
    """What stands after `from`, as an absolute name."""
    if not node.level:
        return node.module or ""
    package = source.module.split(".") if source.is_package else source.module.split(".")[:-1]
    outer = package[: len(package) - node.level + 1]
    return ".".join([*outer, *filter(None, [node.module])])
