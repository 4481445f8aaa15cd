"""Our own extensions of ScaLoRA beside ScaLoRA itself: no paper claims them, so none gets a verdict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from rankbench.reports.claims.schema import Method
from rankbench.reports.frames import Group, Suite
from rankbench.reports.render.markdown import MISSING, Section, p_value, paragraphs, table
from rankbench.reports.stats.basis import Basis, basis
from rankbench.reports.stats.decision import ALPHA, Range, Tested, holm_of_both
from rankbench.reports.stats.evidence import Evidence, Unjudged, evidence

AUTO = {"smoothness": "auto"}
ORIGINAL = Method(name="scalora", adapter="scalora", unlike={**AUTO, "carry_moments": False})
OURS = (
    Method(name="scalora-nnls", adapter="scalora-nnls"),
    Method(name="scalora-auto", adapter="scalora", settings=AUTO),
)
WHAT = {
    "scalora-nnls": "the exact optimum of the column system under non-negativity, instead of its fallback",
    "scalora-auto": "the smoothness chosen at the first scaling, instead of by a sweep",
}
MARGIN = 0.01
"""Of a fraction: a point, as the papers' claims of "not below" have it."""

NOT_BELOW = Range(low=-MARGIN)
OUTCOMES = {"holds": "not below", "fails": "below", "open": "open"}

HOW_TO_READ = (
    "Not the papers', but ours: {methods}. Each beside `scalora` with the same settings otherwise, on paired "
    f"seeds and test items. “Not below” is the claim that it loses less than {100 * MARGIN:g} point, shown "
    f"where the one-sided p, Holm-adjusted over the rows, is below {ALPHA:.0%}; “below” is shown where that "
    f"of the opposite is; else “open”. Intervals are {1 - 2 * ALPHA:.0%}, each row's own. Tasks scored by an "
    "error show the ratio of the two; they have no points and are not tested."
)


class Row(NamedTuple):
    """One extension on one task."""

    method: str
    group: Group
    compared: Basis
    gain: float
    found: Evidence | Unjudged
    seeds: int


def extensions(suite: Suite) -> Section:
    """A row for each extension and task; nothing where none ran beside the original."""
    rows = [row for group in suite.groups for row in _rows(group)]
    if not rows:
        return Section("")
    tested = holm_of_both({i: test for i, row in enumerate(rows) if (test := _test(row))})
    cells = []
    for i, row in enumerate(rows):
        gain = row.compared.text(row.gain)
        if isinstance(row.found, Evidence):
            low, high = (float(end) for end in row.found.interval(1 - 2 * ALPHA))
            gain = row.compared.ranged(row.gain, low, high)
        test = tested.get(i)
        outcome = OUTCOMES[test.decision] if test else MISSING
        p = p_value(test.p_if_untrue if test else None)
        cells.append([row.method, row.group.name, gain, p, outcome, str(row.seeds)])
    named = "; ".join(
        f"`{name}`, {what}" for name, what in WHAT.items() if any(r.method == name for r in rows)
    )
    header = [
        "method",
        "task",
        f"gain over {ORIGINAL.name} [interval]",
        "p (Holm)",
        "one point margin",
        "seeds",
    ]
    text = HOW_TO_READ.format(methods=named)
    return Section(paragraphs("## Beyond the papers", text, table(header, cells, words=2)))


def _rows(group: Group) -> Iterator[Row]:
    compared = basis(group)
    for original, method in itertools.product(_labels(ORIGINAL, group, compared), OURS):
        for label in _labels(method, group, compared):
            if len(paired := compared.gains(label, original)):
                yield Row(method.name, group, compared, float(paired.mean()), evidence(paired), len(paired))


def _labels(method: Method, group: Group, compared: Basis) -> list[str]:
    return [label for label in compared.scores if method.fits(group.first(label).settings)]


def _test(row: Row) -> Tested | None:
    if isinstance(row.found, Evidence) and row.group.scale.percent:
        return NOT_BELOW.test(row.found)
    return None
