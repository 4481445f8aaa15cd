"""The papers' figures beside ours, with the fields in which the two were made differently."""

from __future__ import annotations

from collections.abc import Sequence

from rankbench.reports.claims.published import PublishedValue
from rankbench.reports.claims.reproductions import NEAR, TOLERANCE, Reproduction, reproductions
from rankbench.reports.frames import Suite
from rankbench.reports.render.markdown import MISSING, Section, number, paragraphs, table


def comparison_table(comparisons: Sequence[Reproduction]) -> str:
    """One row a comparison."""
    header = ["paper", "figure", "hand", "what", "published", "ours [interval] (n)", "verdict"]
    header += ["what differs", "not known of theirs"]
    rows = [
        [
            found.figure.name,
            found.figure.table,
            found.figure.hand,
            f"{found.figure.method} {found.figure.task}, {found.figure.metric}; "
            f"ours {found.method} on {found.where}",
            number(found.figure.value) + (f" ± {number(found.figure.spread)}" if found.figure.spread else ""),
            str(found.ours),
            found.outcome.value,
            "; ".join(found.differing) or MISSING,
            ", ".join(found.unknown) or MISSING,
        ]
        for found in comparisons
    ]
    return table(header, rows, words=len(header))


def section(suite: Suite, figures: Sequence[PublishedValue]) -> Section:
    """The comparison, or nothing where no figure speaks of the suite's tasks."""
    found = reproductions(suite, figures)
    if not found:
        return Section("")
    note = (
        "Published figures of a method beside ours, on the same task or of no task in particular. Where "
        "anything known differs, or the model is not known, the verdict is PROTOCOL DIFFERS, and nothing is "
        f"judged. Else: REPRODUCED if our interval lies within {TOLERANCE:g} point of a score of theirs "
        f"({NEAR:.0%} of another figure; or within their spread, if larger), NOT REPRODUCED if outside. "
        "Second-hand figures were read in a text about the paper. A cell for which nothing was found has no "
        "row."
    )
    return Section(paragraphs("## Beside the papers' figures", note, comparison_table(found)))
