"""What a report is made from: a suite's records and what follows from them, each read and judged once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from rankbench.reports.claims.judge import Verdict, judge
from rankbench.reports.claims.published import Paper, found_papers
from rankbench.reports.claims.reproductions import Reproduction, reproductions, values_of
from rankbench.reports.claims.schema import Claim, found_claims
from rankbench.reports.frames import Group, Suite, load
from rankbench.reports.frames.views import ByForgetting, ByLoss, View
from rankbench.reports.render.looks import Looks, looks
from rankbench.reports.stats.costs import Costs, costs, step_ratios
from rankbench.reports.stats.standing import Against, Basis, Standing, Told, basis, standings, tell
from rankbench.reports.stats.sweep import chosen_trials


@dataclass(frozen=True)
class Study:
    """A suite with all that its report says; every property is made when first asked for, and then kept.

    What is judged per group is a mapping over the groups of `shown`.
    """

    suite: Suite
    """Every record."""
    papers: Sequence[Paper] = field(default_factory=found_papers)
    """What was published."""
    claims: Sequence[Claim] = field(default_factory=found_claims)
    beside: Study | None = None
    """Other records that the report sets beside these."""

    @classmethod
    def read(cls, suite_folder: Path, beside: Path | None = None) -> Study:
        """Of the records of a folder, and those beside them. Raises RecordError."""
        return cls(load(suite_folder), beside=cls.read(beside) if beside else None)

    @cached_property
    def shown(self) -> Suite:
        """The suite with each swept method's chosen trial alone."""
        return chosen_trials(self.suite)

    @cached_property
    def by_loss(self) -> Study:
        """The same judged by the loss of the test items; of the groups in which it was measured."""
        return self._by(ByLoss)

    @cached_property
    def by_forgetting(self) -> Study:
        """The same judged by what was forgotten of the general text."""
        return self._by(ByForgetting)

    def _by(self, view: type[View]) -> Study:
        groups: list[Group] = [seen for group in self.shown.groups if (seen := view.of(group))]
        return replace(self, suite=replace(self.shown, groups=groups))

    @cached_property
    def styles(self) -> Looks:
        """How each method looks in every figure; the ranks of a sweep look as one."""
        return looks(self.shown.names, self.shown.baseline)

    def styles_of(self, group: Group) -> Looks:
        """How they look in the group's own figure of runs: one by one where all are ranks of sweeps."""
        if not group.is_rank_sweep:
            return self.styles
        return looks(group.runs, group.baseline or next(iter(group.runs)))

    @property
    def judges_papers(self) -> bool:
        """Whether papers are judged by its runs: not by those of one seed, a sweep's for instance."""
        return len({record.seed for record in self.shown.records}) != 1

    @cached_property
    def verdicts(self) -> Sequence[Verdict]:
        """Each claim in every setting; of runs of one seed by the measurements of costs alone."""
        return judge(self.shown if self.judges_papers else replace(self.shown, groups=[]), self.claims)

    @cached_property
    def reproductions(self) -> Sequence[Reproduction]:
        """Each published figure beside ours; none where no paper is judged."""
        figures = [value for paper in self.papers for value in values_of(paper)]
        return reproductions(self.shown, figures) if self.judges_papers else []

    @cached_property
    def bases(self) -> dict[Group, Basis]:
        """What a group's methods are compared by. Raises RecordError for unreadable predictions."""
        return {group: basis(group) for group in self.shown.groups}

    @cached_property
    def gains(self) -> dict[Group, dict[str, Against]]:
        """Method -> its gain over the group's baseline; empty where there is none."""
        return {group: compared.against(group.baseline) for group, compared in self.bases.items()}

    @cached_property
    def told(self) -> dict[Group, Told]:
        """Which methods are shown to be better or worse than the baseline, and how far the others may be."""
        return {group: tell(gains) for group, gains in self.gains.items()}

    @cached_property
    def standings(self) -> dict[Group, dict[str, Standing]]:
        """Method -> its mean score, interval and place beside the baseline."""
        return {group: standings(group, told) for group, told in self.told.items()}

    @cached_property
    def costs(self) -> dict[Group, Costs]:
        """Measure -> method -> cost."""
        return {group: costs(group, self.shown) for group in self.shown.groups}

    @cached_property
    def step_ratios(self) -> dict[Group, dict[str, float]]:
        """Method -> its step's time over the baseline's; empty where it was not measured."""
        return {group: step_ratios(group, self.shown) for group in self.shown.groups}
