"""The report's figures for the page, each under the name that its SVG has without the ending."""

from __future__ import annotations

import statistics
from typing import Any

import plotly.graph_objects as go

from bench.record import OverheadRecord
from reports.convergence import _to_baseline
from reports.diagnostics import _frames, _rank_series, _smooth_share
from reports.interactive import UNSTYLED, axes, bars, canvas, draw_bands, line, name_axes, plain, words
from reports.load import BASELINE, Group, Suite
from reports.overhead import FLOOR, TRAINER, ratios
from reports.plot import Styles, spans_decades
from reports.stats import smooth_losses
from reports.sweep import Points, _losses, _norms, _sweeps

STEPS = "optimizer steps"


def figures(suite: Suite, styles: Styles) -> dict[str, dict[str, Any]]:
    """Name -> Plotly figure, of what was measured."""
    found: dict[str, go.Figure | None] = {}
    for group in suite.groups:
        if not group.is_rank_sweep:
            found[f"loss--{group.file_name}"] = losses(group, styles)
        found[f"rank--{group.file_name}"] = ranks(group, styles)
        found[f"ranks--{group.file_name}"] = sweep(group, styles)
    for record in suite.overhead:
        found[f"overhead--{record.name}"] = step_times(record, styles)
    return {name: plain(figure) for name, figure in found.items() if figure}


def losses(group: Group, styles: Styles) -> go.Figure | None:
    """Smoothed loss against steps; below it, the same relative to the baseline, seed by seed."""
    curves = {label: frame for label, runs in group.runs.items() if not (frame := smooth_losses(runs)).empty}
    if not curves:
        return None
    decades = spans_decades(value for frame in curves.values() for value in frame.to_numpy().ravel())
    relative = {}
    if BASELINE in curves:
        compared = {label: _to_baseline(frame, curves[BASELINE], decades) for label, frame in curves.items()}
        relative = {label: frame for label, frame in compared.items() if not frame.empty}
    both = len(relative) > 1
    figure = canvas(2 if both else 1, 640 if both else 400, shared=True)
    draw_bands(figure, 0, curves, styles)
    name_axes(figure, 0, None if both else STEPS, "training loss", log=decades)
    if both:
        draw_bands(figure, 1, relative, styles)
        name_axes(figure, 1, STEPS, f"loss {'÷' if decades else '−'} loss of {BASELINE}", log=decades)
    return figure


def ranks(group: Group, styles: Styles) -> go.Figure | None:
    """Accumulated rank, and the share of layers with a non-negative column system."""
    rank, share = _frames(group, _rank_series), _frames(group, _smooth_share)
    panels = [
        (frames, label)
        for frames, label in ((rank, "accumulated rank"), (share, "non-negative share"))
        if frames
    ]
    if not panels:
        return None
    figure = canvas(len(panels), 110 + 240 * len(panels), shared=True)
    for panel, (frames, label) in enumerate(panels):
        values = [value for frame in frames.values() for value in frame.to_numpy().ravel()]
        draw_bands(figure, panel, frames, styles)
        below = STEPS if panel == len(panels) - 1 else None
        name_axes(figure, panel, below, label, log=frames is rank and spans_decades(values, 20))
    if share:
        figure.update_layout({f"yaxis{len(panels) if len(panels) > 1 else ''}": {"range": [0, 1.03]}})
    return figure


def sweep(group: Group, styles: Styles) -> go.Figure | None:
    """Final loss and gradient norm against the rank."""
    found = _sweeps(group)
    if not found:
        return None
    figure = canvas(2, 600, shared=True)
    for panel, (read, label) in enumerate(((_losses, "final training loss"), (_norms, "mean gradient norm"))):
        measured: dict[str, Points] = {
            base: {rank: values for rank, name in labels.items() if (values := read(group, name))}
            for base, labels in found.items()
        }
        _draw_points(figure, panel, measured, styles)
        values = [x for points in measured.values() for seeds in points.values() for x in seeds]
        name_axes(figure, panel, "rank r" if panel else None, label, log=spans_decades(values, 20))
    every = sorted({rank for labels in found.values() for rank in labels})
    ticks = {"type": "log", "tickvals": every, "ticktext": [str(rank) for rank in every]}
    figure.update_layout(xaxis=ticks, xaxis2=ticks)
    return figure


def _draw_points(figure: go.Figure, panel: int, measured: dict[str, Points], styles: Styles) -> None:
    """Mean over the seeds, from the smallest to the largest."""
    for base, points in measured.items():
        means = [statistics.fmean(values) for values in points.values()]
        low, high = [min(values) for values in points.values()], [max(values) for values in points.values()]
        look = styles.get(base, UNSTYLED)
        figure.add_scatter(
            x=list(points),
            y=means,
            error_y=bars(means, low, high, look["color"]),
            mode="lines+markers",
            line=line(look),
            marker={"size": 8, "color": look["color"]},
            name=words(base),
            legendgroup=base,
            showlegend=panel == 0,
            hovertemplate="%{y:.4g} at rank %{x}",
            **axes(panel),
        )


def step_times(record: OverheadRecord, styles: Styles) -> go.Figure | None:
    """Quartiles of the step time relative to LoRA's and to the floor's, the cheapest on top."""
    if record.growth or TRAINER in record.seconds:
        return None
    panels = {to: measured for to in (BASELINE, FLOOR) if (measured := ratios(record, to))}
    if BASELINE not in panels:
        return None
    figure = canvas(len(panels), (70 + 28 * len(record.seconds)) * len(panels))
    for panel, (to, measured) in enumerate(panels.items()):
        names = sorted(measured, key=lambda name: (-measured[name].median, name))
        for name in names:
            low, median, high = measured[name]
            colour = styles.get(name, UNSTYLED)["color"]
            figure.add_scatter(
                x=[median],
                y=[words(name)],
                error_x=bars([median], [low], [high], colour),
                mode="markers",
                marker={"size": 9, "color": colour},
                name=words(name),
                showlegend=False,
                hovertemplate="%{y}: %{x:.3f}",
                **axes(panel),
            )
        name_axes(figure, panel, f"step time ÷ {to}'s, same round", "")
        index = "" if panel == 0 else str(panel + 1)
        # A label like "1e-3" is no number.
        figure.update_layout({f"yaxis{index}": {"type": "category"}})
    return figure
