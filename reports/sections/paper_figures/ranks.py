"""ScaLoRA's figure 2, panels b to d: accumulated rank, rank of the gradient, and kinds of scaling."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.measurements import gradient_rank_share, nonnegative_share
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Level, Panel, band, spans_decades
from rankbench.reports.render.limits import NAMES
from rankbench.reports.render.looks import Looks, distinct
from rankbench.reports.render.numbers import MISSING, counts, number, quantity, score
from rankbench.reports.render.words import words
from rankbench.reports.sections.convergence import STEPS
from rankbench.reports.sections.paper_figures.quotations import group_setting, quoted, tables_of, value_of
from rankbench.reports.stats.summary import Series, by_step, smooth, spread
from rankbench.reports.study import Study

SCALORA = "ScaLoRA"
SHARE = "nonnegative_share"

Frames = dict[str, pd.DataFrame]
"""Adapter -> one row a step, one column a seed."""


def sections(study: Study) -> list[Section]:
    """One with a part for each group that was observed, or none."""
    theirs = tables_of(study.papers, SCALORA, *(f"Figure 2({letter})" for letter in "abcd"))
    share = value_of(tables_of(study.papers, SCALORA, "Figure 2(d)"), SCALORA)
    parts = [
        Section(
            f"{group.name}: ranks and scaling",
            [
                picture(group, found, None if share is None else share / 100, study.styles_of(group)),
                _table(group, found),
                group_setting(theirs, group),
            ],
        )
        for group in study.shown.groups
        if (found := measured(group))
    ]
    title = f"{SCALORA}, figure 2: ranks and scaling"
    return [Section(title, [words("paper_figures", "ranks"), quoted(theirs), *parts])] if parts else []


def measured(group: Group) -> dict[str, Frames]:
    """Panel of the paper's figure, by its letter -> what was measured for it."""
    series = {"b": accumulated, "c": gradient, "d": _smooth_share}
    return {letter: found for letter, read in series.items() if (found := _frames(group, read))}


def picture(
    group: Group, found: Mapping[str, Frames], published_share: float | None, styles: Looks
) -> Picture:
    """A panel for each, the rank of the gradient beside 2r, the share beside the paper's (a fraction)."""
    twice = [Level(2.0 * rank, f"2r = {2 * rank}") for rank in _scaled_ranks(group)]
    paper = [] if published_share is None else [Level(published_share, f"{published_share:.0%} in the paper")]
    beside: dict[str, list[Level]] = {"b": [], "c": twice, "d": paper}
    labels = {
        "b": "accumulated rank, mean over layers",
        "c": "rank of the gradient, smallest layer",
        "d": "non-negative share of layers",
    }
    names = [*dict.fromkeys(label for frames in found.values() for label in frames)]
    styles = distinct(names[:NAMES], styles)
    panels = []
    for letter, frames in found.items():
        bands = [band(styles[label], frame) for label, frame in frames.items()]
        values = (value for frame in frames.values() for value in frame.to_numpy().ravel())
        log = 2 if letter != "d" and spans_decades(values, 20) else None
        y = Axis(labels[letter], log, (0, 1.03) if letter == "d" else None)
        panels.append(Panel([*beside[letter], *bands], Axis(STEPS), y, f"({letter})"))
    figure = Figure(panels, (2 + 4 * len(panels), 3.8), group.name, beside=True, shared="x")
    title = f"Rank and scaling on {group.name}"
    return Picture(f"rank--{group.file_name}", title, words("paper_figures", "ranks drawn"), figure)


def _table(group: Group, found: Mapping[str, Frames]) -> Table:
    """The panels' last values, how often the gradient's rank reached 2r, and where it was smallest."""
    header = ["adapter", "last step", "layers", "mean over layers", "largest layer"]
    header += ["rank(G) ≥ 2r ×100", "smallest rank(G)"] if "c" in found else []
    header.append("non-negative share ×100")
    rows = []
    for adapter in dict.fromkeys(adapter for frames in found.values() for adapter in frames):
        runs = group.runs[adapter].values()
        probes = [[seen for seen in run.observations if seen.accumulated_rank] for run in runs]
        last = [seen[-1] for seen in probes if seen]
        shares = [share / 100 for run in runs if (share := nonnegative_share(run)) is not None]
        reached = [share / 100 for run in runs if (share := gradient_rank_share(run)) is not None]
        row = [
            adapter,
            counts([seen.step for seen in last]),
            counts([len(seen.accumulated_rank) for seen in last]),
            quantity(spread(statistics.fmean(seen.accumulated_rank.values()) for seen in last)),
            number(max((max(seen.accumulated_rank.values()) for seen in last), default=None)),
        ]
        if "c" in found:
            row += [score(spread(reached), fraction=True), _smallest_gradient(runs)]
        rows.append([*row, score(spread(shares), fraction=True)])
    return Table(header, rows)


def _frames(group: Group, series: Callable[[RunRecord], Series | None]) -> Frames:
    """Of the runs that have the series."""
    found = {
        adapter: {seed: column for seed, run in runs.items() if (column := series(run)) is not None}
        for adapter, runs in group.runs.items()
    }
    return {adapter: by_step(columns) for adapter, columns in found.items() if columns}


def accumulated(run: RunRecord) -> Series | None:
    """Accumulated rank, mean over the probed layers, by step."""
    seen = {each.step: each.accumulated_rank for each in run.observations if each.accumulated_rank}
    return ([*seen], [statistics.fmean(ranks.values()) for ranks in seen.values()]) if seen else None


def gradient(run: RunRecord) -> Series | None:
    """Rank of the gradient in the probed layer where it is smallest, by step: 2r is asked of each."""
    seen = {each.step: ranks for each in run.observations if (ranks := each.judged_gradient_rank)}
    return ([*seen], [min(ranks.values()) for ranks in seen.values()]) if seen else None


def _smooth_share(run: RunRecord) -> Series | None:
    """Share of layers with a non-negative column system, trailing mean over a tenth of its entries."""
    block = run.diagnostics.get(SHARE)
    if not (isinstance(block, dict) and block.get("share")):
        return None
    return block["step"], smooth(block["share"])


def _scaled_ranks(group: Group) -> list[int]:
    """The ranks r of the runs that rescale columns: 2r is of interest for them."""
    ranks = (run.rank for run in group.records if SHARE in run.diagnostics)
    return sorted({rank for rank in ranks if rank})


def _smallest_gradient(runs: Iterable[RunRecord]) -> str:
    """The smallest rank of the gradient at any step, and its layer."""
    ranks = [item for run in runs for seen in run.observations for item in seen.judged_gradient_rank.items()]
    if not ranks:
        return MISSING
    layer, rank = min(ranks, key=lambda item: item[1])
    return f"{rank} ({layer})"
