"""What runs say beyond scores and losses: ranks and kinds of scaling over steps, other figures, merge
parity."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rankbench.bench.records.schema import RunRecord
from rankbench.reports.claims.measurements import gradient_rank_share
from rankbench.reports.frames import Group, Suite, in_order
from rankbench.reports.render.markdown import (
    MISSING,
    Section,
    counts,
    number,
    paragraphs,
    quantity,
    score,
    table,
)
from rankbench.reports.render.plot import Styles, draw_band, log_values, render, spans_decades
from rankbench.reports.stats.summary import smooth, spread

SHARE = "nonnegative_share"
SHOWN = {"scores_saved"}
"""Numbers that stand among the papers' figures."""


@dataclass(frozen=True)
class Panel:
    """A quantity against the steps: a panel of ScaLoRA's figure 2."""

    letter: str
    """The panel of the paper's figure that it answers to."""
    label: str
    frames: dict[str, pd.DataFrame]
    """Adapter -> one row a step, one column a seed."""
    levels: dict[str, float] = field(default_factory=dict)
    """Horizontal lines to compare with, by their names."""
    is_share: bool = False


def panels(group: Group, published_share: float | None) -> list[Panel]:
    """What was measured of: accumulated rank, rank of the gradient beside 2r, and the share of layers
    with a non-negative column system beside the paper's (a fraction; None where it is not known)."""
    rank, gradient = frames(group, rank_series), frames(group, gradient_series)
    twice = {f"2r = {2 * r}": 2.0 * r for r in _scaled_ranks(group)}
    paper = {} if published_share is None else {f"{published_share:.0%} in the paper": published_share}
    found = [
        Panel("b", "accumulated rank, mean over layers", rank),
        Panel("c", "rank of the gradient, smallest layer", gradient, twice),
        Panel("d", "non-negative share of layers", frames(group, smooth_share), paper, is_share=True),
    ]
    return [panel for panel in found if panel.frames]


def draw_panels(group: Group, found: Sequence[Panel], styles: Styles) -> bytes:
    """The panels side by side."""

    def draw(canvas: Figure) -> None:
        row = canvas.subplots(1, len(found), squeeze=False)[0]
        for axes, panel in zip(row, found, strict=True):
            for adapter, frame in panel.frames.items():
                draw_band(axes, frame, {"label": adapter, **styles.get(adapter, {"color": "#777777"})})
            for name, height in panel.levels.items():
                axes.axhline(height, color="#777777", linewidth=1, linestyle=(0, (4, 3)))
                place: Any = ("axes fraction", "data")
                legible = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
                axes.annotate(
                    name, (1, height), xycoords=place, ha="right", va="bottom", fontsize=8, bbox=legible
                )
            axes.set_title(f"({panel.letter})", loc="left")
            axes.set_xlabel("optimizer steps")
            axes.set_ylabel(panel.label)
            if panel.is_share:
                axes.set_ylim(0, 1.03)
            elif spans_decades((v for frame in panel.frames.values() for v in frame.to_numpy().ravel()), 20):
                log_values(axes, base=2)
                axes.yaxis.set_major_formatter("{x:g}")
        canvas.suptitle(group.name)

    return render(draw, (2 + 4 * len(found), 3.8))


def rank_table(group: Group, found: Sequence[Panel]) -> str:
    """The panels' last values, how often the gradient's rank reached 2r, and where it was smallest."""
    header = ["adapter", "last step", "layers", "mean over layers", "largest layer"]
    has_gradient = any(panel.letter == "c" for panel in found)
    header += ["rank(G) ≥ 2r ×100", "smallest rank(G)"] if has_gradient else []
    header.append("non-negative share ×100")
    rows = []
    for adapter in dict.fromkeys(adapter for panel in found for adapter in panel.frames):
        runs = group.runs[adapter].values()
        probes = [[seen for seen in run.observations if seen.accumulated_rank] for run in runs]
        last = [seen[-1] for seen in probes if seen]
        shares = [statistics.fmean(series) for run in runs if (series := _share_series(run)) is not None]
        reached = [share / 100 for run in runs if (share := gradient_rank_share(run)) is not None]
        row = [
            adapter,
            counts([seen.step for seen in last]),
            counts([len(seen.accumulated_rank) for seen in last]),
            quantity(spread(statistics.fmean(seen.accumulated_rank.values()) for seen in last)),
            number(max((max(seen.accumulated_rank.values()) for seen in last), default=None)),
        ]
        if has_gradient:
            row += [score(spread(reached), fraction=True), _smallest_gradient(runs)]
        rows.append([*row, score(spread(shares), fraction=True)])
    return table(header, rows)


def scalars(suite: Suite) -> Section:
    """Every other number of the diagnostics."""
    rows = []
    for group in suite.groups:
        for adapter, runs in group.runs.items():
            blocks = [_numbers(run.diagnostics) for run in runs.values()]
            for key in sorted({key for block in blocks for key in block} - SHOWN):
                rows.append(
                    [
                        group.name,
                        adapter,
                        key,
                        quantity(spread(block[key] for block in blocks if key in block)),
                    ]
                )
    if not rows:
        return Section("")
    return Section(
        paragraphs(
            "## Other diagnostics",
            table(["task", "adapter", "diagnostic", "mean ± sd (seeds)"], rows, words=3),
        )
    )


def merge_parity(suite: Suite) -> Section:
    """Merged against unmerged, adapters × tasks: the worst difference of each, and all flips."""
    checks = [run.merge_parity for run in suite.records if run.merge_parity]
    if not checks:
        return Section("")
    flips, items = sum(check.top1_flips for check in checks), sum(check.items for check in checks)
    rows = [
        [adapter, *(_largest_difference(group.runs.get(adapter, {}).values()) for group in suite.groups)]
        for adapter in in_order(run.adapter for run in suite.records if run.merge_parity)
    ]
    note = (
        "The merged model against the model with its adapter, on fixed selection items of every run: the "
        f"largest difference of a logit. The first choice flipped in {flips} of {items:,} answers."
    )
    header = ["adapter", *(group.name for group in suite.groups)]
    return Section(paragraphs("## Merge parity", note, table(header, rows)))


def _largest_difference(runs: Iterable[RunRecord]) -> str:
    found = [run.merge_parity.largest_logit_difference for run in runs if run.merge_parity]
    return f"{max(found):.2g}" if found else MISSING


def frames(group: Group, series: Callable[[RunRecord], pd.Series | None]) -> dict[str, pd.DataFrame]:
    """Adapter -> one row a step, one column a seed, of the runs that have the series."""
    found = {
        adapter: {seed: column for seed, run in runs.items() if (column := series(run)) is not None}
        for adapter, runs in group.runs.items()
    }
    return {adapter: pd.DataFrame(columns) for adapter, columns in found.items() if columns}


def rank_series(run: RunRecord) -> pd.Series | None:
    """Accumulated rank, mean over the probed layers, by step."""
    seen = {each.step: each.accumulated_rank for each in run.observations if each.accumulated_rank}
    return (
        pd.Series({step: statistics.fmean(ranks.values()) for step, ranks in seen.items()}) if seen else None
    )


def gradient_series(run: RunRecord) -> pd.Series | None:
    """Rank of the gradient in the probed layer where it is smallest, by step: 2r is asked of each."""
    seen = {each.step: each.judged_gradient_rank for each in run.observations if each.judged_gradient_rank}
    return pd.Series({step: min(ranks.values()) for step, ranks in seen.items()}) if seen else None


def smooth_share(run: RunRecord) -> pd.Series | None:
    """Share of layers with a non-negative column system, trailing mean over a tenth of its entries."""
    share = _share_series(run)
    return None if share is None else pd.Series(smooth(share.tolist()), share.index)


def _scaled_ranks(group: Group) -> list[int]:
    """The ranks r of the runs that rescale columns: 2r is of interest for them."""
    ranks = (run.config.get("adapter", {}).get("rank") for run in group.records if SHARE in run.diagnostics)
    return sorted({rank for rank in ranks if rank})


def _smallest_gradient(runs: Iterable[RunRecord]) -> str:
    """The smallest rank of the gradient at any step, and its layer."""
    ranks = [item for run in runs for seen in run.observations for item in seen.judged_gradient_rank.items()]
    if not ranks:
        return MISSING
    layer, rank = min(ranks, key=lambda item: item[1])
    return f"{rank} ({layer})"


def _share_series(run: RunRecord) -> pd.Series | None:
    block = run.diagnostics.get(SHARE)
    if not (isinstance(block, dict) and block.get("share")):
        return None
    return pd.Series(block["share"], block["step"], dtype=float)


def _numbers(block: dict[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in block.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
