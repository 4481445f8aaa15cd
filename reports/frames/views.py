"""A group judged by something else than its main score. What is made of groups is made of views: standings,
gains over the baseline, a column of the leaderboard."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from functools import cached_property
from typing import Self

import numpy as np
from typing_extensions import override

from rankbench.bench.records import Forgetting, RunRecord, Scale
from rankbench.reports.frames.group import Group
from rankbench.reports.stats.items import Scores, held_out_losses

FORGOTTEN = {"loss": "forgetting, nats a token", "drift": "forgetting, drift"}
"""What the column is called, by `Forgetting.kind`."""


class View(Group):
    """Of the runs of a group in which it was measured."""

    @classmethod
    def of(cls, group: Group) -> Self | None:
        """None where it was in no run."""
        runs = {
            label: measured
            for label, by_seed in group.runs.items()
            if (measured := {seed: run for seed, run in by_seed.items() if cls.measured(run)})
        }
        given = {field.name: getattr(group, field.name) for field in fields(Group)}
        return cls(**given | {"runs": runs}) if runs else None

    @staticmethod
    def measured(record: RunRecord) -> bool:
        """Whether it was in this run."""
        raise NotImplementedError

    @cached_property
    @override
    def constant_score(self) -> float | None:
        return None


class ByLoss(View):
    """By the mean loss of the test items."""

    @staticmethod
    @override
    def measured(record: RunRecord) -> bool:
        return bool(record.metrics.held_out)

    @property
    @override
    def metric(self) -> str:
        return self.record.metrics.held_out

    @property
    @override
    def scale(self) -> Scale:
        return self.record.metrics.scales[self.metric]

    @cached_property
    @override
    def constant_score(self) -> float | None:
        return self.constant_loss

    @cached_property
    @override
    def scores(self) -> Scores:
        return held_out_losses(self.folder, self.runs)


class ByForgetting(View):
    """By what was forgotten of the general text: of the one that most of the runs have read."""

    @staticmethod
    @override
    def measured(record: RunRecord) -> bool:
        return record.forgetting is not None

    @property
    def _found(self) -> list[Forgetting]:
        return [record.forgetting for record in self.records if record.forgetting]

    @property
    @override
    def metric(self) -> str:
        return FORGOTTEN[self._found[0].kind]

    @property
    @override
    def scale(self) -> Scale:
        return self._found[0].scale

    @cached_property
    @override
    def scores(self) -> Scores:
        ((text, _),) = Counter(found.text for found in self._found).most_common(1)
        return {
            label: {
                seed: np.asarray(found.value)
                for seed, run in by_seed.items()
                if (found := run.forgetting) and found.text == text
            }
            for label, by_seed in self.runs.items()
        }
