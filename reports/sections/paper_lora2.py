"""LoRA²'s figures and tables rebuilt from our records: ranks left, parameters, and what a step costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rankbench.bench.records.schema import RunRecord
from rankbench.reports.claims.published import Paper, Table
from rankbench.reports.claims.quoted import group_setting, quoted, tables_of
from rankbench.reports.frames import BASELINE, Suite
from rankbench.reports.render.heatmap import RANK, RankMap, draw_rank_maps, rank_maps
from rankbench.reports.render.markdown import (
    MISSING,
    Section,
    counts,
    figure,
    metric_name,
    number,
    paragraphs,
    score,
    table,
)
from rankbench.reports.sections.overhead import ratios
from rankbench.reports.stats.matrices import MATRICES, by_matrix
from rankbench.reports.stats.summary import spread

LORA2 = "LoRA²"
COMPARED = ("full", "lora", "adalora", "lora2")
"""LoRA² and what it is compared with."""

INITIAL = 8
"""The rank before pruning in the paper's maps, by their caption."""
CAPTION_MAPS = (
    "Mean over the seeds; the colours end at the number before pruning; lighter is more, as in the paper's "
    "figure."
)
CAPTION_PUBLISHED = f"Read from the paper's figure; the colours end at r = {INITIAL}; one run each."
READ_SHARES = (
    "Where the ranks lie that are left: each matrix's part of them, over all layers. First the paper's maps, "
    "then ours, mean over the seeds; modules that are none of the six matrices are left out."
)
READ_PARAMETERS = (
    "Of the adapter: trainable parameters without the task head; share: of the model's own. Scores saved: "
    "the part of the entries that need no importance score, as only the inner factors are scored."
)
READ_COST = (
    "A step of lora2, with its scores and pruning, beside other methods': the ratio of the same rounds "
    "over the processes here (Overhead), and the ratio of the seconds that the paper prints."
)


def sections(suite: Suite, papers: Sequence[Paper]) -> list[Section]:
    """What the records have of the paper's figure 3 and of its tables."""
    return [*_rank_maps(suite, papers), *_parameters(suite, papers), *_step_cost(suite, papers)]


def published_maps(tables: Sequence[Table]) -> dict[str, RankMap]:
    """Task -> the paper's map."""
    maps = {}
    for row in (row for found in tables for row in found.rows):
        for task, matrices in row.ranks.items():
            ranks = np.array(list(matrices.values()), np.float64)
            layers = [str(layer) for layer in range(ranks.shape[1])]
            maps[task] = RankMap(layers, list(matrices), ranks, INITIAL, 1)
    return maps


def _rank_maps(suite: Suite, papers: Sequence[Paper]) -> list[Section]:
    """The paper's figure 3 and ours."""
    theirs = tables_of(papers, LORA2, "Figure 3")
    ours = []
    for group in suite.groups:
        if not (maps := rank_maps(group)):
            continue
        name = f"heat--{group.file_name}.svg"
        text = paragraphs(
            f"#### {group.name}: ranks left",
            figure(name, f"Singular values left on {group.name}", CAPTION_MAPS),
            group_setting(theirs, group),
        )
        ours.append(Section(text, {name: draw_rank_maps(group.name, maps)}))
    if not ours:
        return []
    title = f"### {LORA2}, figure 3: ranks left over layers and modules"
    parts, drawn = [title, quoted(theirs)], {}
    if maps := published_maps(theirs):
        name = "published--lora2-figure-3.svg"
        parts.append(figure(name, "Singular values left in the paper", CAPTION_PUBLISHED))
        drawn[name] = draw_rank_maps("LoRA², figure 3", maps)
    if rows := list(_share_rows(suite, maps)):
        parts += [READ_SHARES, table(["where", "adapter", "left", *MATRICES], rows, words=2)]
    return [Section(paragraphs(*parts), drawn), *ours]


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


def _parameters(suite: Suite, papers: Sequence[Paper]) -> list[Section]:
    """The paper's table of parameters and scores."""
    rows = [
        [group.name, label, *_parameter_cells(list(runs.values()))]
        for group in suite.groups
        if any(_adapter(record)["name"] == "lora2" for record in group.records)
        for label, runs in group.runs.items()
        if _adapter(next(iter(runs.values())))["name"] in COMPARED
    ]
    if not rows:
        return []
    header = ["task", "adapter", "rank", "of the adapter", "share, %", "metric", "score", "scores saved, %"]
    title = f"### {LORA2}: parameters and scores"
    theirs = quoted(tables_of(papers, LORA2, "abstract"))
    return [Section(paragraphs(title, READ_PARAMETERS, table(header, rows, words=2), theirs))]


def _parameter_cells(runs: Sequence[RunRecord]) -> list[str]:
    metrics = [run.metrics for run in runs]
    main, scale = metrics[0].main, metrics[0].scale
    counted = runs[0].parameters
    whole = counted.trainable == counted.total
    share = 1.0 if whole else counted.adapter / (counted.total - counted.adapter)
    saved = runs[0].diagnostics.get("scores_saved")
    given = _adapter(runs[0])
    rank = number(given["rank"]) if "rank" in given else MISSING
    return [
        f"{rank} → {number(given['target_rank'])}" if "target_rank" in given else rank,
        counts([run.parameters.adapter for run in runs]),
        number(100 * share),
        metric_name(main, scale),
        score(spread(block.best[main] for block in metrics), scale.percent),
        MISSING if saved is None else number(100 * saved),
    ]


def _adapter(record: RunRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.config.get("adapter", {"name": record.adapter})
    return found


def _step_cost(suite: Suite, papers: Sequence[Paper]) -> list[Section]:
    """The paper's table 2 beside ours."""
    rows = [
        [record.name, record.model, f"lora2 ÷ {other}", number(measured["lora2"].middle)]
        for record in suite.overhead
        for other in (BASELINE, "adalora")
        if "lora2" in (measured := ratios(record, other))
    ]
    if not rows:
        return []
    theirs = tables_of(papers, LORA2, "Table 2")
    for found in theirs:
        seconds = {row.method: row.values for row in found.rows}
        rows += [
            [f"{LORA2}, {task}", found.model, "LoRA2 ÷ AdaLoRA", number(value / seconds["AdaLoRA"][task])]
            for task, value in seconds["LoRA2"].items()
        ]
    title = f"### {LORA2}, table 2: the cost of a step"
    header = ["where", "model", "of what", "ratio"]
    return [Section(paragraphs(title, READ_COST, table(header, rows, words=3), quoted(theirs)))]
