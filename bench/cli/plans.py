"""Commands that train nothing: what there is, what a suite will cost, and fetching what it needs."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from typer import Argument

from rankbench.bench.cli.options import Mirror, Only, Seeds, SuiteName, chosen


def names(kind: Annotated[Literal["adapters", "tasks", "suites"], Argument(metavar="KIND")]) -> int:
    """What there is, one name a line: adapters, tasks or suites."""
    from rankbench import adapters, tasks
    from rankbench.bench.suite import suite_names

    known = {"adapters": adapters.names, "tasks": tasks.names, "suites": suite_names}[kind]()
    print("\n".join(known))
    return 0


def plan(suite: SuiteName, only: Only = None, seeds: Seeds = None, mirror: Mirror = None) -> int:
    """A suite's runs, parameters, time and memory; downloads nothing."""
    from tabulate import tabulate

    from rankbench.bench.cost.estimate import ASSUMPTION, estimate

    loaded, specs = chosen(suite, only, seeds, mirror)
    runs = Counter((spec.experiment, spec.label) for spec in specs)
    first = {(spec.experiment, spec.label): spec for spec in reversed(specs)}
    costs = {key: estimate(first[key]) for key in runs}
    rows = []
    for key, count in runs.items():
        spec, cost = first[key], costs[key]
        sizes = [cost.parameters, cost.seconds, cost.memory, cost.gpu_hours]
        rows.append([*key, spec.model.name, spec.training.steps, count, *sizes])
    headers = ["experiment", "adapter", "model", "steps", "runs", "parameters"]
    headers += ["seconds a run", "MiB", "GPU-hours a run"]
    formats = (*[""] * 6, ",.1f", ",.0f", ",.3f")
    print(tabulate(rows, headers, floatfmt=formats, intfmt=","))
    print()
    for experiment, layers in {key[0]: cost.layers for key, cost in costs.items()}.items():
        named = ", ".join(f"{entry} {count}" for entry, count in layers.items())
        print(f"layers that the targets of {experiment} name: {named}")
    minutes = sum(count * costs[key].seconds for key, count in runs.items()) / 60
    gpu_hours = sum(count * costs[key].gpu_hours for key, count in runs.items())
    print(f"\n{len(specs)} runs, about {minutes:.0f} minutes of training here (estimate; without scoring)")
    print(f"or about {gpu_hours:,.2f} GPU-hours; {ASSUMPTION}")
    if loaded.overhead:
        print(f"overhead measurements: {', '.join(loaded.overhead)}")
    return 0


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
