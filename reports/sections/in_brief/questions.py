"""The questions that a suite runs until decided: each answered in a line, with what decided it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.power import Needed, power
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.verdicts import DECIDED, JUDGED, beside, link
from rankbench.reports.study import Study

MOST = 4
"""Pairs with open comparisons that are named."""

Open = Mapping[tuple[str, str, str], Needed]
"""Claim, setting and methods -> the seeds that it would take."""

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
    needed = {(one.claim.id, one.where, one.methods): one for one in power(study)}
    for question, verdicts in asked.items():
        yield f"**{question}** {_answer(verdicts, needed, named)}"
    yield _decided(judged)


def _answer(verdicts: Sequence[Verdict], needed: Open, named: Named) -> str:
    """In how many of its comparisons each outcome was reached, and where; below, of each the one that is
    surest, and of those that are open each pair."""
    found: dict[Outcome, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        found[verdict.outcome].append(verdict)
    counts, told = [], []
    for outcome in JUDGED:
        if rows := found[outcome]:
            is_open = outcome is Outcome.UNDERPOWERED
            called = "open" if is_open else outcome.value
            shown = _left(rows, needed) if is_open else [_shown(min(rows, key=_doubt), named)]
            counts.append(f"{called}{_part(rows, verdicts)}")
            lead = f"{called}: " if len(rows) < len(verdicts) else ""
            told += [f"  - {lead}{each}" for each in shown]
    return "\n".join([f"{', '.join(counts)}.", *told])


def _part(rows: Sequence[Verdict], verdicts: Sequence[Verdict]) -> str:
    """How many of the comparisons they are, and where, if not everywhere."""
    places = dict.fromkeys(row.where for row in rows)
    where = f" ({listed(places)})" if places.keys() < {verdict.where for verdict in verdicts} else ""
    return f" in {len(rows)} of {len(verdicts)}{where}" if len(rows) < len(verdicts) else ""


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
    found = f": {verdict.found} {verdict.claim.unit}" if verdict.found else ""
    return f"{named(verdict.claim)}; {verdict.where}, {verdict.methods}{found}{when}{beside(verdict)}"


def _left(rows: Sequence[Verdict], needed: Open) -> list[str]:
    """The open comparisons, those first that would take the fewest seeds, pair by pair: what each quantity is
    so far, and the seeds until it is decided. Of several claims by one quantity that stands which would be
    decided first; what is alike is said once."""
    need = [(*_fewest(needed.get((row.claim.id, row.where, row.methods))), row) for row in rows]
    need.sort(key=lambda each: (each[0] is None, each[0] or 0))
    taking: dict[str, dict[str, str]] = defaultdict(dict)
    unjudged: dict[str, None] = {}
    for count, towards, row in need:
        pair = f"{row.where}, {row.methods}"
        if row.evidence is None:
            unjudged[f"{pair}: {row.reason or 'the spread over seeds is unknown'}"] = None
        else:
            quantity = row.claim.measurement.replace("_", " ")
            told = f"{quantity} {row.found} {row.claim.unit}, would take {_seeds(count, row)}{towards}"
            taking[pair].setdefault(quantity, told)
    every = [*(f"{pair}: {'; '.join(told.values())}" for pair, told in taking.items()), *unjudged]
    return every if len(every) <= MOST else [*every[: MOST - 1], f"{len(every) - MOST + 1} more pairs"]


def _fewest(needed: Needed | None) -> tuple[int | None, str]:
    """Seeds until it is decided in some way, if they can be counted, and in which where that is said."""
    if needed is None:
        return None, ""
    ways = [(needed.to_decide, ""), (needed.to_equivalence, f" for {Outcome.EQUIVALENT.value}")]
    return min(((seeds, towards) for seeds, towards in ways if seeds), default=(None, ""))


def _seeds(count: int | None, row: Verdict) -> str:
    """And how many are run at most, where that is fewer."""
    if count is None:
        return "more seeds than can be counted on"
    most = row.plan[-1] if row.plan else count
    return f"{count} seeds" + (f" (of {most} at most)" if most < count else "")


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
    )
