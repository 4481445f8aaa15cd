"""The command that shows one run."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

from typer import Option

from rankbench.bench.cli.naming import RunName, find_run
from rankbench.bench.cli.options import RESULTS, Json, Results, print_json

LEAST_WIDTH = 40
"""Characters: no figure is read in fewer."""


def show(
    run: RunName,
    traceback: Annotated[bool, Option("--traceback", help="of a failed run: where in the code")] = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> int:
    """One run on the terminal: what it was, its scores, its cost, its curve; or why it failed."""
    from rankbench.reports.single.page import failed, finished
    from rankbench.reports.single.scores import over_items

    found = find_run(run, results)
    folders, cell = found.folders, found.cell
    record, failure = found.record, found.failure
    if as_json:
        interval = record and over_items(folders.record(cell).parent, record)
        print_json(
            {
                "run": cell,
                "folder": str(folders.root),
                "record": record and record.model_dump(mode="json"),
                "interval": interval and list(interval),
                "failure": failure and failure.model_dump(mode="json"),
            }
        )
        return 0
    width = max(LEAST_WIDTH, shutil.get_terminal_size().columns)
    if record:
        print(finished(record, folders.record(cell), width))
    if record and failure:
        print("\nTried again since, without a result:\n")
    if failure:
        print(failed(failure, folders.failure(cell), width, traceback=traceback))
    elif traceback:
        print("rankbench: no traceback, for the run did not fail", file=sys.stderr)
    return 0
