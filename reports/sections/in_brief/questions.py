"""The questions that a suite runs until decided: each answered in a line, with what decided it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.power import Needed, power
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.verdicts import DECIDED, JUDGED, link
from rankbench.reports.stats.decision import CONFIDENCE
from rankbench.reports.study import Study

MOST = 4
"""Pairs with open comparisons that a line names."""

Seeds = Mapping[tuple[str, str, str], int | None]
"""Claim, setting and methods -> how many seeds it would take; None: too many to count, or unknown."""

Named = Callable[[Claim], str]


def questions(study: Study, named: Named = link) -> Iterator[str]:
    """A line for each question that some claim answers here, and how much is decided; nothing where no claim
    is judged stage by stage. `named`: how a claim is called."""
    judged = [verdict for verdict in study.verdicts if verdict.outcome in JUDGED]
    if not any(verdict.plan for verdict in judged):
        return
    asked: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in judged:
        if verdict.claim.question:
            asked[verdict.claim.question].append(verdict)
    seeds = {(one.claim.id, one.where, one.methods): _least(one) for one in power(study)}
    for question, verdicts in asked.items():
        yield f"**{question}** {_answer(verdicts, seeds, named)}"
    yield _decided(judged)


def _least(needed: Needed) -> int | None:
    return min((found for found in (needed.to_decide, needed.to_equivalence) if found), default=None)


def _answer(verdicts: Sequence[Verdict], seeds: Seeds, named: Named) -> str:
    """In how many of its comparisons each outcome was reached; below, of each the one that is surest."""
    found: dict[Outcome, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        found[verdict.outcome].append(verdict)
    counts, told = [], []
    for outcome in JUDGED:
        if rows := found[outcome]:
            is_open = outcome is Outcome.UNDERPOWERED
            called = "open" if is_open else outcome.value
            shown = _left(rows, seeds) if is_open else _shown(min(rows, key=_doubt), named)
            several = len(rows) < len(verdicts)
            counts.append(f"{called} in {len(rows)} of {len(verdicts)}" if several else called)
            told.append(f"  - {f'{called}: ' if several else ''}{shown}")
    return "\n".join([f"{', '.join(counts)}.", *told])


def _doubt(verdict: Verdict) -> float:
    """The p-value that decided it; of what has no spread none."""
    p = {
        Outcome.REPRODUCED: verdict.p_if_untrue,
        Outcome.NOT_REPRODUCED: verdict.p_if_true,
        Outcome.EQUIVALENT: verdict.p_if_apart,
    }[verdict.outcome]
    return 0.0 if p is None else p


def _shown(verdict: Verdict, named: Named) -> str:
    """The claim, the setting, the figure with its interval and seeds, and when it was decided."""
    when = f", decided after {verdict.stage} seeds" if verdict.stage else ""
    later = f"; with later seeds {verdict.later}" if verdict.later else ""
    found = f": {verdict.found} {verdict.claim.unit}" if verdict.found else ""
    return f"{named(verdict.claim)}; {verdict.where}, {verdict.methods}{found}{when}{later}"


def _left(rows: Sequence[Verdict], seeds: Seeds) -> str:
    """The open comparisons, those first that would take the fewest seeds, pair by pair. Of several
    claims by one quantity that counts which would be decided first; what is alike is said once."""
    need = [(seeds.get((row.claim.id, row.where, row.methods)), row) for row in rows]
    need.sort(key=lambda each: (each[0] is None, each[0] or 0))
    taking: dict[str, dict[str, str]] = defaultdict(dict)
    unjudged: dict[str, None] = {}
    for count, row in need:
        pair = f"{row.where}, {row.methods}"
        if row.evidence is None:
            unjudged[f"{pair}: {row.reason or 'the spread over seeds is unknown'}"] = None
        else:
            taking[pair].setdefault(row.claim.measurement.replace("_", " "), _counted(count))
    every = [*(f"{pair}: would take {_by_count(counts)}" for pair, counts in taking.items()), *unjudged]
    more = f"{len(every) - MOST + 1} more pairs"
    return "; ".join(every if len(every) <= MOST else [*every[: MOST - 1], more])


def _counted(seeds: int | None) -> str:
    return f"{seeds} seeds" if seeds else "more seeds than can be counted on"


def _by_count(counts: Mapping[str, str]) -> str:
    """Quantity -> seeds, those quantities together that would take as many."""
    by: dict[str, list[str]] = defaultdict(list)
    for quantity, seeds in counts.items():
        by[seeds].append(quantity)
    return listed(f"{seeds} by {listed(quantities)}" for seeds, quantities in by.items())


def _decided(judged: Sequence[Verdict]) -> str:
    by_claim: dict[str, list[bool]] = defaultdict(list)
    for verdict in judged:
        by_claim[verdict.claim.id].append(verdict.outcome in DECIDED)
    return words(
        "in_brief",
        "decided",
        claims=len(by_claim),
        whole=sum(all(rows) for rows in by_claim.values()),
        rows=len(judged),
        decided=sum(verdict.outcome in DECIDED for verdict in judged),
        confidence=CONFIDENCE,
    )
