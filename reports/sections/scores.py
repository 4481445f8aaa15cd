"""Scores on the test splits, task by task, and what each method gains over the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rankbench.bench.records import RunRecord, Scale
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Block, Folded, Section, Table
from rankbench.reports.render.markdown import counts, metric_name, plain, score
from rankbench.reports.render.words import words
from rankbench.reports.sections.gains import gains
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.summary import selection_score, spread
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """Every metric of every task, with the gains over the baseline and its noise."""
    groups = study.shown.groups
    how = words("scores", "gains", baseline=study.suite.baseline, level=LEVEL)
    parts: list[Block] = [words("scores"), Folded("How gains are judged", [how])]
    for group in groups:
        if group.letter == "A":
            parts.append(_protocols([each for each in groups if each.task == group.task]))
        told: list[Block] = [_table(group)]
        if (constant := group.constant_score) is not None:
            told.append(f"A constant answer scores {plain(constant, group.scale.percent)}.")
        parts.append(Section(group.name, [*told, *gains(study, group)]))
    return Section("Scores by task", parts) if groups else None


def _protocols(groups: list[Group]) -> str:
    letters = ", ".join(group.letter for group in groups)
    fields = ", ".join(f"`{field}`" for field in groups[0].differing)
    return f"`{groups[0].task}` was run under {len(groups)} protocols ({letters}) that differ in {fields}."


def _table(group: Group) -> Table:
    main = group.metric
    metrics = [main, *sorted({key for record in group.records for key in record.metrics.best} - {main})]
    moved = any(record.metrics.last.get(main) != record.metrics.best.get(main) for record in group.records)
    selected = any(selection_score(record) is not None for record in group.records)

    def cells(runs: list[RunRecord]) -> Iterator[str]:
        for key in metrics:
            yield _score([run.metrics.best.get(key) for run in runs], _scale(group, key))
        if moved:
            yield _score([run.metrics.last.get(main) for run in runs], group.scale)
        if selected:
            yield _score(map(selection_score, runs), _scale(group, _selection(group)))
        yield counts([run.parameters.trainable for run in runs])
        yield counts([run.parameters.adapter for run in runs])

    header = ["adapter", *(f"{_named(group, key)}, best" for key in metrics)]
    header += [f"{_named(group, main)}, last"] if moved else []
    header += [_selection_name(group)] if selected else []
    header += ["trainable parameters", "of the adapter"]
    return Table(header, [[label, *cells([*group.runs[label].values()])] for label in _by_merit(group)])


def _by_merit(group: Group) -> list[str]:
    sign = 1 if group.lower_is_better else -1

    def merit(label: str) -> float:
        runs = group.runs[label].values()
        value = spread(run.metrics.best[group.metric] for run in runs if group.metric in run.metrics.best)
        return sign * value.mean if value else float("inf")

    return sorted(group.runs, key=merit)


def _score(values: Iterable[float | None], scale: Scale) -> str:
    return score(spread(value for value in values if value is not None), scale.percent)


def _scale(group: Group, metric: str) -> Scale:
    return next(run.metrics.scales[metric] for run in group.records if metric in run.metrics.scales)


def _named(group: Group, metric: str) -> str:
    return metric_name(metric, _scale(group, metric))


def _selection(group: Group) -> str:
    """The metric that models are selected by."""
    return next(group.records).metrics.selection


def _selection_name(group: Group) -> str:
    """With the metric's name where it is not the main one."""
    chosen_by = _selection(group)
    return "selection" if chosen_by == group.metric else f"selection: {_named(group, chosen_by)}"
