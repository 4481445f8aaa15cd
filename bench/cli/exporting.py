"""The commands that take a finished run further: into a folder that others load, and on to more tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from rankbench.bench.cli.naming import RUN, RunName, find_run
from rankbench.bench.cli.options import RESULTS, Mirror, Results, collect_from_here, count, use_mirror

FOLDER = "a folder that is not there yet, or empty"
FORM = "PEFT's adapter, a whole model, or PEFT's adapter of one rank that is nearest to all that was trained"
RANK = "of --as low-rank; by default the run's own"
TASKS = "a task's name, or '{name: movie, test: 100}' with its options; as often as you like, or with commas"


def export(
    run: RunName,
    folder: Annotated[Path, Argument(metavar="DIR", help=FOLDER)],
    form: Annotated[Literal["peft", "merged", "low-rank"], Option("--as", help=FORM)],
    rank: Annotated[int | None, Option(parser=count, metavar="K", help=RANK)] = None,
    results: Results = RESULTS,
) -> int:
    """Write a run's saved adapter so that PEFT, transformers, vLLM or llama.cpp load it."""
    from rankbench.bench.export.restore import restore, trained_of
    from rankbench.bench.export.write import write

    collect_from_here()
    named = find_run(run, results)
    record = named.result()
    trained = trained_of(named.folders, record, named.cell)
    found = write(restore(record, trained), named.cell, folder, form, rank)
    if found.error is not None:
        print(f"rank {found.rank}: lacks {found.error:.3g} of what was trained, in relative Frobenius norm")
    if found.left_out:
        print(f"left as pretrained: {len(found.left_out)} parameters, {found.left_out[0]} among them")
    print(f"largest output difference when loaded again: {found.difference:.2g} of {found.largest:.3g}")
    print(*found.readers, sep="\n")
    print(folder)
    return 0


def score(
    run: Annotated[str, Argument(metavar="RUN", help=f"{RUN}; or the folder of an export")],
    tasks: Annotated[list[str], Option(metavar="TASK", help=TASKS)],
    mirror: Mirror = None,
    results: Results = RESULTS,
) -> int:
    """Score a run's saved adapter, or an export, on further tasks; trains nothing."""
    from tabulate import tabulate

    from rankbench.bench.export import scoring

    collect_from_here()
    use_mirror(mirror)
    subject = scoring.exported(Path(run))
    if subject is None:
        named = find_run(run, results)
        subject = scoring.saved(named.folders, named.result(), named.cell)
    wanted = [scoring.asked(options, subject.trained) for options in _options(tasks)]
    found = scoring.score(subject, wanted)
    scoring.keep(subject.path, found)
    rows = [[one.task["task"], *each, one.items] for one in found.scores for each in one.metrics.items()]
    print(tabulate(rows, ["task", "metric", "score", "items"], floatfmt=".4f"))
    print(subject.path)
    for task in wanted:
        if told := scoring.seen(task, subject.trained):
            print(told, file=sys.stderr)
    return 0


def _options(words: Sequence[str]) -> list[dict[str, Any]]:
    """What `create` takes, for each task that is named. Raises ConfigError for anything else."""
    from rankbench.bench.records.reader import YAMLError, parse_yaml
    from rankbench.bench.suite import ConfigError

    text = ", ".join(words)
    try:
        found = parse_yaml(f"[{text}]")
    except YAMLError:
        found = [None]
    named = [{"name": one} if isinstance(one, str) else one for one in found]
    if not named or not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in named):
        raise ConfigError(f"--tasks {text}: {TASKS}")
    return named
