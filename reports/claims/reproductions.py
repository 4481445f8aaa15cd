"""The papers' figures beside ours, with the fields in which the two were made differently.

A figure is judged only where the model is known to be the same and nothing known of the recipe differs.
Elsewhere it is PROTOCOL DIFFERS: shown, never judged. What a paper's sources leave open is named too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.decide import seen
from rankbench.reports.claims.measurements import MEASUREMENTS
from rankbench.reports.claims.published import Hand, Paper, Protocol, Role, Row, Table
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.frames import Contender, Group, Suite
from rankbench.reports.render.numbers import number
from rankbench.reports.stats.decision import Interval, Range, Test

TASKS = {
    "CoLA": "cola", "SST-2": "sst2", "MRPC": "mrpc", "STS-B": "stsb", "QQP": "qqp", "MNLI": "mnli",
    "MNLI-m": "mnli", "MNLI-mm": "mnli", "QNLI": "qnli", "RTE": "rte", "BoolQ": "boolq", "PIQA": "piqa",
    "SIQA": "social_iqa", "HellaSwag": "hellaswag", "WinoGrande": "winogrande", "ARC-e": "arc_easy",
    "ARC-c": "arc_challenge", "OBQA": "openbookqa", "GSM8K": "gsm8k",
}  # fmt: skip
ANY_TASK = ("training", "whole model")
METHODS = {
    "Full FT": "full", "FT*": "full", "LoRA": "lora", "rsLoRA": "rslora", "LoRA2": "lora2",
    "ScaLoRA": "scalora", "ScaLoRA-I": "scalora-i", "AdaLoRA": "adalora", "DoRA": "dora", "HiRA": "hira",
    "LoRA2 (k=1)": "lora2", "LoRA2 (k=8)": "lora2",
    **{f"LoRA2 (k=1), regulariser {terms}": "lora2" for terms in ("uv", "UV", "uv and UV", "P and Q", "all")},
}  # fmt: skip
TOLERANCE = 1.0
"""Points: about half of the spread over seeds that LoRA's paper prints for the small GLUE tasks."""
NEAR = 0.02
"""Of figures that are no scores, and of fields of the recipe: this share of theirs, as rounding leaves it."""
NOT_STATED = "not stated"


@dataclass(frozen=True)
class PublishedValue:
    """One published number."""

    name: str
    role: Role
    table: str
    model: str
    method: str
    rank: int | None
    parameters: str | None
    task: str
    metric: str
    value: float
    spread: float | None
    unit: str
    hand: Hand
    source: str
    protocol: Protocol
    settings: dict[str, int | list[str]] = field(default_factory=dict)


def values_of(paper: Paper) -> Iterator[PublishedValue]:
    """A paper's numbers one by one, in file order."""
    for table in paper.tables:
        for row in table.rows:
            for column, metric, value in _cells(table, row):
                shared = table.by_column.get(column, Protocol()).over(table.protocol)
                yield PublishedValue(
                    name=paper.name,
                    role=paper.role,
                    table=table.table,
                    model=table.model,
                    method=row.method,
                    rank=row.rank,
                    parameters=row.parameters,
                    task=column.partition(", ")[0],
                    metric=metric,
                    value=value,
                    spread=row.spreads.get(column),
                    settings=row.settings,
                    unit=table.unit,
                    hand=table.hand,
                    source=table.source,
                    protocol=row.protocol.over(shared),
                )


def _cells(table: Table, row: Row) -> Iterator[tuple[str, str, float]]:
    """Column, metric and value of each number of a row."""
    for column, value in row.values.items():
        yield column, table.columns[column], value
    for column, matrices in row.ranks.items():
        for matrix, left in matrices.items():
            for layer, rank in enumerate(left):
                yield column, f"{table.columns[column]}, layer {layer}, {matrix}", rank


def same_model(published: str, ours: str) -> bool:
    """Whether a paper's name of a model and ours (a hub id, say) mean the same."""

    def plain(name: str) -> str:
        last = name.rpartition("/")[2].lower()
        return "".join(filter(str.isalnum, last)).removeprefix("meta").removesuffix("hf")

    return plain(published) == plain(ours)


@dataclass(frozen=True)
class Reproduction:
    """One published figure beside one method of ours on one task."""

    figure: PublishedValue
    where: str
    model: str
    method: str
    ours: Interval
    outcome: Outcome
    differing: list[str]
    """Field: theirs, ours."""
    unknown: list[str]
    """Fields of the recipe that the paper's sources leave open."""


def reproductions(suite: Suite, figures: Sequence[PublishedValue]) -> list[Reproduction]:
    """Each figure of the papers judged here, and of their baselines, that the suite has a method for."""
    return [
        found
        for figure in figures
        if figure.role != "context" and figure.method in METHODS
        for group in suite.groups
        if not group.is_rank_sweep
        for found in _in_group(figure, group)
    ]


def _in_group(figure: PublishedValue, group: Group) -> Iterator[Reproduction]:
    for label, runs in group.runs.items():
        one = group.contenders[label]
        if one.adapter != METHODS[figure.method]:
            continue
        if figure.task not in ANY_TASK and group.kind != TASKS.get(figure.task):
            continue
        values = [value for record in runs.values() if (value := _value(figure, record)) is not None]
        if not values:
            continue
        exact = figure.metric in MEASUREMENTS and MEASUREMENTS[figure.metric].exact
        ours = seen(np.array(values, np.float64), Test.EXACT if exact else Test.SEEDS, group.plan)
        differing, unknown = _fields(figure, one)
        near = NEAR * abs(figure.value) if figure.metric in MEASUREMENTS else TOLERANCE
        tolerance = max(figure.spread or 0.0, near)
        near_theirs = Range(figure.value - tolerance, figure.value + tolerance)
        outcome = Outcome.of(near_theirs.holds(ours.low, ours.high))
        if differing or "model" in unknown:
            outcome = Outcome.PROTOCOL_DIFFERS
        yield Reproduction(figure, group.name, one.record.model, label, ours, outcome, differing, unknown)


def _value(figure: PublishedValue, record: RunRecord) -> float | None:
    """Our number of the figure's kind, in its unit."""
    if figure.metric in MEASUREMENTS:
        found = MEASUREMENTS[figure.metric]
        return found.read(record) if found.kind in ("run", "score") else None
    if figure.unit != "percent":
        return None
    score = record.metrics.published(figure.metric)
    return None if score is None else 100 * score


def _fields(figure: PublishedValue, one: Contender) -> tuple[list[str], list[str]]:
    """What differs, as `field: theirs, ours`, and what is not known of theirs."""
    differing, unknown = [], []
    theirs: dict[str, Any] = {**figure.protocol.model_dump(), "model": figure.model, "rank": figure.rank}
    if METHODS[figure.method] == "full":
        del theirs["rank"], theirs["alpha"]
    for name, own in one.recipe.items():
        if name not in theirs:
            continue
        other = theirs[name]
        if other is None or other == NOT_STATED:
            unknown.append(name)
        elif not _same(name, other, own):
            shown = [number(x) if isinstance(x, float) else str(x) for x in (other, own)]
            differing.append(f"{name}: {shown[0]}, ours {shown[1]}")
    for name, wanted in figure.settings.items():
        if one.settings.get(name) != wanted:
            differing.append(f"{name}: {wanted}, ours {one.settings.get(name, NOT_STATED)}")
    for name in ("scoring",) if METHODS[figure.method] == "full" else ("targets", "scoring"):
        if theirs[name] is None:
            unknown.append(name)
    return differing, unknown


def _same(name: str, theirs: Any, ours: Any) -> bool:
    if name == "model":
        return same_model(theirs, ours)
    if isinstance(theirs, str) or ours is None:
        return theirs == ours
    return math.isclose(theirs, ours, rel_tol=NEAR)
