"""The command that says how many seeds and hours each open claim would take."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from rankbench.bench.cli import completing
from rankbench.bench.cli.options import RESULTS, Results
from rankbench.bench.cli.results import PLACE, results_folder

NOTE = """Seeds with which a claim would be decided at 80 % power, were the difference as large as it is now;
a dash: out of reach. Hours: until the earlier of the two, by what runs have taken (docs/deciding.md)."""


def power(
    suite: Annotated[str, Argument(metavar="SUITE", help=PLACE, autocompletion=completing.places)],
    results: Results = RESULTS,
) -> int:
    """Seeds and hours until each open claim is decided, by the records so far."""
    from tabulate import tabulate

    from rankbench.reports.claims.power import power as needed
    from rankbench.reports.claims.schema import Outcome
    from rankbench.reports.render.numbers import MISSING, number
    from rankbench.reports.study import Study

    folder = results_folder(suite, results)
    study = Study.read(folder)
    if not study.judges_papers:
        print(f"{folder} has one seed of each run: no claim is judged by it")
        return 0
    found = needed(study)
    if found:
        headers = ["claim", "where", "methods", "seeds", "to decide", "to equivalence", "hours"]
        rows = [
            [
                *(one.claim.id, one.where, one.methods),
                *(one.seeds, one.to_decide, one.to_equivalence, number(one.hours)),
            ]
            for one in found
        ]
        print(tabulate(rows, headers, missingval=MISSING, disable_numparse=True))
        print(f"\n{NOTE}")
    reached = (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.EQUIVALENT)
    decided = sum(one.outcome in reached for one in study.verdicts)
    within = [(one.first, one.at_most) for one in found if one.first is not None]
    here = sum(seeds <= at_most for seeds, at_most in within)
    print(
        f"verdicts reached: {decided}; open claims: {len(found)}, of which {len(within)} could be decided "
        f"by more seeds, {here} by those that the suite may still run"
    )
    return 0
