"""Files that a user begins with, from templates that run as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from rankbench import adapters, tasks
from rankbench.bench.plugins import Plugin
from rankbench.bench.plugins.source import Source
from rankbench.bench.suite import plugged
from rankbench.bench.suite.blocks import ConfigError, check_name
from rankbench.bench.suite.files import suite_names

TASK = "tiny-classification"
MODEL = ("tiny-bert", ["query", "value"])
ENCODER = ("minilm-l6", ["query", "value"])
DECODER = ("smollm2-135m", ["q_proj", "v_proj"])
"""Names and targets: of random weights, and of what the package index has."""
RANK = 4


def adapter(name: str) -> tuple[Path, str]:
    """Where a method of that name goes, and what is written there. Raises ConfigError for a name that cannot
    be used."""
    return _module(name, _template("adapter.py").replace("my-method", name))


def task(name: str) -> tuple[Path, str]:
    """As `adapter`."""
    return _module(name, _template("task.py").replace("my-task", name))


def _module(name: str, text: str) -> tuple[Path, str]:
    if not re.fullmatch("[a-z][a-z0-9_-]*", name):
        raise ConfigError(f"{name!r}: use lower-case letters, digits, '-' and '_'; begin with a letter")
    path = Path(f"{name}.py")
    source = Source(name, str(path.absolute()), text.encode())
    plugged.use([Plugin(source.path, (source,))])  # it says where a name cannot be used
    return path, text


def suite(name: str, plugins: Sequence[Path]) -> tuple[Path, str]:
    """The same of a suite: it names the methods of these files and the first of their tasks.

    Raises ConfigError for a name or a file that cannot be used.
    """
    try:
        check_name("suite", name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if name in suite_names():  # its results would lie among that one's
        raise ConfigError(f"{name} is a suite that comes along; choose another name")
    paths = [str(path) for path in plugins]
    plugged.read_all(paths, Path())
    task = next(iter(tasks.OTHERS.plugged), TASK)
    kind = tasks.create(task).head.kind
    if kind == "own":
        raise ConfigError(f"task {task} has a model of its own: write a suite with its `targets` by hand")
    model, targets = (MODEL if task == TASK else ENCODER) if kind == "sequence" else DECODER
    methods = {one.lower(): _flow(_settings(one)) for one in adapters.OTHERS.plugged}
    values = {"name": name, "plugins": _flow(paths), "task": task, "model": model, "targets": _flow(targets)}
    filled = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    text = filled.from_string(_template("suite.yaml")).render(**values, rank=RANK, methods=methods)
    return Path(f"{name}.yaml"), text


def _settings(name: str) -> dict[str, Any]:
    """What tiny layers take, at the rank of the methods beside it; a label has no upper case, a name may."""
    example = adapters.kind(name).example
    named = {} if name == name.lower() else {"name": name}
    return named | example | ({"rank": RANK} if "rank" in example else {})


def _flow(value: object) -> str:
    """As YAML, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip()


def _template(name: str) -> str:
    return files("rankbench.bench.templates").joinpath(name).read_text(encoding="utf-8")


def write(path: Path, text: str) -> None:
    """The whole of it or nothing. Raises ConfigError where something is there already, or the folder cannot
    be written."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; choose another name, or remove it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        path.unlink()
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
