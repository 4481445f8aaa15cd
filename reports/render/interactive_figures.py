"""The report's figures for the page, each under the name that its SVG has without the ending."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import numpy as np

from rankbench.bench.records.schema import OverheadRecord
from rankbench.reports.claims.published import found_papers
from rankbench.reports.frames import BASELINE, Group, Suite
from rankbench.reports.render.heatmap import rank_maps
from rankbench.reports.render.interactive import UNSTYLED, Canvas, Json, bars, draw_bands, line, words
from rankbench.reports.render.plot import Styles, spans_decades
from rankbench.reports.sections.convergence import to_baseline
from rankbench.reports.sections.diagnostics import Panel, panels
from rankbench.reports.sections.overhead import FLOOR, TRAINER, peak_ratios, ratios
from rankbench.reports.sections.paper_figures import published_share
from rankbench.reports.sections.rank_sweep import Points, losses_at, norms_at
from rankbench.reports.stats.processes import Estimate
from rankbench.reports.stats.summary import smooth_losses

STEPS = "optimizer steps"


def figures(suite: Suite, styles: Styles) -> dict[str, Json]:
    """Name -> Plotly figure, of what was measured."""
    share = published_share(found_papers())
    found: dict[str, Canvas | None] = {}
    for group in suite.groups:
        if not group.is_rank_sweep:
            found[f"loss--{group.file_name}"] = losses(group, styles)
        found[f"rank--{group.file_name}"] = ranks(group, styles, share)
        found[f"heat--{group.file_name}"] = heat(group)
        found[f"ranks--{group.file_name}"] = sweep(group, styles)
    for record in suite.overhead:
        found[f"overhead--{record.name}"] = step_times(record, styles)
    return {name: canvas.figure() for name, canvas in found.items() if canvas}


def losses(group: Group, styles: Styles) -> Canvas | None:
    """Smoothed loss against steps; below it, the same relative to the baseline, seed by seed."""
    curves = {label: frame for label, runs in group.runs.items() if not (frame := smooth_losses(runs)).empty}
    if not curves:
        return None
    decades = spans_decades(value for frame in curves.values() for value in frame.to_numpy().ravel())
    relative = {}
    if group.baseline in curves:
        beside = curves[group.baseline]
        compared = {label: to_baseline(frame, beside, decades) for label, frame in curves.items()}
        relative = {label: frame for label, frame in compared.items() if not frame.empty}
    both = len(relative) > 1
    canvas = Canvas(2, 640, shared=True) if both else Canvas(1, 400)
    draw_bands(canvas, 0, curves, styles)
    canvas.axis("y", 0, "training loss", log=decades)
    if both:
        draw_bands(canvas, 1, relative, styles, geometric=decades)
        canvas.axis("y", 1, f"loss {'÷' if decades else '−'} loss of {group.baseline}", log=decades)
    canvas.axis("x", canvas.panels - 1, STEPS)
    return canvas


def ranks(group: Group, styles: Styles, share: float | None) -> Canvas | None:
    """Ranks, and the share of layers with a non-negative column system beside the paper's."""
    found = panels(group, share)
    if not found:
        return None
    canvas = Canvas(len(found), 110 + 240 * len(found), shared=True)
    for index, panel in enumerate(found):
        draw_bands(canvas, index, panel.frames, styles)
        _draw_levels(canvas, index, panel)
        values = (value for frame in panel.frames.values() for value in frame.to_numpy().ravel())
        title = f"({panel.letter}) {panel.label.partition(',')[0]}"
        if panel.is_share:
            canvas.axis("y", index, title, range=[0, 1.03])
        else:
            canvas.axis("y", index, title, log=spans_decades(values, 20))
    canvas.axis("x", canvas.panels - 1, STEPS)
    return canvas


def _draw_levels(canvas: Canvas, index: int, panel: Panel) -> None:
    """Horizontal lines to compare with, their names at the end."""
    steps = [step for frame in panel.frames.values() for step in frame.index.tolist()]
    for name, height in panel.levels.items():
        canvas.add(
            index,
            name,
            x=[min(steps), max(steps)],
            y=[height, height],
            mode="lines+text",
            text=["", words(name)],
            textposition="top left",
            line={"color": "#777777", "width": 1, "dash": "dash"},
            showlegend=False,
            hoverinfo="skip",
        )


def sweep(group: Group, styles: Styles) -> Canvas | None:
    """Final loss and gradient norm against the rank."""
    found = group.ranks
    if not found:
        return None
    canvas = Canvas(2, 600, shared=True)
    panels = ((losses_at, "final training loss"), (norms_at, "mean gradient norm"))
    for panel, (read, title) in enumerate(panels):
        measured: dict[str, Points] = {
            base: {rank: values for rank, name in labels.items() if (values := read(group, name))}
            for base, labels in found.items()
        }
        values = [x for points in measured.values() for seeds in points.values() for x in seeds]
        _draw_points(canvas, panel, measured, styles)
        canvas.axis("y", panel, title, log=spans_decades(values, 20))
    every = sorted({rank for labels in found.values() for rank in labels})
    for panel, title in enumerate(("", "rank r")):
        canvas.axis("x", panel, title, log=True, tickvals=every)
    return canvas


def _draw_points(canvas: Canvas, panel: int, measured: dict[str, Points], styles: Styles) -> None:
    """Mean over the seeds, from the smallest to the largest."""
    for base, points in measured.items():
        means = [statistics.fmean(values) for values in points.values()]
        low, high = [min(values) for values in points.values()], [max(values) for values in points.values()]
        look = styles.get(base, UNSTYLED)
        canvas.add(
            panel,
            base,
            x=list(points),
            y=means,
            error_y=bars(means, low, high, look["color"]),
            mode="lines+markers",
            line=line(look),
            marker={"size": 8, "color": look["color"]},
            hovertemplate="%{y:.4g} at rank %{x}",
        )


def step_times(record: OverheadRecord, styles: Styles) -> Canvas | None:
    """Step time relative to LoRA's and to the floor's, and memory to LoRA's, the fastest on top."""
    if record.growth or TRAINER in record.seconds or not (measured := ratios(record, BASELINE)):
        return None
    panels: dict[str, Mapping[str, Estimate]] = {
        f"step time ÷ {BASELINE}'s, same round": measured,
        f"step time ÷ {FLOOR}'s, same round": ratios(record, FLOOR),
        f"peak memory ÷ {BASELINE}'s": peak_ratios(record, BASELINE),
    }
    shown = {title: found for title, found in panels.items() if found}
    names = sorted(measured, key=lambda name: (-measured[name].middle, name))
    canvas = Canvas(len(shown), (70 + 28 * len(names)) * len(shown))
    for panel, (title, found) in enumerate(shown.items()):
        for name in (name for name in names if name in found):
            _draw_ratio(canvas, panel, name, found[name], styles.get(name, UNSTYLED)["color"])
        canvas.axis("x", panel, title)
        # A label like "1e-3" is no number.
        canvas.axis("y", panel, type="category")
    return canvas


def _draw_ratio(canvas: Canvas, panel: int, name: str, ratio: Estimate, colour: str) -> None:
    middle, low, high = ratio
    canvas.add(
        panel,
        name,
        x=[middle],
        y=[words(name)],
        error_x={} if low is None or high is None else bars([middle], [low], [high], colour),
        mode="markers",
        marker={"size": 9, "color": colour},
        showlegend=False,
        hovertemplate="%{y}: %{x:.3f}",
    )


def heat(group: Group) -> Canvas | None:
    """Singular values left by layer and module, an adapter a panel."""
    maps = rank_maps(group)
    if not maps:
        return None
    rows = sum(len(found.modules) for found in maps.values())
    canvas = Canvas(len(maps), 110 + 60 * len(maps) + 30 * rows)
    for panel, (label, found) in enumerate(maps.items()):
        ranks = [[None if math.isnan(rank) else rank for rank in row] for row in found.ranks.tolist()]
        canvas.add(
            panel,
            label,
            type="heatmap",
            x=found.layers,
            y=[words(module) for module in found.modules],
            z=ranks,
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            texttemplate="%{z:.2~g}",
            hovertemplate="%{y}, layer %{x}: %{z:.3~g}",
            showlegend=False,
        )
        canvas.axis("x", panel, f"layer ({label})", type="category", showgrid=False)
        canvas.axis("y", panel, type="category", autorange="reversed", showgrid=False)
    highest = max(found.initial or np.nanmax(found.ranks) for found in maps.values())
    scale = {"colorscale": "Viridis", "cmin": 0, "cmax": float(highest)}
    beside = {"title": {"text": "left", "side": "top"}, "thickness": 12, "outlinewidth": 0}
    canvas.layout["coloraxis"] = {**scale, "colorbar": beside}
    return canvas
