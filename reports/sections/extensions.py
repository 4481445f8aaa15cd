"""Our own extensions of ScaLoRA beside ScaLoRA itself: no paper claims them, so none gets a verdict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from rankbench.reports.claims.schema import Method
from rankbench.reports.frames import Group
from rankbench.reports.frames.contender import Contender
from rankbench.reports.render.blocks import Folded, Section, Table
from rankbench.reports.render.numbers import MISSING, p_value
from rankbench.reports.render.words import words
from rankbench.reports.stats.decision import ALPHA, CONFIDENCE, Range, Tested, holm_of_both
from rankbench.reports.stats.evidence import Evidence, Unjudged
from rankbench.reports.stats.sequential import judged
from rankbench.reports.stats.standing import Basis
from rankbench.reports.study import Study

AUTO = {"smoothness": "auto"}
ORIGINAL = Method(name="scalora", adapter="scalora", unlike={**AUTO, "carry_moments": False})
OURS = (
    Method(name="scalora-nnls", adapter="scalora-nnls"),
    Method(name="scalora-auto", adapter="scalora", settings=AUTO),
)
CHOSEN = {"learning_rate", "smoothness"}
"""By trials, or a sweep."""
WHAT = {
    "scalora-nnls": "the exact optimum of the column system under non-negativity, instead of its fallback",
    "scalora-auto": "the smoothness chosen at the first scaling, instead of by a sweep",
}
MARGIN = 0.01
"""Of a fraction: a point, as the papers' claims of "not below" have it."""
NOT_BELOW = Range(low=-MARGIN)
OUTCOMES = {"holds": "not below", "fails": "below", "open": "open"}
GAIN = f"gain over {ORIGINAL.name} [interval]"
HEADER = ["method", "task", GAIN, "p (Holm)", "one point margin", "seeds"]


class Row(NamedTuple):
    """One extension on one task."""

    method: str
    labels: str
    """The method, or the two entries where there are several of either."""
    group: Group
    compared: Basis
    gain: float
    found: Evidence | Unjudged
    seeds: int


def section(study: Study) -> Section | None:
    """A row for each extension and task; nothing where none ran beside the original."""
    rows = [row for group in study.shown.groups for row in _rows(group, study.bases[group])]
    tested = holm_of_both({i: test for i, row in enumerate(rows) if (test := _test(row))})
    cells = []
    for i, row in enumerate(rows):
        test = tested.get(i)
        told = [p_value(test.p_if_untrue), OUTCOMES[test.decision]] if test else [MISSING, MISSING]
        cells.append(
            [
                row.labels,
                row.group.name,
                _gain(row),
                *told,
                str(row.seeds),
            ]
        )
    tried = {row.method for row in rows}
    methods = "; ".join(f"`{name}`, {what}" for name, what in WHAT.items() if name in tried)
    how = words("extensions", "how", margin=100 * MARGIN, alpha=ALPHA, level=CONFIDENCE)
    said, judged_how = words("extensions", methods=methods), Folded("How this is judged", [how])
    return Section("Beyond the papers", [said, judged_how, Table(HEADER, cells, words=2)]) if rows else None


def _rows(group: Group, compared: Basis) -> Iterator[Row]:
    originals = _labels(ORIGINAL, group, compared)
    for method in OURS:
        labels = _labels(method, group, compared)
        for original, label in itertools.product(originals, labels):
            both_tuned = {label, original} <= group.tuned
            if not _alike(group.contenders[label], group.contenders[original], method, both_tuned):
                continue
            if len(paired := compared.gains(label, original)):
                found = judged(paired, compared.plan)
                one_each = len(originals) == len(labels) == 1
                named = method.name if one_each else f"{label} beside {original}"
                yield Row(method.name, named, group, compared, float(paired.mean()), found, len(paired))


def _alike(one: Contender, original: Contender, method: Method, both_tuned: bool) -> bool:
    """Whether they differ in the extension alone, and in what was chosen for each of them."""
    chosen = CHOSEN if both_tuned else set[str]()
    free = {"name", *method.settings, *chosen}
    ours, theirs = one.given, original.given
    return all(ours[key] == theirs[key] for key in ours.keys() & theirs.keys() - free)


def _gain(row: Row) -> str:
    told = row.compared.judged(row.found, row.gain, CONFIDENCE)
    return f"÷ {told}" if row.compared.is_ratio else told


def _labels(method: Method, group: Group, compared: Basis) -> list[str]:
    return [label for label in compared.scores if method.fits(group.contenders[label].given)]


def _test(row: Row) -> Tested | None:
    if isinstance(row.found, Evidence) and row.group.scale.percent:
        return NOT_BELOW.test(row.found)
    return None
