"""Which sentences of the papers held, failed, and stayed open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.render.words import words
from rankbench.reports.sections.verdicts import judged, link
from rankbench.reports.study import Study

MOST = 3
"""Claims that a line names."""


def claims(study: Study) -> Iterator[str]:
    """One answer of a line for each way in which claims came out."""
    if not study.judges_papers:
        yield words("in_brief", "one_seed")
        return
    tested = judged(study.verdicts)
    if not tested:
        yield words("in_brief", "untested")
        return
    lines = [f"  - {line}" for line in _lines(tested)]
    yield "\n".join([words("in_brief", "claims", judged=len(tested)), *lines])


def _lines(tested: Sequence[Sequence[Verdict]]) -> Iterator[str]:
    """Every claim is in one of them."""
    outcomes = {rows[0].claim.id: {row.outcome for row in rows} for rows in tested}
    held, failed, unknown = Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.UNDERPOWERED
    ways = {
        "held wherever tested": lambda seen: held in seen and not seen & {failed, unknown},
        "held in some settings, and stayed open in others": lambda seen: (
            {held, unknown} <= seen and failed not in seen
        ),
        "held in some settings, and failed in others": lambda seen: {held, failed} <= seen,
        "failed in some settings, and held in none": lambda seen: failed in seen and held not in seen,
        "stayed open, for too few seeds or items or for want of a difference": lambda seen: (
            not seen & {held, failed}
        ),
    }
    for way, is_so in ways.items():
        found = [link(rows[0].claim) for rows in tested if is_so(outcomes[rows[0].claim.id])]
        more = [f"{len(found) - MOST + 1} more"] if len(found) > MOST else []
        names = [*found[: MOST - 1], *more] if more else found
        if found:
            yield f"{len(found)} {way}: {'; '.join(names)}"
