"""Commands that train nothing: what there is, what a suite will cost, and fetching what it needs."""

from __future__ import annotations

import itertools
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
    that there may be. The trials of a method are one cell, or one for each length that they have."""
    runs: dict[tuple[str, str], list[RunSpec]] = defaultdict(list)
    for spec in specs:
        runs[spec.experiment, spec.entry].append(spec)
    cells, more = [], 0
    for those in runs.values():
        sure = [spec.cell for spec in those if seeds is not None or spec.is_sure]
        first, *later = _lengths(suite, those[0], only) or [(those[0].training.steps, 0)]
        cells.append(_cell(those[0], first[0], sure, len(those) + first[1]))
        cells += [_cell(those[0], steps, [], most) for steps, most in later]  # which go on is seen then
        more += first[1] + sum(most for _, most in later)
    trials = sum(spec.scored_on == "selection" for spec in specs)
    least = _total(cells, [len(cell["runs"]) for cell in cells]) | {"trials": trials}
    most = _total(cells, [cell["at_most"] for cell in cells]) | {"trials": trials + more}
    return {"cells": cells, "total": least | {"at_most": most}}


def _cell(spec: RunSpec, steps: int, sure: list[str], most: int) -> dict[str, Any]:
    from rankbench.bench.cost.estimate import estimate

    training = spec.training.model_copy(update={"steps": steps})
    cost = estimate(spec.model_copy(update={"training": training}))
    return {
        "experiment": spec.experiment,
        "adapter": spec.entry,
        "model": spec.model.name,
        "steps": steps,
        "runs": sure,
        "at_most": most,
        "parameters": cost.parameters,
        "layers": cost.layers,
        "seconds": cost.seconds,
        "memory_mib": cost.memory,
        "memory_at": cost.memory_at,
        "gpu_hours": cost.gpu_hours,
    }


def _lengths(suite: Suite, spec: RunSpec, only: str | None) -> list[tuple[int, int]]:
    """Of a trial's method: the steps of its trials, the shortest first, and how many there may be of each
    beside those that are certain: of the longer ones all, of the shortest those of grown ranges. Empty for
    what is no trial."""
    from rankbench.bench.suite.tuning import trials_of

    blocks = (block for name, block in suite.experiments.items() if trials_of(name) == spec.experiment)
    if (block := next(blocks, None)) is None or (tune := block.tune) is None:
        return []
    ends = [0, *(tune.trials + turn * tune.extra for turn in range(tune.widen + 1))]
    rounds = [range(first, last) for first, last in itertools.pairwise(ends)]
    found = []
    for rung, steps in enumerate(tune.rungs.steps(block.training.steps)):
        more, end = 0, f"-r{rung}" if rung < tune.rungs.rungs else ""
        for numbers in rounds if rung else rounds[1:]:
            named = (f"{spec.experiment}--{spec.entry}-t{one:02d}{end}--s{tune.seed}" for one in numbers)
            asked = sum(only is None or fnmatch(name, only) for name in named)
            more += min(asked, tune.rungs.going_on(len(numbers))[rung])
        found.append((steps, more))
    return found


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
    if rows:  # a suite may hold measurements of cost alone
        print(tabulate(rows, headers, floatfmt=formats, intfmt=",", disable_numparse=[0, 1, 2]))
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
        reasons.append("how trials come out (docs/tuning.md)")
    if reasons:
        print(f"how many it will be follows from {', and from '.join(reasons)}")
    if found["overhead"]:
        print(f"overhead measurements: {', '.join(found['overhead'])}")


def _from_to(least: int | str, most: int | str) -> int | str:
    return least if least == most else f"{least} to {most}"


def fetch(suite: SuiteName, only: Only = None, seeds: Seeds = None, mirror: Mirror = None) -> int:
    """Make a suite's models and data available offline; all of it, without `--only`, for its costs, too."""
    from rankbench.bench import models
    from rankbench.bench.run.job import make_task
    from rankbench.bench.suite.costs import Growth

    use_mirror(mirror)
    loaded, specs = chosen(suite, only, seeds)
    for spec in {spec.experiment: spec for spec in specs}.values():
        task = make_task(spec)
        task.fetch()
        if task.head.kind != "own":
            models.fetch(spec.model)
    for cost in loaded.overhead.values() if only is None else ():
        if not isinstance(cost, Growth):
            models.fetch(cost.model)
    print("everything is there")
    return 0
