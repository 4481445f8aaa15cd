"""Two folders of results, the second judged against the first: did anything get worse?

Every quantity that the baseline holds must come back: a run that is missing, that failed or that was done
under another protocol keeps the gate shut, as does one that regressed (`reports.stats.gate`), and a kind
of quantity, the scores for instance, of which none could be judged: there anything would pass.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, get_args

from rankbench.bench.records import OverheadRecord, RunRecord
from rankbench.reports.compare.pair import Loss, Paired, pair
from rankbench.reports.compare.quantities import Kind, Quantity, costs_of, quantities
from rankbench.reports.frames import Suite, flatten
from rankbench.reports.stats.gate import Checked, Verdict, check_cells

Judgement: TypeAlias = Loss | Verdict

WORST_FIRST: tuple[Judgement, ...] = (
    "failed", "missing", "another protocol", "regressed",
    "inconclusive", "cannot be judged", "not inferior", "identical",
)  # fmt: skip
FAILING = WORST_FIRST[:4]
UNJUDGED: Verdict = "cannot be judged"


@dataclass(frozen=True)
class Finding:
    """What became of a quantity, or of runs that gave none."""

    verdict: Judgement
    place: str
    adapter: str
    what: str
    quantity: Quantity | None = None
    checked: Checked | None = None

    @property
    def fails(self) -> bool:
        """Whether the gate stays shut for it."""
        return self.verdict in FAILING

    @property
    def worse_by(self) -> float:
        """Mean change in margins, positive is worse; 0 for lost runs."""
        if self.quantity is None or self.checked is None or not self.quantity.change:
            return 0.0
        margin = self.checked.margin or self.quantity.cell.least_margin
        return -self.quantity.change / margin if margin else math.copysign(math.inf, -self.quantity.change)


@dataclass(frozen=True)
class Comparison:
    """All rows, the worst first, and what a reader of them should know."""

    rows: list[Finding]
    paired: Paired
    surroundings: dict[str, tuple[str, str]]
    """Fields of the provenance that differ: their values before and after. Where they do not of runs and
    measurements alike, it is said of which."""

    @property
    def regressed(self) -> bool:
        """Whether the gate stays shut: for a row, or because nobody could tell."""
        return any(row.fails for row in self.rows) or bool(self.unjudged)

    @property
    def unjudged(self) -> list[Kind]:
        """Kinds of quantities of which there are some, and none could be judged: costs, too, that were
        measured beside nothing that they could be divided by."""
        found: dict[Kind, set[Judgement]] = {kind: set() for kind in get_args(Kind)}
        for row in self.rows:
            if row.quantity:
                found[row.quantity.kind].add(row.verdict)
        costs = costs_of(self.paired)
        return [
            kind
            for kind, verdicts in found.items()
            if verdicts == {UNJUDGED} or (kind in costs and not verdicts)
        ]


def compare(baseline: Suite, candidate: Suite, only: str | None = None) -> Comparison:
    """Judge `candidate` against `baseline`, both narrowed by `only` (see `reports.compare.pair.pair`).

    Raises RecordError where that leaves nothing of the baseline.
    """
    paired = pair(baseline, candidate, only)
    surroundings = _surroundings(baseline, candidate)
    found = list(quantities(paired))
    rows = [Finding(one.how, one.place, one.adapter, one.why) for one in paired.lost]
    for each, checked in zip(found, check_cells([each.cell for each in found]), strict=True):
        rows.append(Finding(checked.verdict, each.place, each.adapter, each.name, each, checked))
    rows.sort(key=lambda row: (WORST_FIRST.index(row.verdict), -row.worse_by))
    return Comparison(rows, paired, surroundings)


def _surroundings(baseline: Suite, candidate: Suite) -> dict[str, tuple[str, str]]:
    kinds = {
        "runs": (_provenance(baseline.records), _provenance(candidate.records)),
        "measurements": (_provenance(baseline.overhead), _provenance(candidate.overhead)),
    }
    both = {kind: sides for kind, sides in kinds.items() if all(sides)}
    found: dict[str, tuple[str, str]] = {}
    for key in sorted({key for sides in both.values() for side in sides for key in side}):
        told = {
            kind: (before.get(key, "unknown"), after.get(key, "unknown"))
            for kind, (before, after) in both.items()
            if key in before or key in after
        }
        alike = len({*told.values()}) == 1
        for kind, values in told.items():
            if values[0] != values[1]:
                found[key if alike else f"{key} of {kind}"] = values
    return found


def _provenance(records: Iterable[RunRecord | OverheadRecord]) -> dict[str, str]:
    """Field -> its distinct values over all of these."""
    seen: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for key, value in flatten(record.provenance).items():
            seen[key].add(value)
    return {key: " and ".join(sorted(values)) for key, values in seen.items()}
