"""Commands that read records: a suite's report, and its comparison with earlier results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from rankbench.bench.cli.options import RESULTS, Results

PLACE = "a folder of results, a suite's name, or a suite file"
ONLY = "only runs whose EXPERIMENT--ADAPTER--sSEED matches, and measurements whose name does"


def report(suite: Annotated[str, Argument(metavar="SUITE", help=PLACE)], results: Results = RESULTS) -> int:
    """Write a suite's report from its records."""
    from rankbench.bench.records import Folders
    from rankbench.bench.records.store import set_baseline
    from rankbench.bench.suite import load_suite, names_suite, results_folder

    folder = results_folder(suite, results)
    if names_suite(suite):  # a folder stands for itself
        set_baseline(Folders(folder), load_suite(suite).baseline)
    write_report(folder)
    return 0


def write_report(folder: Path) -> None:
    """Prints where the page is, and the Markdown beside it."""
    from rankbench import reports

    markdown = reports.write(folder)
    print(markdown.with_suffix(".html"), markdown, sep="\n")


def compare(
    baseline: Annotated[str, Argument(metavar="BASELINE", help=PLACE)],
    candidate: Annotated[str, Argument(metavar="CANDIDATE", help=PLACE)],
    only: Annotated[str | None, Option(metavar="GLOB", help=ONLY)] = None,
    everything: Annotated[bool, Option("--all", help="list what did not get worse, too")] = False,
    results: Results = RESULTS,
) -> int:
    """Judge results against earlier ones; exit code 1 on a regression."""
    from rankbench.bench.suite import results_folder
    from rankbench.reports.compare.judge import compare as judge
    from rankbench.reports.compare.page import page
    from rankbench.reports.frames import load

    before, after = results_folder(baseline, results), results_folder(candidate, results)
    found = judge(load(before), load(after), only)
    print(page(found, str(before), str(after), everything=everything))
    return 1 if found.regressed else 0
