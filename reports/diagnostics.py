"""What adapters say of themselves: accumulated rank, kinds of scaling, other figures; merge parity."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.record import RunRecord
from reports.load import Group, Suite
from reports.markdown import MISSING, Section, figure, number, paragraphs, quantity, score, table
from reports.plot import Styles, draw_band, log_values, render, spans_decades
from reports.stats import smooth, spread

SHARE = "nonnegative_share"

HOW_TO_READ = (
    "Accumulated rank: numerical rank of (weight now − pretrained weight) of the probed layers. "
    "Non-negative share: the part of the layers whose column system had no negative entry at that step, so "
    "that column scaling is optimal and no fallback is needed; mean over the steps."
)


def ranks(suite: Suite, styles: Styles) -> Section:
    """Accumulated rank and the share of non-negative column systems, over steps and at the end."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for group in suite.groups:
        rank = _frames(group, _rank_series)
        share = _frames(group, _smooth_share)
        if not (rank or share):
            continue
        name = f"rank--{group.file_name}.svg"
        figures[name] = draw_ranks(group, rank, share, styles)
        caption = (
            "What was measured of: accumulated rank, mean over the probed layers; share of layers with a "
            "non-negative column system, trailing mean over a tenth of its entries. Line: mean over the "
            "seeds; band: smallest to largest."
        )
        parts += [
            f"### {group.name}: accumulated rank",
            figure(name, f"Rank and scaling on {group.name}", caption),
            _rank_table(group, [*rank, *share]),
        ]
    return Section(
        paragraphs("## Accumulated rank and scaling", HOW_TO_READ, *parts) if parts else "", figures
    )


def draw_ranks(
    group: Group, rank: dict[str, pd.DataFrame], share: dict[str, pd.DataFrame], styles: Styles
) -> bytes:
    """One panel for each of the two that was measured."""
    panels = [
        (frames, label)
        for frames, label in (
            (rank, "accumulated rank, mean over layers"),
            (share, "non-negative share of layers"),
        )
        if frames
    ]

    def draw(canvas: Figure) -> None:
        for axes, (frames, label) in zip(
            canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            _panel(axes, frames, label, styles)
            if frames is share:
                axes.set_ylim(0, 1.03)
            elif spans_decades((v for frame in frames.values() for v in frame.to_numpy().ravel()), 20):
                log_values(axes, base=2)
                axes.yaxis.set_major_formatter("{x:g}")
        canvas.suptitle(group.name)

    return render(draw, (2 + 4 * len(panels), 3.8))


def scalars(suite: Suite) -> Section:
    """Every other number of the diagnostics."""
    rows = []
    for group in suite.groups:
        for adapter, runs in group.runs.items():
            blocks = [_numbers(run.diagnostics) for run in runs.values()]
            for key in sorted({key for block in blocks for key in block}):
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
    """Merged against unmerged: the worst difference, all flips."""
    rows = []
    for group in suite.groups:
        for adapter, runs in group.runs.items():
            checks = [run.merge_parity for run in runs.values() if run.merge_parity]
            if checks:
                largest = max(check.largest_logit_difference for check in checks)
                flips, items = (
                    sum(values) for values in zip(*((c.top1_flips, c.items) for c in checks), strict=True)
                )
                rows.append([group.name, adapter, f"{largest:.2g}", f"{flips} of {items}", str(len(checks))])
    if not rows:
        return Section("")
    header = ["task", "adapter", "largest logit difference", "top-1 flips", "runs"]
    note = (
        "The merged model against the model with its adapter, on fixed selection items; the largest over "
        "the seeds."
    )
    return Section(paragraphs("## Merge parity", note, table(header, rows, words=2)))


def _panel(axes: Axes, frames: dict[str, pd.DataFrame], label: str, styles: Styles) -> None:
    for adapter, frame in frames.items():
        draw_band(axes, frame, {"label": adapter, **styles.get(adapter, {"color": "#777777"})})
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(label)


def _rank_table(group: Group, adapters: Iterable[str]) -> str:
    header = [
        "adapter",
        "last step",
        "layers",
        "mean over layers",
        "largest layer",
        "non-negative share ×100",
    ]
    rows = []
    for adapter in dict.fromkeys(adapters):
        runs = group.runs[adapter].values()
        probes = [[found for found in run.observations if found.accumulated_rank] for run in runs]
        last = [found[-1] for found in probes if found]
        shares = [statistics.fmean(series) for run in runs if (series := _share_series(run)) is not None]
        rows.append(
            [
                adapter,
                " / ".join(str(step) for step in sorted({found.step for found in last})) or MISSING,
                " / ".join(str(size) for size in sorted({len(found.accumulated_rank) for found in last}))
                or MISSING,
                quantity(spread(statistics.fmean(found.accumulated_rank.values()) for found in last)),
                number(max((max(found.accumulated_rank.values()) for found in last), default=None)),
                score(spread(shares), fraction=True),
            ]
        )
    return table(header, rows)


def _frames(group: Group, series: Callable[[RunRecord], pd.Series | None]) -> dict[str, pd.DataFrame]:
    """Adapter -> one row a step, one column a seed, of the runs that have the series."""
    found = {
        adapter: {seed: column for seed, run in runs.items() if (column := series(run)) is not None}
        for adapter, runs in group.runs.items()
    }
    return {adapter: pd.DataFrame(columns) for adapter, columns in found.items() if columns}


def _rank_series(run: RunRecord) -> pd.Series | None:
    probed = [found for found in run.observations if found.accumulated_rank]
    if not probed:
        return None
    return pd.Series({found.step: statistics.fmean(found.accumulated_rank.values()) for found in probed})


def _share_series(run: RunRecord) -> pd.Series | None:
    block = run.diagnostics.get(SHARE)
    if not (isinstance(block, dict) and block.get("share")):
        return None
    return pd.Series(block["share"], block["step"], dtype=float)


def _smooth_share(run: RunRecord) -> pd.Series | None:
    share = _share_series(run)
    return None if share is None else pd.Series(smooth(share.tolist()), share.index)


def _numbers(block: dict[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in block.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
