"""Commands that train nothing: what there is, what a suite will cost, and fetching what it needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument

from rankbench.bench.cli.options import Json, Mirror, Only, Seeds, SuiteName, chosen, print_json

if TYPE_CHECKING:
    from rankbench.bench.suite import RunSpec


def names(
    kind: Annotated[Literal["adapters", "tasks", "suites"], Argument(metavar="KIND")], as_json: Json = False
) -> int:
    """What there is, one name a line: adapters, tasks or suites."""
    from rankbench import adapters, tasks
    from rankbench.bench.suite import suite_names

    known = {"adapters": adapters.names, "tasks": tasks.names, "suites": suite_names}[kind]()
    if as_json:
        print_json({kind: known})
    else:
        print("\n".join(known))
    return 0


def plan(
    suite: SuiteName,
    only: Only = None,
    seeds: Seeds = None,
    mirror: Mirror = None,
    as_json: Json = False,
) -> int:
    """A suite's runs, parameters, time and memory; downloads nothing."""
    loaded, specs = chosen(suite, only, seeds, mirror)
    found = {"suite": loaded.name, **_planned(specs), "overhead": [*loaded.overhead]}
    if as_json:
        print_json(found)
    else:
        _print_plan(found)
    return 0


def _planned(specs: Sequence[RunSpec]) -> dict[str, Any]:
    """The cost of a run of each cell, and of all."""
    from rankbench.bench.cost.estimate import estimate

    runs: dict[tuple[str, str], list[RunSpec]] = defaultdict(list)
    for spec in specs:
        runs[spec.experiment, spec.label].append(spec)
    cells: list[dict[str, Any]] = []
    for (experiment, label), those in runs.items():
        cost = estimate(those[0])
        cells.append(
            {
                "experiment": experiment,
                "adapter": label,
                "model": those[0].model.name,
                "steps": those[0].training.steps,
                "runs": [spec.cell for spec in those],
                "parameters": cost.parameters,
                "layers": cost.layers,
                "seconds": cost.seconds,
                "memory_mib": cost.memory,
                "gpu_hours": cost.gpu_hours,
            }
        )
    sums = {key: sum(len(cell["runs"]) * cell[key] for cell in cells) for key in ("seconds", "gpu_hours")}
    return {"cells": cells, "total": {"runs": len(specs), **sums}}


def _print_plan(found: dict[str, Any]) -> None:
    from tabulate import tabulate

    from rankbench.bench.cost.estimate import ASSUMPTION

    sizes = ("parameters", "seconds", "memory_mib", "gpu_hours")
    rows = [
        [
            *(cell[key] for key in ("experiment", "adapter", "model", "steps")),
            len(cell["runs"]),
            *(cell[key] for key in sizes),
        ]
        for cell in found["cells"]
    ]
    headers = ["experiment", "adapter", "model", "steps", "runs", "parameters"]
    headers += ["seconds a run", "MiB", "GPU-hours a run"]
    formats = (*[""] * 6, ",.1f", ",.0f", ",.3f")
    print(tabulate(rows, headers, floatfmt=formats, intfmt=","))
    print()
    for experiment, layers in {cell["experiment"]: cell["layers"] for cell in found["cells"]}.items():
        named = ", ".join(f"{entry} {count}" for entry, count in layers.items())
        print(f"layers that the targets of {experiment} name: {named}")
    total = found["total"]
    minutes = total["seconds"] / 60
    print(f"\n{total['runs']} runs, about {minutes:.0f} minutes of training here (estimate; without scoring)")
    print(f"or about {total['gpu_hours']:,.2f} GPU-hours; {ASSUMPTION}")
    if found["overhead"]:
        print(f"overhead measurements: {', '.join(found['overhead'])}")


def fetch(suite: SuiteName, only: Only = None, seeds: Seeds = None, mirror: Mirror = None) -> int:
    """Make a suite's models and data available offline."""
    from rankbench.bench import models
    from rankbench.bench.run.job import make_task

    _, specs = chosen(suite, only, seeds, mirror)
    for spec in specs:
        task = make_task(spec)
        task.fetch()
        if task.head.kind != "own":
            models.fetch(spec.model)
    print("everything is there")
    return 0
