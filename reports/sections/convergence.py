"""How the training loss falls: curves, and what it takes to reach the baseline's final loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from rankbench.bench.records import RunRecord
from rankbench.reports.frames import Group
from rankbench.reports.frames.machine import machine
from rankbench.reports.render.blocks import Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Line, Panel, band, spans_decades
from rankbench.reports.render.limits import NAMES
from rankbench.reports.render.looks import Look, Looks, distinct
from rankbench.reports.render.numbers import MISSING, number, quantity
from rankbench.reports.render.words import listed, words
from rankbench.reports.stats.evidence import Unjudged
from rankbench.reports.stats.flattened import FLAT, LEAST, SURE, flattened
from rankbench.reports.stats.summary import final_losses, reach, smooth_losses, spread, window
from rankbench.reports.study import Study

REGRESSION = "linear-regression"
STEPS = "optimizer steps"


def section(study: Study) -> Section | None:
    """A table and, but for rank sweeps, a figure per task and protocol."""
    groups = [group for group in study.shown.groups if any(record.curve.loss for record in group.records)]
    parts = [_of_group(group, study.styles) for group in groups]
    costs = ", and step times under Overhead" if study.suite.overhead else ""
    how = [words("convergence", baseline=study.suite.baseline, costs=costs)]
    if any(_on_machines(runs) > 1 for group in groups for runs in group.runs.values()):
        how.append(words("convergence", "machines"))
    return Section("Convergence", [*how, *parts]) if parts else None


def _on_machines(runs: Mapping[int, RunRecord]) -> int:
    return len({machine(run.provenance) for run in runs.values()})


def _of_group(group: Group, styles: Looks) -> Section:
    shown: Picture | str
    if group.is_rank_sweep:
        shown = "The final losses are drawn against the rank under Rank sweep."
    elif is_regression(group):
        shown = "The losses are drawn under The papers' figures: they are ScaLoRA's figure 1."
    else:
        shown = losses(group, styles)
    return Section(f"{group.name}: training loss", [shown, *_length(group), _table(group)])


def _length(group: Group) -> Iterator[str]:
    """Whether the curves have flattened; nothing where they are too short to say."""
    told: dict[str, list[str]] = {}
    for label, runs in group.runs.items():
        curves = [run.curve.loss for run in runs.values()]
        if len({*map(len, curves)}) > 1 or len(curves[0]) < LEAST:
            continue
        found = flattened(curves)
        if isinstance(found, Unjudged):
            told.setdefault(found.reason, []).append(f"`{label}`")
        else:
            state = "flattened" if found.is_flat else "not yet"
            state = state if found.is_sure else "within the noise of it"
            percent = f"{100 * found.share:.1f} ± {100 * SURE * found.noise:.1f} %"
            told.setdefault(state, []).append(f"`{label}` ({percent})")
    if told:
        found_of = "; ".join(f"{state}: {listed(names)}" for state, names in told.items())
        yield words("convergence", "length", flat=FLAT, found=found_of[0].upper() + found_of[1:])


def is_regression(group: Group) -> bool:
    """Whether the task is the linear regression of ScaLoRA's figure 1."""
    return group.kind == REGRESSION


def losses(group: Group, styles: Looks) -> Picture:
    """Smoothed loss against steps; below it, the same relative to the baseline, seed by seed."""
    curves = {label: frame for label, runs in group.runs.items() if not (frame := smooth_losses(runs)).empty}
    if len(curves) > NAMES:
        curves = _lowest_first(curves, group.baseline)
    styles = distinct([*curves][:NAMES], styles)
    decades = spans_decades(value for frame in curves.values() for value in frame.to_numpy().ravel())
    baseline = curves.get(group.baseline or "", pd.DataFrame())
    compared = {label: to_baseline(frame, baseline, decades) for label, frame in curves.items()}
    relative = {label: frame for label, frame in compared.items() if not frame.empty}
    x, log = Axis(STEPS), 10 if decades else None
    draw = _mean if len(curves) > NAMES else band
    marks = [draw(styles[label], frame) for label, frame in curves.items()]
    panels = [Panel(marks, x, Axis("training loss", log), group.name)]
    if len(relative) > 1:
        y = Axis(f"loss {'÷' if decades else '−'} loss of {group.baseline}", log)
        marks = [draw(styles[label], frame, geometric=decades) for label, frame in relative.items()]
        panels.append(Panel(marks, x, y))
    figure = Figure(panels, (8.5, 6.5 if len(panels) > 1 else 4), shared="x")
    caption = _caption(group, compared=len(panels) > 1)
    return Picture(f"loss--{group.file_name}", f"Training loss on {group.name}", caption, figure)


def _mean(look: Look, frame: pd.DataFrame, *, geometric: bool = False) -> Line:
    """Without its band: of so many methods nothing would be seen below theirs."""
    return replace(band(look, frame, geometric=geometric), low=(), high=())


def _lowest_first(curves: Mapping[str, pd.DataFrame], baseline: str | None) -> dict[str, pd.DataFrame]:
    """In the order of the final losses, after the baseline: the first ones are drawn."""
    final = {label: float(frame.iloc[-1].mean()) for label, frame in curves.items()}
    return {label: curves[label] for label in sorted(curves, key=lambda one: (one != baseline, final[one]))}


def to_baseline(frame: pd.DataFrame, baseline: pd.DataFrame, ratio: bool) -> pd.DataFrame:
    """Losses relative to the baseline's, seed by seed: their ratio or their difference."""
    seeds, steps = frame.columns.intersection(baseline.columns), frame.index.union(baseline.index)
    own, other = (each.reindex(index=steps, columns=seeds).to_numpy() for each in (frame, baseline))
    with np.errstate(divide="ignore", invalid="ignore"):
        compared = own / other if ratio else own - other
    # Before the first whole window, single batches would set the scale of the panel.
    shown = slice(window(len(compared)) - 1, None)
    whole = ~np.isnan(compared[shown]).any(axis=1)
    return pd.DataFrame(compared[shown][whole], steps[shown][whole], seeds)


def _caption(group: Group, compared: bool) -> str:
    counts = sorted({len(runs) for runs in group.runs.values()})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    below = f" Below: relative to {group.baseline} with the same seed, whole windows." if compared else ""
    if len(group.runs) > NAMES:
        return f"Line: mean over the seeds ({seeds}).{below} Of so many methods, those that end lowest."
    return f"Line: mean over the seeds ({seeds}); band: smallest to largest.{below}"


def _table(group: Group) -> Table:
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
    return Table(header, rows)


def _reach_cells(runs: Mapping[int, RunRecord], levels: Mapping[int, float]) -> list[str]:
    """Steps and seconds to the level of the same seed."""
    seeds = [seed for seed, run in runs.items() if seed in levels and run.curve.loss]
    reached = [found for seed in seeds if (found := reach(runs[seed].curve, levels[seed]))]
    if not reached:
        return [MISSING, MISSING]
    steps = [float(found.step) for found in reached]
    alike = _on_machines(runs) == 1
    seconds = [found.seconds for found in reached if alike and found.seconds is not None]
    if len(reached) == len(seeds):
        return [quantity(spread(steps)), quantity(spread(seconds))]
    share = f"({len(reached)} of {len(seeds)})"
    return [
        f"{number(value.mean)} {share}" if value else MISSING for value in (spread(steps), spread(seconds))
    ]
