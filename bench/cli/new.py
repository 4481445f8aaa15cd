"""The command that begins a file of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

PLUGIN = "of a suite: a Python file whose methods and task it is to name; as often as you like"


def new(
    kind: Annotated[Literal["adapter", "task", "suite"], Argument(metavar="KIND")],
    name: Annotated[str, Argument(metavar="NAME", help="of it, and of its file")],
    plugin: Annotated[list[Path] | None, Option(metavar="FILE", help=PLUGIN)] = None,
) -> int:
    """Write a small file that runs at once: an adapter, a task or a suite. Never overwrites one."""
    from rankbench.bench.suite import ConfigError
    from rankbench.bench.suite.begin import adapter, suite, task, write

    if plugin and kind != "suite":
        raise ConfigError(f"--plugin goes with `rankbench new suite {name}`")
    if kind == "suite":
        path, text = suite(name, plugin or [])
    else:
        path, text = {"adapter": adapter, "task": task}[kind](name)
    write(path, text)
    print(path)
    return 0
