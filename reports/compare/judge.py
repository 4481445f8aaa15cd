"""Two folders of results, the second judged against the first: did anything get worse?

Every quantity that the baseline holds must come back: a run that is missing, that failed or that was done
under another protocol keeps the gate shut, as does one that regressed (`reports.stats.gate`), and a kind
of quantity, the scores for instance, of which none could be judged: there anything would pass.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TypeAlias, get_args

from rankbench.reports.compare.pair import Loss, Paired, pair
from rankbench.reports.compare.quantities import Kind, Quantity, quantities
from rankbench.reports.frames import Suite, flatten
from rankbench.reports.stats.gate import Checked, Verdict, check_cells

Judgement: TypeAlias = Loss | Verdict

WORST_FIRST: tuple[Judgement, ...] = (
    "failed", "missing", "another protocol", "regressed",
    "inconclusive", "cannot be judged", "not inferior", "identical",
)  # fmt: skip
FAILING = WORST_FIRST[:4]
UNJUDGED: Verdict = "cannot be judged"
MACHINE = ("processor", "cores", "threads", "device")


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
    """Fields of the provenance that differ: their values before and after."""

    @property
    def regressed(self) -> bool:
        """Whether the gate stays shut: for a row, or because nobody could tell."""
        return any(row.fails for row in self.rows) or bool(self.unjudged)

    @property
    def unjudged(self) -> list[Kind]:
        """Kinds of quantities of which there are some, and none could be judged."""
        return [
            kind
            for kind in get_args(Kind)
            if {row.verdict for row in self.rows if row.quantity and row.quantity.kind == kind} == {UNJUDGED}
        ]


def compare(baseline: Suite, candidate: Suite, only: str | None = None) -> Comparison:
    """Judge `candidate` against `baseline`, both narrowed by `only` (see `reports.compare.pair.pair`).

    Raises RecordError where that leaves nothing of the baseline.
    """
    paired = pair(baseline, candidate, only)
    surroundings = _surroundings(baseline, candidate)
    found = list(quantities(paired, elsewhere=not surroundings.keys().isdisjoint(MACHINE)))
    rows = [Finding(one.how, one.place, one.adapter, one.why) for one in paired.lost]
    for each, checked in zip(found, check_cells([each.cell for each in found]), strict=True):
        rows.append(Finding(checked.verdict, each.place, each.adapter, each.name, each, checked))
    rows.sort(key=lambda row: (WORST_FIRST.index(row.verdict), -row.worse_by))
    return Comparison(rows, paired, surroundings)


def _surroundings(baseline: Suite, candidate: Suite) -> dict[str, tuple[str, str]]:
    before, after = _provenance(baseline), _provenance(candidate)
    return {
        key: (before.get(key, "unknown"), after.get(key, "unknown"))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }


def _provenance(suite: Suite) -> dict[str, str]:
    """Field -> its distinct values over all records."""
    seen: dict[str, set[str]] = defaultdict(set)
    for block in [run.provenance for run in suite.records] + [one.provenance for one in suite.overhead]:
        for key, value in flatten(block).items():
            seen[key].add(value)
    return {key: " and ".join(sorted(values)) for key, values in seen.items()}
