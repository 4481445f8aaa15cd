"""A suite's runs, round after round: what the next one is follows from the results of those before it.

A round is asked for when the one before it has ended, whoever did its runs. It is worked out from the records
of the rounds so far and no others: a command that goes on where another one was killed, or works beside it,
goes the same way through them and comes to the same runs.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from fnmatch import fnmatch
from functools import partial

from tqdm import tqdm

from rankbench.bench.cli import judging
from rankbench.bench.cli.judging import Cell
from rankbench.bench.cost.estimate import operations
from rankbench.bench.records import Folders
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.suite import RunSpec, Suite, plan
from rankbench.bench.tune import settled, trial_rounds


def rounds(
    suite: Suite, folders: Folders, only: str | None = None, seeds: int | None = None
) -> Iterator[list[RunSpec]]:
    """The trials of what is tuned, and then all runs; or, of experiments whose seeds come in stages, those of
    the first stage, and as long as open claims may be decided those of the next stage of the cells that they
    need.

    `only`: glob over runs; `seeds`: N, for the seeds 0 … N-1 and no judging. A run that failed is not waited
    for: its cell is judged by the others. Raises ConfigError where trials are missing that runs need,
    RecordError where the records cannot be judged.
    """
    for trials in trial_rounds(suite, folders):
        if due := [spec for spec in trials if only is None or fnmatch(spec.cell, only)]:
            yield due
    wanted = {spec.experiment for spec in plan(suite, only=only, seeds=seeds)}
    chosen = settled(suite, folders, wanted)
    specs = list(plan(chosen, only=only, seeds=seeds))
    if seeds is not None or not any(spec.stages for spec in specs):
        yield specs
    else:
        yield from _stages(_early(specs), {spec.cell for spec in plan(chosen)}, folders)


def _stages(specs: Sequence[RunSpec], counted: Set[str], folders: Folders) -> Iterator[list[RunSpec]]:
    """`counted`: names of all runs of the suite, by which is judged as far as they are not still to come. A
    cell begins with the first stage that it has here: who asks for later seeds alone gets these."""
    cells = going = {_cell(spec) for spec in specs}
    reached = Counter({cell: min(_stage(spec) for spec in specs if _cell(spec) == cell) for cell in cells})
    while due := [spec for spec in specs if _cell(spec) in going and _stage(spec) == reached[_cell(spec)]]:
        yield due
        later = {spec.cell for spec in specs if _stage(spec) > reached[_cell(spec)]}
        if not later:
            return
        going = judging.undecided(folders.root, counted - later)
        reached.update(going)
        told = f"judged: claims within reach need more seeds of {len(going & cells)} of {len(cells)} cells"
        tqdm.write(told, file=sys.stderr)


def _cell(spec: RunSpec) -> Cell:
    return spec.experiment, spec.label


def _stage(spec: RunSpec) -> int:
    """The number, from 0, of the stage that a run belongs to."""
    return bisect_right(spec.stages, spec.seed)


def _early(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """A result of every cell first; then experiment by experiment, those that compute least first, so that
    they can be judged while others take long."""
    firsts: dict[str, RunSpec] = {}
    for spec in specs:
        firsts.setdefault(spec.experiment, spec)
    costs = {name: _operations(spec) for name, spec in firsts.items()}
    names = sorted(costs, key=lambda name: costs[name])
    return sorted(
        specs, key=lambda spec: (spec.seed != firsts[spec.experiment].seed, names.index(spec.experiment))
    )


def _operations(spec: RunSpec) -> float:
    """Of a run, the most where that cannot be told: it will say so itself."""
    found = attempt(partial(operations, spec))
    return math.inf if isinstance(found, Failure) else found
