"""Commands that train nothing: what there is, what a suite will cost, and fetching what it needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument

from rankbench.bench.cli.options import Json, Mirror, Only, Seeds, SuiteName, chosen, print_json, use_mirror

if TYPE_CHECKING:
    from rankbench.bench.suite import RunSpec, Suite


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
    use_mirror(mirror)
    loaded, specs = chosen(suite, only, seeds)
    found = {"suite": loaded.name, **_planned(loaded, specs, only, seeds), "overhead": [*loaded.overhead]}
    if as_json:
        print_json(found)
    else:
        _print_plan(found)
    return 0


def _planned(suite: Suite, specs: Sequence[RunSpec], only: str | None, seeds: int | None) -> dict[str, Any]:
    """The cost of a run of each cell, and of all: of those that are done whatever they show, and of the most
    that there may be. The trials of a method are one cell."""
    from rankbench.bench.cost.estimate import estimate

    runs: dict[tuple[str, str], list[RunSpec]] = defaultdict(list)
    for spec in specs:
        runs[spec.experiment, spec.entry].append(spec)
    cells: list[dict[str, Any]] = []
    for (experiment, label), those in runs.items():
        cost = estimate(those[0])
        cells.append(
            {
                "experiment": experiment,
                "adapter": label,
                "model": those[0].model.name,
                "steps": those[0].training.steps,
                "runs": [spec.cell for spec in those if seeds is not None or spec.is_sure],
                "at_most": len(those) + _more_trials(suite, those[0], only),
                "parameters": cost.parameters,
                "layers": cost.layers,
                "seconds": cost.seconds,
                "memory_mib": cost.memory,
                "memory_at": cost.memory_at,
                "gpu_hours": cost.gpu_hours,
            }
        )
    sure = _total(cells, [len(cell["runs"]) for cell in cells])
    most = _total(cells, [cell["at_most"] for cell in cells])
    trials = sum(spec.scored_on == "selection" for spec in specs)
    grown = sum(_more_trials(suite, those[0], only) for those in runs.values())
    most = most | {"trials": trials + grown}
    return {"cells": cells, "total": sure | {"trials": trials, "at_most": most}}


def _more_trials(suite: Suite, spec: RunSpec, only: str | None) -> int:
    """Of a trial's method: those that there are only if ranges grow."""
    from rankbench.bench.suite.tuning import trials_of

    blocks = (block.tune for name, block in suite.experiments.items() if trials_of(name) == spec.experiment)
    if (tune := next(blocks, None)) is None:
        return 0
    numbers = range(tune.trials, tune.trials + tune.widen * tune.extra)
    names = (f"{spec.experiment}--{spec.entry}-t{number:02d}--s{tune.seed}" for number in numbers)
    return sum(only is None or fnmatch(name, only) for name in names)


def _total(cells: Sequence[dict[str, Any]], counts: Sequence[int]) -> dict[str, Any]:
    both = [*zip(cells, counts, strict=True)]
    sums = {key: sum(count * cell[key] for cell, count in both) for key in ("seconds", "gpu_hours")}
    return {"runs": sum(counts), **sums}


def _print_plan(found: dict[str, Any]) -> None:
    from tabulate import tabulate

    from rankbench.bench.cost.estimate import ASSUMPTION

    sizes = ("parameters", "seconds", "memory_mib", "memory_at", "gpu_hours")
    rows = [
        [
            *(cell[key] for key in ("experiment", "adapter", "model", "steps")),
            _from_to(len(cell["runs"]), cell["at_most"]),
            *(cell[key] for key in sizes),
        ]
        for cell in found["cells"]
    ]
    headers = ["experiment", "adapter", "model", "steps", "runs", "parameters"]
    headers += ["seconds a run", "MiB", "at the peak of", "GPU-hours a run"]
    formats = (*[""] * 6, ",.1f", ",.0f", "", ",.3f")
    print(tabulate(rows, headers, floatfmt=formats, intfmt=","))
    print()
    alike: dict[str, list[str]] = defaultdict(list)
    for experiment, layers in {cell["experiment"]: cell["layers"] for cell in found["cells"]}.items():
        alike[", ".join(f"{entry} {count}" for entry, count in layers.items())].append(experiment)
    for named, experiments in alike.items():
        print(f"layers that the targets of {', '.join(experiments)} name: {named}")
    sure, most = found["total"], found["total"]["at_most"]
    runs = _from_to(sure["runs"], most["runs"])
    minutes = _from_to(*(f"{total['seconds'] / 60:.0f}" for total in (sure, most)))
    hours = _from_to(*(f"{total['gpu_hours']:,.2f}" for total in (sure, most)))
    trials = f", {sure['trials']} of them trials" if sure["trials"] else ""
    print(f"\n{runs} runs{trials}, about {minutes} minutes of training here (estimate; without scoring)")
    print(f"or about {hours} GPU-hours; {ASSUMPTION}")
    reasons = []
    if sure["runs"] - sure["trials"] < most["runs"] - most["trials"]:
        reasons.append("how soon claims are decided (docs/deciding.md)")
    if sure["trials"] < most["trials"]:
        reasons.append("which ranges of trials grow (docs/tuning.md)")
    if reasons:
        print(f"how many it will be follows from {', and from '.join(reasons)}")
    if found["overhead"]:
        print(f"overhead measurements: {', '.join(found['overhead'])}")


def _from_to(least: int | str, most: int | str) -> int | str:
    return least if least == most else f"{least} to {most}"


def fetch(suite: SuiteName, only: Only = None, seeds: Seeds = None, mirror: Mirror = None) -> int:
    """Make a suite's models and data available offline."""
    from rankbench.bench import models
    from rankbench.bench.run.job import make_task

    use_mirror(mirror)
    _, specs = chosen(suite, only, seeds)
    for spec in {spec.experiment: spec for spec in specs}.values():
        task = make_task(spec)
        task.fetch()
        if task.head.kind != "own":
            models.fetch(spec.model)
    print("everything is there")
    return 0
