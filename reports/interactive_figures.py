"""The report's figures for the page, each under the name that its SVG has without the ending."""

from __future__ import annotations

import statistics

from bench.record import OverheadRecord
from reports.convergence import _to_baseline
from reports.diagnostics import _frames, _rank_series, _smooth_share
from reports.interactive import UNSTYLED, Canvas, Json, bars, draw_bands, line, words
from reports.load import BASELINE, Group, Suite
from reports.overhead import FLOOR, TRAINER, ratios
from reports.plot import Styles, spans_decades
from reports.stats import smooth_losses
from reports.sweep import Points, _losses, _norms, _sweeps

STEPS = "optimizer steps"


def figures(suite: Suite, styles: Styles) -> dict[str, Json]:
    """Name -> Plotly figure, of what was measured."""
    found: dict[str, Canvas | None] = {}
    for group in suite.groups:
        if not group.is_rank_sweep:
            found[f"loss--{group.file_name}"] = losses(group, styles)
        found[f"rank--{group.file_name}"] = ranks(group, styles)
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
    if BASELINE in curves:
        compared = {label: _to_baseline(frame, curves[BASELINE], decades) for label, frame in curves.items()}
        relative = {label: frame for label, frame in compared.items() if not frame.empty}
    both = len(relative) > 1
    canvas = Canvas(2, 640, shared=True) if both else Canvas(1, 400)
    draw_bands(canvas, 0, curves, styles)
    canvas.axis("y", 0, "training loss", log=decades)
    if both:
        draw_bands(canvas, 1, relative, styles)
        canvas.axis("y", 1, f"loss {'÷' if decades else '−'} loss of {BASELINE}", log=decades)
    canvas.axis("x", canvas.panels - 1, STEPS)
    return canvas


def ranks(group: Group, styles: Styles) -> Canvas | None:
    """Accumulated rank, and the share of layers with a non-negative column system."""
    rank, share = _frames(group, _rank_series), _frames(group, _smooth_share)
    panels = len([frames for frames in (rank, share) if frames])
    if not panels:
        return None
    canvas = Canvas(panels, 110 + 240 * panels, shared=True)
    if rank:
        values = (value for frame in rank.values() for value in frame.to_numpy().ravel())
        draw_bands(canvas, 0, rank, styles)
        canvas.axis("y", 0, "accumulated rank", log=spans_decades(values, 20))
    if share:
        draw_bands(canvas, panels - 1, share, styles)
        canvas.axis("y", panels - 1, "non-negative share", range=[0, 1.03])
    canvas.axis("x", panels - 1, STEPS)
    return canvas


def sweep(group: Group, styles: Styles) -> Canvas | None:
    """Final loss and gradient norm against the rank."""
    found = _sweeps(group)
    if not found:
        return None
    canvas = Canvas(2, 600, shared=True)
    panels = ((_losses, "final training loss"), (_norms, "mean gradient norm"))
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
    """Quartiles of the step time relative to LoRA's and to the floor's, the cheapest on top."""
    if record.growth or TRAINER in record.seconds:
        return None
    panels = {to: measured for to in (BASELINE, FLOOR) if (measured := ratios(record, to))}
    if BASELINE not in panels:
        return None
    canvas = Canvas(len(panels), (70 + 28 * len(record.seconds)) * len(panels))
    for panel, (to, measured) in enumerate(panels.items()):
        for name in sorted(measured, key=lambda name: (-measured[name].median, name)):
            low, median, high = measured[name]
            colour = styles.get(name, UNSTYLED)["color"]
            canvas.add(
                panel,
                name,
                x=[median],
                y=[words(name)],
                error_x=bars([median], [low], [high], colour),
                mode="markers",
                marker={"size": 9, "color": colour},
                showlegend=False,
                hovertemplate="%{y}: %{x:.3f}",
            )
        canvas.axis("x", panel, f"step time ÷ {to}'s, same round")
        # A label like "1e-3" is no number.
        canvas.axis("y", panel, type="category")
    return canvas
