"""What our records say of the papers' claims: a sentence, a picture and the numbers of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rankbench.reports.claims.judge import Verdict, ran_and_absent
from rankbench.reports.claims.power import BEYOND, FUTILE, asked, seeds_needed
from rankbench.reports.claims.schema import OURS, Claim, Outcome
from rankbench.reports.render.blocks import Block, Folded, Picture, Section, Table
from rankbench.reports.render.numbers import MISSING, number, p_value
from rankbench.reports.render.words import listed, words
from rankbench.reports.sections.verdicts.forest import forest
from rankbench.reports.stats.decision import ALPHA, CONFIDENCE, POWER
from rankbench.reports.study import Study

DECIDED = (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.EQUIVALENT)
JUDGED = (*DECIDED, Outcome.UNDERPOWERED)


def section(study: Study) -> Section | None:
    """The claims in words, drawn, and the verdicts; those that nothing is judged of in a line each."""
    ran, absent = ran_and_absent(study.verdicts)
    tested = judged(ran)
    apart = [_apart(rows) for rows in _by_claim(ran) if rows not in tested]
    parts: list[Block] = []
    if tested:
        judging = Folded("How this is judged", [*_how_judged(tested)])
        parts += [words("verdicts"), judging, summary_table(tested)]
    parts += _listed("Not judged, as the runs are of another protocol", apart)
    if study.judges_papers:
        missing = [f"{row.claim.sentence} ({row.reason}) {_cited(row.claim)}" for row in absent]
        parts += _listed("Not run here", missing)
    else:
        parts.append(words("verdicts", "one_seed_beside_costs" if tested else "one_seed"))
        parts += _listed("Not judged", [f"{row.claim.sentence} {_cited(row.claim)}" for row in absent])
    return Section("Do the papers hold?", [*parts, *(_claim(rows) for rows in tested)])


def _how_judged(claims: Sequence[Sequence[Verdict]]) -> Iterator[str]:
    """Of margins and stages only where there are some."""
    said = {"alpha": ALPHA, "sure": 1 - ALPHA, "confidence": CONFIDENCE, "power": POWER}
    yield words("verdicts", "judged", **said)
    rows = [row for rows in claims for row in rows]
    if any(row.claim.margin for row in rows):
        yield words("verdicts", "margin", **said)
    if plans := sorted({row.plan for row in rows if row.plan}):
        told = listed(f"after {listed(map(str, plan))} seeds" for plan in plans)
        yield words("verdicts", "stages", plans=told, futile=FUTILE, **said)


def judged(verdicts: Iterable[Verdict]) -> list[list[Verdict]]:
    """The verdicts of each claim that is judged in some setting."""
    return [rows for rows in _by_claim(verdicts) if any(row.outcome in JUDGED for row in rows)]


def _by_claim(verdicts: Iterable[Verdict]) -> list[list[Verdict]]:
    return [list(rows) for _, rows in groupby(verdicts, lambda verdict: verdict.claim.id)]


def link(claim: Claim) -> str:
    """The claim's sentence, which leads to its evidence."""
    return f"[{title(claim)}](#claim-{claim.id})"


def summary_table(claims: Sequence[Sequence[Verdict]]) -> Table:
    """One row a claim: in how many settings each verdict was reached."""
    seen = {verdict.outcome for verdicts in claims for verdict in verdicts}
    shown = [one for one in Outcome if one is not Outcome.EQUIVALENT or one in seen]
    rows = []
    for verdicts in claims:
        counts = Counter(verdict.outcome for verdict in verdicts)
        cells = [str(counts[outcome] or MISSING) for outcome in shown]
        rows.append([link(verdicts[0].claim), overall(verdicts), *cells])
    header = ["claim", "over the settings", *(outcome.value for outcome in shown)]
    return Table(header, rows, words=2, choose=["over the settings"])


def overall(verdicts: Sequence[Verdict]) -> str:
    """The one verdict of all judged settings, or in how many of them the claim held and failed."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    reached = [outcome for outcome in JUDGED if counts[outcome]] or list(counts)
    if len(reached) == 1:
        return reached[0].value
    judged = sum(counts[outcome] for outcome in JUDGED)
    told = (f"{outcome.value} in {counts[outcome]}" for outcome in DECIDED if counts[outcome])
    return f"{', '.join(told)} of {judged}"


def _claim(verdicts: Sequence[Verdict]) -> Section:
    """The verdict and the bound in words, the picture, and the numbers."""
    claim = verdicts[0].claim
    found = f"**{overall(verdicts)}.** Holds if {claim.acceptance} {claim.unit}."
    if claim.alike:
        found += f" Equivalent if {claim.alike} {claim.unit}."
    parts: list[Block] = [found]
    if figure := forest(verdicts):
        caption = words("verdicts", "caption", confidence=CONFIDENCE)
        parts.append(Picture(f"claim--{claim.id}", title(claim), caption, figure))
    return Section(
        title(claim),
        [*parts, Folded("The numbers and the source", [_table(verdicts), _source(claim)])],
        f"claim-{claim.id}",
    )


def _table(verdicts: Sequence[Verdict]) -> Table:
    """One row a setting, with the numbers that decide it; columns of margin and stages where they are."""
    has_margin, has_stages = verdicts[0].claim.margin, any(verdict.plan for verdict in verdicts)
    rows = [
        [
            verdict.outcome.value,
            verdict.where,
            verdict.model or MISSING,
            verdict.methods or MISSING,
            verdict.reason or MISSING,
            _found(verdict) or MISSING,
            p_value(verdict.p_if_untrue),
            p_value(verdict.p_if_true),
            *([p_value(verdict.p_if_apart)] if has_margin else []),
            *([_decided_after(verdict), _needed(verdict, verdicts)] if has_stages else []),
        ]
        for verdict in verdicts
    ]
    header = ["verdict", "task", "model", "methods", "note", "measured [interval] (n)", "p for", "p against"]
    header += ["p for equivalence"] if has_margin else []
    header += ["decided after (seeds)", "would take"] if has_stages else []
    return Table(header, rows, words=5)


def _found(verdict: Verdict) -> str:
    """What was found when it was decided, and what is to be known beside it; empty where nothing was."""
    return f"{verdict.found}{beside(verdict)}" if verdict.found else ""


def beside(verdict: Verdict) -> str:
    """What the seeds of later stages say, and the plain means where these say the contrary."""
    told = f"; with later seeds {verdict.later}" if verdict.later else ""
    if verdict.is_contradicted and verdict.by_means is not None:
        told += (
            f"; but {number(verdict.by_means)} by the plain means, in which a few seeds far off weigh more"
        )
    return told


def _decided_after(verdict: Verdict) -> str:
    """The stage, of the most seeds that may be run."""
    return f"{verdict.stage} of {verdict.plan[-1]}" if verdict.stage else MISSING


def _needed(verdict: Verdict, verdicts: Sequence[Verdict]) -> str:
    """Seeds that an open claim would take."""
    if verdict.outcome is not Outcome.UNDERPOWERED or verdict.evidence is None:
        return MISSING
    decided, alike = seeds_needed(asked(verdict, verdicts))
    told = [f"{decided}"] if decided else []
    told += [f"{alike} to EQUIVALENT"] if alike else []
    return ", ".join(told) or f"over {BEYOND * verdict.plan[-1]}"


def _apart(verdicts: Sequence[Verdict]) -> str:
    """A claim of which nothing is judged: what was measured for each reason why."""
    claim = verdicts[0].claim
    reasons: dict[str, list[str]] = {}
    for verdict in verdicts:
        reasons.setdefault(verdict.reason, []).append(_measured(verdict))
    told = [f"{reason} ({'; '.join(measured)})" for reason, measured in reasons.items()]
    return f"{claim.sentence} Asked for: {claim.acceptance} {claim.unit}. {'. '.join(told)}. {_source(claim)}"


def _measured(verdict: Verdict) -> str:
    where = ", ".join(filter(None, (verdict.where, verdict.model, verdict.methods)))
    return f"{where}: {verdict.found}" if verdict.found else where


def _listed(summary: str, lines: Sequence[str]) -> Iterator[Folded]:
    """A fold of a line each."""
    if lines:
        yield Folded(f"{summary}: {len(lines)}", ["\n".join(f"- {line}" for line in lines)])


def _source(claim: Claim) -> str:
    return f"{_cited(claim)} Why this bound: {claim.why}."


def _cited(claim: Claim) -> str:
    if claim.paper == OURS:
        return f"Our question: {claim.source}."
    return f"arXiv {claim.paper}: {claim.source} ({claim.hand}-hand)."


def title(claim: Claim) -> str:
    """The claim's sentence, as a heading has it."""
    return claim.sentence.removesuffix(".")
