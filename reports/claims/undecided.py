"""Which runs go on: those of methods that a claim is still open between, as long as it may be decided."""

from __future__ import annotations

from rankbench.reports.claims.power import asked, is_futile
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.study import Study

Cell = tuple[str, str]
"""Experiment and label: one method on one task, a run a seed."""


def undecided(study: Study) -> set[Cell]:
    """The cells that some open claim needs more seeds of: the others may stop.

    Both sides of a pair go on while one of its claims is UNDERPOWERED and not futile, and so the baseline
    does as long as any pair with it. A cell that no claim speaks of is in none, and stops after the first
    stage.
    """
    return {
        (verdict.experiment, label)
        for verdict in study.verdicts
        if verdict.outcome is Outcome.UNDERPOWERED and not is_futile(asked(verdict, study.verdicts))
        for label in verdict.cells
    }


def unasked(study: Study) -> list[str]:
    """EXPERIMENT--ADAPTER of the cells that no claim speaks of, so that their seeds follow from nothing."""
    asked = {(verdict.experiment, label) for verdict in study.verdicts for label in verdict.cells}
    there = {(record.task, record.adapter) for record in study.suite.records}
    return [f"{experiment}--{label}" for experiment, label in sorted(there - asked)]
