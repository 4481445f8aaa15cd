"""Commands that train nothing: what there is, what a suite will cost, and fetching what it needs."""

from __future__ import annotations

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
    rows: dict[tuple[str, str], list] = {}
    layers: dict[str, dict[str, int]] = {}
    for spec in specs:
        key = (spec.experiment, spec.label)
        if key in rows:
            rows[key][4] += 1
            continue
        cost = estimate(spec)
        layers[spec.experiment] = cost.layers
        rows[key] = [
            *key,
            spec.model.name,
            spec.training.steps,
            1,
            cost.parameters,
            cost.seconds,
            cost.memory,
            cost.gpu_hours,
        ]
    headers = ["experiment", "adapter", "model", "steps", "runs", "parameters"]
    headers += ["seconds a run", "MiB", "GPU-hours a run"]
    formats = (*[""] * 6, ",.1f", ",.0f", ",.3f")
    print(tabulate(rows.values(), headers, floatfmt=formats, intfmt=","))
    print()
    for experiment, entries in layers.items():
        named = ", ".join(f"{entry} {count}" for entry, count in entries.items())
        print(f"layers that the targets of {experiment} name: {named}")
    count = sum(row[4] for row in rows.values())
    minutes, gpu_hours = (sum(row[4] * row[i] for row in rows.values()) for i in (6, 8))
    print(f"\n{count} runs, about {minutes / 60:.0f} minutes of training here (estimate; without scoring)")
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
