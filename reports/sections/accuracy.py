"""Scores on the test splits, task by task."""

from __future__ import annotations

from rankbench.bench.records.schema import Scale
from rankbench.reports.frames import Group, Suite
from rankbench.reports.render.markdown import (
    Section,
    counts,
    metric_name,
    paragraphs,
    plain,
    score,
    table,
)
from rankbench.reports.sections import gains
from rankbench.reports.stats.summary import Spread, selection_score, spread


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
