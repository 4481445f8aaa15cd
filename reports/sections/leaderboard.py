"""The main score of every adapter on every task, and what the data tell of it beside the baseline's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rankbench.reports.frames import BASELINE, Group, in_order
from rankbench.reports.render.blocks import Block, Section, Table, Widget
from rankbench.reports.render.markdown import MISSING, plain, ranged
from rankbench.reports.sections import board
from rankbench.reports.stats.decision import ALPHA, LEVEL
from rankbench.reports.stats.standing import Standing
from rankbench.reports.study import Study

HOW_TO_READ = (
    f"Each cell is the mean over seeds, its {LEVEL:.0%} interval and the number of seeds, on the test split; "
    "“–” means that nothing was measured; there is no interval where the spread is unknown, or where it "
    "would span all that the metric can be. Intervals speak of new seeds and, "
    "where the runs left their predictions, of new test items. Values marked ×100 are fractions in the "
    f"records. **Bold**: shown to beat {BASELINE} by paired tests at {ALPHA:.0%}, Holm-adjusted over the "
    "methods of the column. Not told apart is the usual state and has no mark; how far such methods may yet "
    f"be from {BASELINE} is said below. No average rank is given. Overlapping intervals say "
    "little of a paired difference: see the gains under each task."
)
ORDER = (
    "The main metric of the chosen weights (↑ larger is better, ↓ smaller). Rows are in no order of merit."
)


def section(study: Study) -> Section:
    """The main metric, adapters × tasks; the ranks of a sweep are rows of a table of their own."""
    groups = study.shown.groups
    if not groups:
        return Section("Leaderboard", ["No finished runs."])
    parts: list[Block] = [HOW_TO_READ, ORDER]
    for swept in (False, True):
        parts += _board(study, [group for group in groups if group.is_rank_sweep is swept])
    places = board.places(study)
    return Section(
        "Leaderboard",
        [*parts, *_told_apart(study), Widget("board.html", {"places": places, "level": f"{LEVEL:.0%}"})],
    )


def _board(study: Study, groups: Sequence[Group]) -> Iterable[Table]:
    if groups:
        yield Table(
            ["adapter", *(f"{group.name}: {board.unit(group).name}" for group in groups)],
            [
                [adapter, *(_standing(group, study.standings[group].get(adapter)) for group in groups)]
                for adapter in in_order(adapter for group in groups for adapter in group.runs)
            ],
        )


def _told_apart(study: Study) -> Iterable[Block]:
    """What the columns tell in words, and those in which nothing was learned."""
    several = [group for group in study.shown.groups if len(study.standings[group]) > 1]
    if rows := [[group.name, *_told(study, group)] for group in several if group.baseline]:
        yield (
            f"What the data tell of the methods beside {BASELINE}. In brackets, by how much (points, or a "
            "factor of errors) one may yet be better or worse: larger differences are excluded, with "
            f"{LEVEL:.0%} confidence for all methods of a task together."
        )
        header = ["task", f"shown to beat {BASELINE}", "shown to lose to it"]
        yield Table([*header, "not told from it (may differ by)"], rows, words=4)
    if alone := [group.name for group in several if not group.baseline]:
        yield f"No {BASELINE} to compare with on {', '.join(alone)}; nothing is marked there."
    untaught = [
        group.name for group in study.shown.groups if _is_untaught(group, study.standings[group].values())
    ]
    if untaught:
        yield f"No method is shown to beat a constant answer on {', '.join(untaught)}."


def _told(study: Study, group: Group) -> list[str]:
    told, compared = study.told[group], study.bases[group]
    low, high = group.scale.low, group.scale.high
    widest = math.inf if low is None or high is None else high - low
    left = [
        f"{label} ({'anything' if size >= widest else compared.size(size)})"
        for label, size in told.open.items()
    ]
    alike: dict[str, list[str]] = {}
    for label, reason in told.unjudged.items():
        alike.setdefault(reason, []).append(label)
    unknown = [f"{', '.join(labels)} (unknown: {reason})" for reason, labels in alike.items()]
    cells = [
        ", ".join(told.above),
        ", ".join(told.below),
        "; ".join(filter(None, [", ".join(left), *unknown])),
    ]
    return [cell or MISSING for cell in cells]


def _is_untaught(group: Group, found: Iterable[Standing]) -> bool:
    lows = [standing.low for standing in found if standing.low is not None]
    return bool(lows) and group.constant_score is not None and max(lows) <= group.constant_score


def _standing(group: Group, found: Standing | None) -> str:
    if found is None:
        return MISSING
    fraction = group.scale.percent
    text = plain(found.mean, fraction)
    if found.low is not None and found.high is not None:
        text = ranged(found.mean, found.low, found.high, fraction)
    return f"**{text}** ({found.n})" if found.beside == "above" else f"{text} ({found.n})"
