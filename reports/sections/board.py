"""The leaderboard a row at a time: one adapter on one task, its interval, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rankbench.bench.records.schema import Scale
from rankbench.reports.frames import Group
from rankbench.reports.render.markdown import MISSING, counts, metric_name, plain
from rankbench.reports.stats.standing import Standing
from rankbench.reports.study import Study


@dataclass(frozen=True)
class Unit:
    """How a task's main metric is printed."""

    metric: str
    scale: Scale

    @property
    def name(self) -> str:
        """The metric, how it was scaled, and which way is better."""
        return f"{metric_name(self.metric, self.scale)} {'↓' if self.scale.lower_is_better else '↑'}"

    def text(self, value: float | None) -> str:
        """A value as the report prints it."""
        return MISSING if value is None else plain(value, self.scale.percent)

    def shown(self, value: float) -> float:
        """A value in the unit that it is shown in."""
        return 100 * value if self.scale.percent else value


@dataclass(frozen=True)
class Place:
    """One row."""

    task: str
    adapter: str
    unit: Unit
    standing: Standing
    parameters: str
    """Trainable ones."""
    step: float | None
    """Over the baseline's, measured side by side; None where it was not."""
    spot: tuple[float, float, float] | None
    """Low, mean and high in percent of the range that the task's rows take."""

    @property
    def interval(self) -> str:
        """Its two ends."""
        low, high = self.standing.low, self.standing.high
        return MISSING if low is None else f"[{self.unit.text(low)}, {self.unit.text(high)}]"

    @property
    def beside(self) -> str:
        """Whether it is shown to be better or worse than LoRA."""
        return self.standing.beside or MISSING


def unit(group: Group) -> Unit:
    """Of the group's main metric."""
    return Unit(group.metric, group.scale)


def places(study: Study) -> list[Place]:
    """Every adapter on every task, the best mean of a task first."""
    return [place for group in study.shown.groups for place in _places(group, study)]


def _places(group: Group, study: Study) -> Iterator[Place]:
    measure, found, steps = unit(group), study.standings[group], study.step_ratios[group]
    ends = [
        end
        for standing in found.values()
        for end in (standing.low, standing.mean, standing.high)
        if end is not None
    ]
    least, width = min(ends, default=0.0), max(ends, default=0.0) - min(ends, default=0.0)
    by_merit = sorted(found, key=lambda label: found[label].mean, reverse=not group.lower_is_better)
    for label in by_merit:
        standing = found[label]
        three = [
            standing.mean if end is None else end for end in (standing.low, standing.mean, standing.high)
        ]
        low, mean, high = (100 * (end - least) / width if width else 50.0 for end in three)
        yield Place(
            task=group.name,
            adapter=label,
            unit=measure,
            standing=standing,
            parameters=counts([run.parameters.trainable for run in group.runs[label].values()]),
            step=steps.get(label),
            spot=(low, mean, high) if width else None,
        )
