"""The leaderboard a row at a time: one adapter on one task, its interval, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rankbench.bench.records import Scale
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Strip, Table
from rankbench.reports.render.markdown import MISSING, counts, metric_name, plain
from rankbench.reports.stats.decision import LEVEL
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

    def text(self, value: float) -> str:
        """A value as the report prints it."""
        return plain(value, self.scale.percent)

    def shown(self, value: float) -> float:
        """A value in the unit that it is shown in."""
        return 100 * value if self.scale.percent else value


def unit(group: Group) -> Unit:
    """Of the group's main metric."""
    return Unit(group.metric, group.scale)


def board(study: Study) -> Table:
    """Every adapter on every task, the best mean of a task first."""
    baseline = study.suite.baseline
    header = [
        *("adapter", "task", "metric", f"beside {baseline}", "mean", f"{LEVEL:.0%} interval"),
        *("on the task's range", "seeds", "trainable parameters", f"step time ÷ {baseline}'s"),
    ]
    rows = [row for group in study.shown.groups for row in _rows(study, group)]
    return Table(header, rows, words=4, choose=["task", f"beside {baseline}"], search="adapter")


def _rows(study: Study, group: Group) -> Iterator[list[str | Strip]]:
    main, found, steps = unit(group), study.standings[group], study.step_ratios[group]
    ends = [end for one in found.values() for end in (one.low, one.mean, one.high) if end is not None]
    least, most = min(ends, default=0.0), max(ends, default=0.0)
    for label in sorted(found, key=lambda label: found[label].mean, reverse=not group.lower_is_better):
        one = found[label]
        interval = MISSING
        if one.low is not None and one.high is not None:
            interval = f"[{main.text(one.low)}, {main.text(one.high)}]"
        yield [
            label,
            group.name,
            main.name,
            one.beside or MISSING,
            main.text(one.mean),
            interval,
            _strip(one, least, most) if most > least else MISSING,
            str(one.n),
            counts([run.parameters.trainable for run in group.runs[label].values()]),
            f"{steps[label]:.3f}" if label in steps else MISSING,
        ]


def _strip(one: Standing, least: float, most: float) -> Strip:
    """Mean and interval on the range from `least` to `most`."""
    ends = (one.mean if end is None else end for end in (one.low, one.mean, one.high))
    return Strip(*(100 * (end - least) / (most - least) for end in ends))
