"""How the training loss falls: curves, and what it takes to reach LoRA's final loss."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from rankbench.bench.records.schema import RunRecord
from rankbench.reports.frames import BASELINE, Group, Suite
from rankbench.reports.render.markdown import MISSING, Section, figure, number, paragraphs, quantity, table
from rankbench.reports.render.plot import Styles, draw_band, log_values, render, spans_decades
from rankbench.reports.stats.summary import final_losses, reach, smooth_losses, spread, window

REGRESSION = "linear-regression"

HOW_TO_READ = (
    "Losses are task losses of the training batches, without penalties, smoothed by a trailing mean over a "
    "tenth of the steps. The final loss is the mean of the last tenth. Steps and seconds to "
    f"{BASELINE}'s loss: the first step whose whole smoothing window is at or below the final loss that "
    f"{BASELINE} has with the same seed (its own row says when it first came so far down itself); “k of "
    "n” where only k of n seeds came there, “–” where none did. Seconds are those of each run's own steps, "
    "not measured side by side: compare steps here, and step times under Overhead."
)


def convergence(suite: Suite, styles: Styles) -> Section:
    """A table and, but for rank sweeps, a figure per task and protocol."""
    groups = [group for group in suite.groups if any(record.curve.loss for record in group.records)]
    if not groups:
        return Section("")
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for group in groups:
        parts.append(f"### {group.name}: training loss")
        if group.is_rank_sweep:
            parts.append("The final losses are drawn against the rank under Rank sweep.")
        elif is_regression(group):
            parts.append("The losses are drawn under The papers' figures: they are ScaLoRA's figure 1.")
        else:
            drawn = loss_figure(group, styles)
            parts.append(drawn.text)
            figures |= drawn.figures
        parts.append(_table(group))
    return Section(paragraphs("## Convergence", HOW_TO_READ, *parts), figures)


def is_regression(group: Group) -> bool:
    """Whether the task is the linear regression of ScaLoRA's figure 1."""
    return any(record.config.get("task", {}).get("task") == REGRESSION for record in group.records)


def loss_figure(group: Group, styles: Styles) -> Section:
    """The training losses, with their caption."""
    name = f"loss--{group.file_name}.svg"
    text = figure(name, f"Training loss on {group.name}", _caption(group))
    return Section(text, {name: draw_losses(group, styles)})


def draw_losses(group: Group, styles: Styles) -> bytes:
    """Smoothed loss against steps; below it, the same relative to the baseline, seed by seed."""
    curves = {
        adapter: frame for adapter, runs in group.runs.items() if not (frame := smooth_losses(runs)).empty
    }
    decades = spans_decades(value for frame in curves.values() for value in frame.to_numpy().ravel())
    baseline = curves.get(group.baseline or "", pd.DataFrame())
    compared = {adapter: to_baseline(frame, baseline, decades) for adapter, frame in curves.items()}
    relative = {adapter: frame for adapter, frame in compared.items() if not frame.empty}

    def draw(canvas: Figure) -> None:
        panels = canvas.subplots(2 if len(relative) > 1 else 1, 1, sharex=True, squeeze=False)[:, 0]
        panels[0].set_ylabel("training loss")
        for adapter, frame in curves.items():
            draw_band(panels[0], frame, styles[adapter])
        if decades:
            log_values(panels[0])
        if len(panels) > 1:
            panels[1].set_ylabel(f"loss {'÷' if decades else '−'} loss of {group.baseline}")
            for adapter, frame in relative.items():
                draw_band(panels[1], frame, styles[adapter], geometric=decades)
            if decades:
                log_values(panels[1])
        panels[0].set_title(group.name)
        panels[-1].set_xlabel("optimizer steps")

    return render(draw, (8.5, 6.5) if len(relative) > 1 else (8.5, 4))


def to_baseline(frame: pd.DataFrame, baseline: pd.DataFrame, ratio: bool) -> pd.DataFrame:
    """Losses relative to the baseline's, seed by seed: their ratio or their difference."""
    seeds = frame.columns.intersection(baseline.columns)
    compared = frame[seeds] / baseline[seeds] if ratio else frame[seeds] - baseline[seeds]
    # Before the first whole window, single batches would set the scale of the panel.
    return compared.iloc[window(len(compared)) - 1 :].dropna(how="any")


def _caption(group: Group) -> str:
    counts = sorted({len(runs) for runs in group.runs.values()})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    below = (
        f" Below: relative to {group.baseline} with the same seed, whole windows." if group.baseline else ""
    )
    return f"Line: mean over the seeds ({seeds}); band: smallest to largest.{below}"


def _table(group: Group) -> str:
    has_penalty = any(value for record in group.records for value in record.curve.penalty)
    beside = group.baseline
    header = ["adapter", "final loss"]
    header += [f"steps to {beside}'s", f"seconds to {beside}'s"] if beside else []
    header += ["penalty at first step", "penalty at last step"] if has_penalty else []
    baseline = final_losses(group.runs[beside]) if beside else {}
    rows = []
    for adapter, runs in group.runs.items():
        row = [adapter, quantity(spread(final_losses(runs).values()))]
        row += _reach_cells(runs, baseline) if beside else []
        if has_penalty:
            penalties = [run.curve.penalty for run in runs.values() if any(run.curve.penalty)]
            row += [quantity(spread(penalty[at] for penalty in penalties)) for at in (0, -1)]
        rows.append(row)
    return table(header, rows)


def _reach_cells(runs: Mapping[int, RunRecord], levels: Mapping[int, float]) -> list[str]:
    """Steps and seconds to the level of the same seed."""
    seeds = [seed for seed, run in runs.items() if seed in levels and run.curve.loss]
    reached = [found for seed in seeds if (found := reach(runs[seed].curve, levels[seed]))]
    if not reached:
        return [MISSING, MISSING]
    steps = [float(found.step) for found in reached]
    seconds = [found.seconds for found in reached if found.seconds is not None]
    if len(reached) == len(seeds):
        return [quantity(spread(steps)), quantity(spread(seconds))]
    share = f"({len(reached)} of {len(seeds)})"
    return [
        f"{number(value.mean)} {share}" if value else MISSING for value in (spread(steps), spread(seconds))
    ]
