"""Arguments and options that several commands share, and what they choose."""

from __future__ import annotations

import fnmatch
import gc
import json
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from rankbench.bench.cli import completing

if TYPE_CHECKING:
    from rankbench.bench.suite import RunSpec, Suite

INTERRUPTED = 130


def count(text: str) -> int:
    """A positive whole number. Raises BadParameter for anything else."""
    if not text.isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"{text!r} is not a positive whole number")
    return int(text)


def duration(text: str) -> float:
    """Seconds, 0 or more. Raises BadParameter for anything else."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise typer.BadParameter(f"{text!r} is no number of seconds, 0 or more")
    return seconds


SuiteName = Annotated[
    str,
    Argument(
        metavar="SUITE",
        help="a built-in suite or a suite file (.yaml)",
        autocompletion=completing.suites,
    ),
]
Only = Annotated[
    str | None,
    Option(
        metavar="GLOB",
        help="runs whose EXPERIMENT--ADAPTER--sSEED matches",
        autocompletion=completing.only,
    ),
]
Seeds = Annotated[int | None, Option(parser=count, metavar="N", help="use the seeds 0 to N-1")]
Mirror = Annotated[
    str | None, Option(metavar="DIR", help="folder with hub data sets, laid out as on the hub")
]
Results = Annotated[
    str, Option(metavar="DIR", help="where results lie, a folder a suite; or a URL that fsspec knows")
]
RESULTS = "results"
Json = Annotated[bool, Option("--json", help="as JSON, with the keys of docs/on-the-terminal.md")]


def print_json(value: Any) -> None:
    """On stdout, in ASCII: valid whatever the console's encoding."""
    print(json.dumps(value, indent=2, allow_nan=False))


def use_mirror(folder: str | None) -> None:
    """For this process and those that it begins from now on."""
    if folder:
        os.environ["RANKBENCH_MIRROR"] = folder


def chosen(name: str, only: str | None, seeds: int | None) -> tuple[Suite, list[RunSpec]]:
    """The suite and those of its runs that the options leave, first trials too, and all that stages of seeds
    may come to. Raises ConfigError if there is none."""
    from rankbench.bench.records import Folders
    from rankbench.bench.suite import ConfigError, load_suite, plan
    from rankbench.bench.tune import next_trials

    suite = load_suite(name)
    with tempfile.TemporaryDirectory() as empty:
        trials = next_trials(suite, Folders(Path(empty)))
    specs = [spec for spec in trials if only is None or fnmatch.fnmatch(spec.cell, only)]
    specs += plan(suite, only=only, seeds=seeds)
    if only is not None and not specs:
        raise ConfigError(f"--only {only!r} matches no run; `rankbench plan {name}` lists them")
    return suite, specs


def collect_from_here() -> None:
    """All is imported: the garbage collector works again, and leaves the modules out."""
    gc.freeze()
    gc.enable()
