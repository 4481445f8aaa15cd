"""The command that tries what a plug-in holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

FILE = "a Python file with ADAPTERS, TASKS or METRICS"


def check(file: Annotated[Path, Argument(metavar="FILE", help=FILE)]) -> int:
    """Try what a Python file holds by the rules that ours keep; exit code 1 where one is broken."""
    from rankbench.bench.cli.options import collect_from_here
    from rankbench.bench.conformance.check import verdicts
    from rankbench.bench.models.loading import quiet
    from rankbench.bench.suite import plugged

    (plugin,) = plugged.read_all([str(file)], Path())
    collect_from_here()
    broken = 0
    with quiet():
        for verdict in verdicts(plugin):
            broken += len(verdict.faults)
            lines = verdict.faults or [verdict.kept]
            print(*(f"{verdict.what}: {line}" for line in lines), sep="\n", flush=True)
    return 1 if broken else 0
