"""The loss of the test items beside the scores that count what is right alone."""

from __future__ import annotations

from rankbench.reports.render.blocks import Section
from rankbench.reports.render.words import words
from rankbench.reports.sections.leaderboard import columns, told_apart
from rankbench.reports.stats.decision import ALPHA, LEVEL
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """The tables of the leaderboard by that loss; None where no run has measured it."""
    seen = study.by_loss
    if not seen.shown.groups:
        return None
    said = words("held_out", level=LEVEL, alpha=ALPHA, baseline=study.suite.baseline)
    table = columns(seen.shown.labels, seen.standings)
    return Section("Held-out loss", [said, table, *told_apart(seen, "told-apart-by-loss")])
