"""What the shell offers at a TAB. It loads nothing that takes long, and what is broken offers nothing: a TAB
is no place to say why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import typer

SUITES = Path(__file__).parents[1] / "suite"
"""Of those that come along; to ask `bench.suite` would load PyTorch."""


def suites() -> list[str]:
    """Names of suites that come along, and suite files of this folder."""
    here = (path.name for kind in ("*.yaml", "*.yml") for path in Path().glob(kind))
    return [*sorted(path.stem for path in SUITES.glob("*.yaml")), *sorted(here)]


def places(ctx: typer.Context) -> list[str]:
    """Suites that have results, and suite files."""
    return [*(folder.name for folder in _with_results(ctx)), *(name for name in suites() if "." in name)]


def runs(ctx: typer.Context) -> list[str]:
    """Runs that have ended, with their suite, and without it where no other one has a run of the name."""
    from rankbench.bench.cli.naming import cells

    ended = [(folder.name, cell) for folder in _with_results(ctx) for cell in cells(folder)]
    count = Counter(cell for _, cell in ended)
    return [*("/".join(each) for each in ended), *(cell for cell in count if count[cell] == 1)]


def only(ctx: typer.Context) -> list[str]:
    """The runs of the command's suite, whose file may be broken."""
    from rankbench.bench.records.reader import YAMLError

    word = ctx.params.get("suite") or next(
        iter(ctx.args), ""
    )  # not sorted in while an option lacks its value
    path = Path(word) if Path(word).suffix in {".yaml", ".yml"} else SUITES / f"{word}.yaml"
    found: list[str] = []
    with suppress(OSError, YAMLError, ValueError, TypeError, AttributeError, KeyError):
        found.extend(_planned(path))
    return found


def _planned(path: Path) -> Iterator[str]:
    """Cells; of experiments that leave their seeds to the default, those of the first one, and of seeds in
    stages those of the first stage."""
    from rankbench.bench.records.labels import entries
    from rankbench.bench.records.reader import read_yaml

    suite = read_yaml(path)
    for name, experiment in suite["experiments"].items():
        for adapter, given in experiment["adapters"].items():
            for label, _ in entries(str(adapter), given):
                seeds = experiment.get("seeds", suite.get("seeds", [0]))
                for seed in range(seeds["from"]) if isinstance(seeds, dict) else seeds:
                    yield f"{name}--{label}--s{seed}"


def _with_results(ctx: typer.Context) -> list[Path]:
    from rankbench.bench.cli.naming import cells

    root = Path(ctx.params.get("results") or "results")
    return [folder for folder in sorted(root.glob("*/")) if cells(folder)]
