"""LoRA²'s figures and tables rebuilt from our records: ranks left, parameters, and what a step costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.published import Table as Published
from rankbench.reports.frames import Contender, Group, Suite
from rankbench.reports.render.blocks import Block, Picture, Section, Table
from rankbench.reports.render.numbers import MISSING, counts, metric_name, number, score
from rankbench.reports.render.words import words
from rankbench.reports.sections.paper_figures.quotations import group_setting, quoted, tables_of
from rankbench.reports.sections.paper_figures.rank_maps import RANK, RankMap, drawn, rank_maps
from rankbench.reports.stats.costs import ratios
from rankbench.reports.stats.matrices import MATRICES, by_matrix
from rankbench.reports.stats.summary import spread
from rankbench.reports.study import Study

LORA2 = "LoRA²"
COMPARED = ("full", "lora", "adalora", "lora2")
"""LoRA² and what it is compared with."""

INITIAL = 8
"""The rank before pruning in the paper's maps, by their caption."""


def sections(study: Study) -> list[Section]:
    """What the records have of the paper's figure 3 and of its tables."""
    return [*_rank_maps(study), *_parameters(study), *_step_cost(study)]


def published_maps(tables: Sequence[Published]) -> dict[str, RankMap]:
    """Task -> the paper's map."""
    maps = {}
    for row in (row for found in tables for row in found.rows):
        for task, matrices in row.ranks.items():
            ranks = np.array(list(matrices.values()), np.float64)
            layers = [str(layer) for layer in range(ranks.shape[1])]
            maps[task] = RankMap(layers, list(matrices), ranks, INITIAL, 1)
    return maps


def _rank_maps(study: Study) -> list[Section]:
    """The paper's figure 3 and ours."""
    theirs = tables_of(study.papers, LORA2, "Figure 3")
    ours = [
        Section(f"{group.name}: ranks left", [_picture(group, maps), group_setting(theirs, group)])
        for group in study.shown.groups
        if (maps := rank_maps(group))
    ]
    if not ours:
        return []
    parts: list[Block] = [quoted(theirs)]
    if maps := published_maps(theirs):
        caption = words("paper_figures", "published maps", initial=INITIAL)
        figure = drawn("LoRA², figure 3", maps)
        title = "Singular values left in the paper"
        parts.append(Picture("published--lora2-figure-3", title, caption, figure))
    if rows := list(_share_rows(study.shown, maps)):
        parts += [
            words("paper_figures", "shares"),
            Table(["where", "adapter", "left", *MATRICES], rows, words=2),
        ]
    return [Section(f"{LORA2}, figure 3: ranks left over layers and modules", [*parts, *ours])]


def _picture(group: Group, maps: Mapping[str, RankMap]) -> Picture:
    title = f"Singular values left on {group.name}"
    return Picture(f"heat--{group.file_name}", title, words("paper_figures", "maps"), drawn(group.name, maps))


def _share_rows(suite: Suite, maps: Mapping[str, RankMap]) -> Iterator[list[str]]:
    for task, found in maps.items():
        left = {matrix: ranks.sum() for matrix, ranks in zip(found.modules, found.ranks, strict=True)}
        yield [f"{LORA2}, {task}", "LoRA2", *_shares(left)]
    for group in suite.groups:
        for label, runs in group.runs.items():
            seen = [by_matrix(ranks) for run in runs.values() if (ranks := _ranks(run))]
            matrices = dict.fromkeys(matrix for one in seen for matrix in one)
            left = {matrix: np.mean([sum(one.get(matrix, [])) for one in seen]) for matrix in matrices}
            if left:
                yield [group.name, label, *_shares(left)]


def _ranks(run: RunRecord) -> dict[str, int]:
    found = run.diagnostics.get(RANK)
    return found if isinstance(found, dict) else {}


def _shares(left: Mapping[str, Any]) -> list[str]:
    """How many are left, and each matrix's part in percent."""
    whole = sum(left.values())
    parts = [
        f"{100 * left[matrix] / whole:.0f} %" if matrix in left and whole else MISSING for matrix in MATRICES
    ]
    return [number(float(whole)), *parts]


def _parameters(study: Study) -> list[Section]:
    """The paper's table of parameters and scores."""
    rows = [
        [group.name, label, *_parameter_cells(list(runs.values()))]
        for group in study.shown.groups
        if any(one.adapter == "lora2" for one in group.contenders.values())
        for label, runs in group.runs.items()
        if group.contenders[label].adapter in COMPARED
    ]
    if not rows:
        return []
    header = ["task", "adapter", "rank", "of the adapter", "share, %", "metric", "score", "scores saved, %"]
    theirs = quoted(tables_of(study.papers, LORA2, "abstract"))
    read = words("paper_figures", "parameters")
    return [Section(f"{LORA2}: parameters and scores", [read, Table(header, rows, words=2), theirs])]


def _parameter_cells(runs: Sequence[RunRecord]) -> list[str]:
    metrics = [run.metrics for run in runs]
    main, scale = metrics[0].main, metrics[0].scale
    counted = runs[0].parameters
    whole = counted.trainable == counted.total
    share = 1.0 if whole else counted.adapter / (counted.total - counted.adapter)
    saved = runs[0].diagnostics.get("scores_saved")
    return [
        Contender(runs[0]).ranks or MISSING,
        counts([run.parameters.adapter for run in runs]),
        number(100 * share),
        metric_name(main, scale),
        score(spread(block.best[main] for block in metrics), scale.percent),
        MISSING if saved is None else number(100 * saved),
    ]


def _step_cost(study: Study) -> list[Section]:
    """The paper's table 2 beside ours."""
    rows = [
        [record.name, record.model, f"lora2 ÷ {other}", number(measured["lora2"].middle)]
        for record in study.shown.overhead
        for other in (record.baseline, "adalora")
        if "lora2" in (measured := ratios(record, other))
    ]
    if not rows:
        return []
    theirs = tables_of(study.papers, LORA2, "Table 2")
    for found in theirs:
        seconds = {row.method: row.values for row in found.rows}
        rows += [
            [f"{LORA2}, {task}", found.model, "LoRA2 ÷ AdaLoRA", number(value / seconds["AdaLoRA"][task])]
            for task, value in seconds["LoRA2"].items()
        ]
    table = Table(["where", "model", "of what", "ratio"], rows, words=3)
    return [
        Section(
            f"{LORA2}, table 2: the cost of a step",
            [words("paper_figures", "cost"), table, quoted(theirs)],
        )
    ]
