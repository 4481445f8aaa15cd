"""The command that does a suite's trials."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Option

from rankbench.bench.cli.options import (
    INTERRUPTED,
    RESULTS,
    Mirror,
    Results,
    SuiteName,
    chosen,
    collect_from_here,
    count,
    duration,
    use_mirror,
)
from rankbench.bench.cli.runs import CHECKPOINTS, RETRY, THREADS, WORKERS, interruptible

if TYPE_CHECKING:
    from rankbench.bench.records import Folders
    from rankbench.bench.suite import Suite


def tune(
    suite: SuiteName,
    mirror: Mirror = None,
    results: Results = RESULTS,
    checkpoint_every: Annotated[float, Option(parser=duration, metavar="SECONDS", help=CHECKPOINTS)] = 60,
    retry_failed: Annotated[bool, Option("--retry-failed", help=RETRY)] = False,
    workers: Annotated[int | None, Option(parser=count, metavar="N", help=WORKERS)] = None,
    threads: Annotated[int | None, Option(parser=count, metavar="N", help=THREADS)] = None,
) -> int:
    """Do the trials of a suite's `tune` blocks, and say what they choose; `run` does so by itself."""
    from rankbench.bench.backends import nursery

    use_mirror(mirror)
    nursery.expect(workers)
    from rankbench.bench.backends.choose import choose
    from rankbench.bench.backends.driver import Options, execute_rounds
    from rankbench.bench.records.store import to_work_in
    from rankbench.bench.suite import ConfigError
    from rankbench.bench.tune import next_trials, trial_rounds
    from rankbench.bench.tune.trials import tuned
    from rankbench.tasks.data.hub import resolve_mirror

    collect_from_here()
    loaded, _ = chosen(suite, None, None)
    resolve_mirror(None)
    if not tuned(loaded):
        raise ConfigError(
            f"suite {loaded.name} has nothing to choose: give an experiment of it a `tune` block"
        )
    with to_work_in(results, loaded.name) as folders, interruptible() as stopped:
        first = next_trials(loaded, folders)
        doing = choose(None, first, folders, loaded.slurm, count=workers, threads=threads)
        options = Options(with_overhead=False, checkpoint_seconds=checkpoint_every, retry_failed=retry_failed)
        due = trial_rounds(loaded, folders)
        outcome = execute_rounds(loaded, due, folders, stopped, options, doing)
        if outcome.interrupted:
            again = f"`rankbench tune {suite}` goes on"
            print(f"rankbench: interrupted; nothing is lost, {again}", file=sys.stderr)
            return INTERRUPTED
        _say(loaded, folders)
    return 1 if outcome.failed else 0


def _say(suite: Suite, folders: Folders) -> None:
    """What was chosen, and where it is written."""
    from tabulate import tabulate

    from rankbench.bench.tune.choices import kept, read, value
    from rankbench.bench.tune.settle import settled

    settled(suite, folders)
    rows = []
    for name, choices in read(folders.choices).items():
        with_suite = kept(suite, name)
        for label, choice in choices.items():
            values = ", ".join(f"{key} {value:g}" for key, value in choice.chosen.items())
            whence = "with the suite" if label in with_suite else choice.trial
            rows.append([name, label, values, choice.metric, value(choice), choice.trials, whence])
    headers = ["experiment", "method", "chosen", "by", "its value", "trials", "from"]
    print(tabulate(rows, headers, floatfmt=".4g", disable_numparse=[0, 1]))
    print(f"\nwritten to {folders.choices}; beside the suite, as {suite.choices}, it stands for the trials")
