"""What our records say of the papers' claims, in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rankbench.reports.claims.judge import Verdict, ran_and_absent
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.render.blocks import Block, Section, Table, Widget
from rankbench.reports.render.markdown import MISSING, p_value
from rankbench.reports.stats.decision import ALPHA, CONFIDENCE
from rankbench.reports.study import Study

NOTE = (
    "Judged on the runs of this suite, on the task and model that each row names: what these runs show "
    "of a paper's sentence, never of its figures, which stand beside ours below. Differences are taken "
    "seed by seed; those of scores also item by item, so that they speak of new seeds and new test "
    "items (“3 × 400”: seeds × items; “3”: seeds alone, the items held fixed, or processes of a cost); "
    "losses, times and memory as ratios, by their logarithms (geometric means), errors as doublings. Two "
    "one-sided tests decide each row: “p for” is the probability of data that speak so much for the "
    "claim, were it untrue, and “p against” that of data that speak so much against it, were it true. "
    f"The first below {ALPHA:.0%}: "
    "REPRODUCED; the second: NOT REPRODUCED; neither: UNDERPOWERED. That means too few seeds or items, "
    "or, where a claim asks for a gain, that there is none: no number of seeds tells no gain from a "
    f"tiny one. Both p are Holm-adjusted over the rows of a claim, so that in {1 - ALPHA:.0%} of such "
    "reports none of a claim's rows is REPRODUCED wrongly; over claims nothing is adjusted. Intervals "
    f"are {CONFIDENCE:.0%} and each row's own: one that clears the bound may still fall to the "
    "correction. What has no spread (counts, “all alike” over the seeds) is "
    "compared as it is, without p. Own settings: hyperparameters that two methods do not share, each by "
    "its own sweep."
)


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a verdict, with the numbers that decide it."""
    header = [
        "claim",
        "verdict",
        "task",
        "model",
        "methods",
        "measured [interval] (n)",
        "claim holds if",
        "p for",
        "p against",
        "note",
    ]
    rows = [
        [
            verdict.claim.id,
            verdict.outcome.value,
            verdict.where or MISSING,
            verdict.model or MISSING,
            verdict.methods or MISSING,
            str(verdict.found) if verdict.found else MISSING,
            f"{verdict.claim.acceptance} {verdict.claim.unit}",
            p_value(verdict.p_if_untrue),
            p_value(verdict.p_if_true),
            verdict.reason or MISSING,
        ]
        for verdict in verdicts
    ]
    return Table(header, rows, words=len(header))


def summary_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a claim: in how many settings each verdict was reached."""
    judged = [Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.UNDERPOWERED]
    rows: list[list[str]] = []
    for claim in dict.fromkeys(verdict.claim.id for verdict in verdicts):
        counts = Counter(verdict.outcome for verdict in verdicts if verdict.claim.id == claim)
        reached = [outcome for outcome in judged if counts[outcome]] or list(counts)
        overall = reached[0].value if len(reached) == 1 else _mixed(counts)
        rows.append([claim, overall, *(str(counts[outcome] or MISSING) for outcome in Outcome)])
    return Table(["claim", "over the settings", *(outcome.value for outcome in Outcome)], rows, words=2)


def _mixed(counts: Counter[Outcome]) -> str:
    """In how many of the judged settings a claim held, and failed; the others leave it open."""
    judged = counts[Outcome.REPRODUCED] + counts[Outcome.NOT_REPRODUCED] + counts[Outcome.UNDERPOWERED]
    found = [outcome for outcome in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED) if counts[outcome]]
    return f"{', '.join(f'{outcome.value} in {counts[outcome]}' for outcome in found)} of {judged}"


def section(study: Study) -> Section | None:
    """The claims in words, and the verdicts."""
    if not study.judges_papers:
        return None
    ran, absent = ran_and_absent(study.verdicts)
    not_run = [_not_run(absent)] if absent else []
    if not ran:
        return Section("Do the papers hold?", not_run)
    claims = {verdict.claim.id: verdict.claim for verdict in ran}.values()
    sentences = [[c.id, c.paper, c.sentence, f"{c.source} ({c.hand}-hand)", c.why] for c in claims]
    parts: list[Block] = [
        "Each claim over the settings in which it was judged:",
        summary_table(ran),
        *not_run,
        NOTE,
        Widget("verdicts.html", {"verdicts": ran}, [verdict_table(ran)]),
        Table(["claim", "arXiv", "in our words", "source", "why this tolerance"], sentences, words=5),
    ]
    return Section("Do the papers hold?", parts)


def _not_run(absent: Sequence[Verdict]) -> str:
    """One line for all claims that say nothing here."""
    by_reason: dict[str, list[str]] = {}
    for verdict in absent:
        by_reason.setdefault(verdict.reason, []).append(verdict.claim.id)
    told = (f"{', '.join(ids)} ({reason})" for reason, ids in by_reason.items())
    return f"{Outcome.NOT_RUN.value} here: {'; '.join(told)}." if absent else ""
