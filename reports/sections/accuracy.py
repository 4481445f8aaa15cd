"""Scores on the test splits: one table across tasks, one per task and protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rankbench.bench.records.schema import Scale
from rankbench.reports.frames import BASELINE, Group, Suite, in_order
from rankbench.reports.render.markdown import (
    MISSING,
    Section,
    counts,
    metric_name,
    paragraphs,
    plain,
    ranged,
    score,
    table,
)
from rankbench.reports.sections import gains
from rankbench.reports.stats.basis import basis
from rankbench.reports.stats.standing import ALPHA, LEVEL, Standing, standings, tell
from rankbench.reports.stats.summary import Spread, selection_score, spread

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


def leaderboard(suite: Suite) -> Section:
    """The main metric, adapters × tasks; the ranks of a sweep are rows of a table of their own."""
    if not suite.groups:
        return Section(paragraphs("## Leaderboard", "No finished runs."))
    order = "The main metric of the chosen weights (↑ larger is better, ↓ smaller)."
    order += " Rows are in no order of merit."
    parts = [
        _board([group for group in suite.groups if group.is_rank_sweep is swept]) for swept in (False, True)
    ]
    told = _told_apart([(group, standings(group)) for group in suite.groups])
    return Section(paragraphs("## Leaderboard", HOW_TO_READ, order, *parts, told))


def _board(groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    header = ["adapter", *(f"{group.name}: {_main_name(group)} {_arrow(group)}" for group in groups)]
    standing = [(group, standings(group)) for group in groups]
    rows = [
        [adapter, *(_standing(group, found.get(adapter)) for group, found in standing)]
        for adapter in in_order(adapter for group in groups for adapter in group.runs)
    ]
    return table(header, rows)


def _told_apart(standing: Sequence[tuple[Group, Mapping[str, Standing]]]) -> str:
    """What the columns tell in words, and those in which nothing was learned."""
    rows = [[group.name, *_told(group)] for group, found in standing if len(found) > 1 and group.baseline]
    alone = [group.name for group, found in standing if len(found) > 1 and not group.baseline]
    untaught = [group.name for group, found in standing if _is_untaught(group, found)]
    header = ["task", f"shown to beat {BASELINE}", "shown to lose to it", "not told from it (may differ by)"]
    said = (
        f"What the data tell of the methods beside {BASELINE}. In brackets, by how much (points, or a factor "
        "of errors) one may yet be better or worse: larger differences are excluded, with "
        f"{LEVEL:.0%} confidence for all methods of a task together."
    )
    parts = []
    if alone:
        parts.append(f"No {BASELINE} to compare with on {', '.join(alone)}; nothing is marked there.")
    if untaught:
        parts.append(f"No method is shown to beat a constant answer on {', '.join(untaught)}.")
    told = [said, table(header, rows, words=len(header))] if rows else []
    return paragraphs(*told, " ".join(parts))


def _told(group: Group) -> list[str]:
    compared = basis(group)
    told = tell(group, compared)
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


def _is_untaught(group: Group, found: Mapping[str, Standing]) -> bool:
    lows = [standing.low for standing in found.values() if standing.low is not None]
    return bool(lows) and group.constant_score is not None and max(lows) <= group.constant_score


def tasks(suite: Suite) -> Section:
    """Every metric of every task, with the gains over LoRA and its noise."""
    if not suite.groups:
        return Section("")
    parts = [part for group in suite.groups for part in (_protocol_note(group, suite), _task(group))]
    introduction = (
        "“Best” is the weights that the protocol's `selection_rule` chose (the last step, or the best "
        "observation on the selection split), “last” the end of training where that is another. Rows are "
        "sorted by the mean of the main metric at best. “Selection” is the score on the slice of the "
        "training data that choices are made on, at its best observation; test items choose nothing."
    )
    return Section(paragraphs("## Scores by task", introduction, gains.HOW_TO_READ, *parts))


def _task(group: Group) -> str:
    main = group.metric
    others = sorted({key for record in group.records for key in record.metrics.best} - {main})
    header = ["adapter"]
    header += [f"{metric_name(key, _scale(group, key))}, best" for key in (main, *others)]
    moved = any(record.metrics.last.get(main) != record.metrics.best.get(main) for record in group.records)
    header += [f"{_main_name(group)}, last"] if moved else []
    selected = any(selection_score(record) is not None for record in group.records)
    header += [_selection_name(group)] if selected else []
    header += ["trainable parameters", "of the adapter"]
    rows = []
    for adapter in _by_merit(group):
        records = group.runs[adapter].values()
        cells = [
            score(spread(_values(group, adapter, key).values()), _scale(group, key).percent)
            for key in (main, *others)
        ]
        if moved:
            last = spread(record.metrics.last[main] for record in records if main in record.metrics.last)
            cells.append(score(last, group.scale.percent))
        if selected:
            values = (selection_score(record) for record in records)
            chosen = spread(value for value in values if value is not None)
            cells.append(score(chosen, _selected_by(group)[1].percent))
        cells.append(counts([record.parameters.trainable for record in records]))
        cells.append(counts([record.parameters.adapter for record in records]))
        rows.append([adapter, *cells])
    constant = group.constant_score
    answer = "" if constant is None else f"A constant answer scores {plain(constant, group.scale.percent)}."
    return paragraphs(f"### {group.name}", table(header, rows), answer, gains.gains_over_baseline(group))


def _protocol_note(group: Group, suite: Suite) -> str:
    if group.letter != "A":
        return ""
    letters = [other.letter for other in suite.groups if other.task == group.task]
    fields = ", ".join(f"`{field}`" for field in group.differing)
    return (
        f"`{group.task}` was run under {len(letters)} protocols ({', '.join(letters)}) that differ in "
        f"{fields}."
    )


def _standing(group: Group, found: Standing | None) -> str:
    if found is None:
        return MISSING
    fraction = group.scale.percent
    text = plain(found.mean, fraction)
    if found.low is not None and found.high is not None:
        text = ranged(found.mean, found.low, found.high, fraction)
    return f"**{text}** ({found.n})" if found.beside == "above" else f"{text} ({found.n})"


def _by_merit(group: Group) -> list[str]:
    sign = 1 if group.lower_is_better else -1

    def merit(adapter: str) -> float:
        value = _main(group, adapter)
        return float("inf") if value is None else sign * value.mean

    return sorted(group.runs, key=merit)


def _main(group: Group, adapter: str) -> Spread | None:
    return spread(_values(group, adapter, group.metric).values())


def _values(group: Group, adapter: str, metric: str) -> dict[int, float]:
    runs = group.runs.get(adapter, {})
    return {seed: run.metrics.best[metric] for seed, run in runs.items() if metric in run.metrics.best}


def _scale(group: Group, metric: str) -> Scale:
    return next(record.metrics.scales[metric] for record in group.records if metric in record.metrics.scales)


def _selected_by(group: Group) -> tuple[str, Scale]:
    metrics = next(group.records).metrics
    return metrics.selection, metrics.scales[metrics.selection]


def _selection_name(group: Group) -> str:
    """Where models are selected by another metric than the main one, with its name."""
    name, scale = _selected_by(group)
    return "selection" if name == group.metric else f"selection: {metric_name(name, scale)}"


def _main_name(group: Group) -> str:
    return metric_name(group.metric, group.scale)


def _arrow(group: Group) -> str:
    return "↓" if group.lower_is_better else "↑"
