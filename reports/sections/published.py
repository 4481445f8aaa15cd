"""The papers' figures beside ours, with the fields in which the two were made differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rankbench.reports.claims.reproductions import NEAR, TOLERANCE, Reproduction
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.render.blocks import Block, Folded, Section, Table
from rankbench.reports.render.numbers import MISSING, number
from rankbench.reports.render.words import words
from rankbench.reports.stats.decision import CONFIDENCE
from rankbench.reports.study import Study

HEADER = ["figure", "of", "published", "ours [interval] (n)", "verdict", "differs", "not known of theirs"]


def section(study: Study) -> Section | None:
    """The comparison, or nothing where no figure speaks of the suite's tasks."""
    if not study.reproductions:
        return None
    apart = [found for found in study.reproductions if found.outcome is Outcome.PROTOCOL_DIFFERS]
    judged = [found for found in study.reproductions if found.outcome is not Outcome.PROTOCOL_DIFFERS]
    how = Folded("How this is judged", [words("published", "how", points=TOLERANCE, near=NEAR)])
    parts: list[Block] = [words("published", confidence=CONFIDENCE), how]
    if judged:
        parts.append(table(judged))
    if apart:
        shown = table(apart)
        parts.append(Folded(f"{Outcome.PROTOCOL_DIFFERS.value}, not judged: {len(shown.rows)}", [shown]))
    return Section("Beside the papers' figures", parts)


def table(comparisons: Sequence[Reproduction]) -> Table:
    """A row a figure, with all of ours that are judged alike; what is judged by its interval stands alone.
    Where nothing is judged, no row says so."""
    alike: dict[object, list[Reproduction]] = defaultdict(list)
    for found in comparisons:
        same = (id(found.figure), found.outcome, *found.differing, None, *found.unknown)
        alike[same if found.outcome is Outcome.PROTOCOL_DIFFERS else id(found)].append(found)
    all_apart = {found.outcome for found in comparisons} == {Outcome.PROTOCOL_DIFFERS}
    columns = [column for column in range(len(HEADER)) if not (all_apart and HEADER[column] == "verdict")]
    rows = [[row[column] for column in columns] for row in map(_row, alike.values())]
    return Table([HEADER[column] for column in columns], rows, words=len(columns))


def _row(alike: Sequence[Reproduction]) -> list[str]:
    first, ours = alike[0], defaultdict(list)
    for found in alike:
        ours[str(found.ours)].append(f"{found.method} on {found.where}")
    figure = first.figure
    return [
        f"{figure.name}, {figure.table} ({figure.hand} hand)",
        f"{figure.method} {figure.task}, {figure.metric}",
        number(figure.value) + (f" ± {number(figure.spread)}" if figure.spread else ""),
        "; ".join(f"{value}: {', '.join(methods)}" for value, methods in ours.items()),
        first.outcome.value,
        "; ".join(first.differing) or MISSING,
        ", ".join(first.unknown) or MISSING,
    ]
