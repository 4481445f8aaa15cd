"""Ranks left over layers and modules, of adapters that prune: LoRA²'s figure 3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rankbench.bench.records.schema import RunRecord
from rankbench.reports.frames import Group
from rankbench.reports.render.plot import render

RANK = "rank"
"""The diagnostic: layer -> singular values left."""
PLACE = re.compile(r"(?:(?P<stack>.*?)\.)?(?P<layer>\d+)\.(?P<module>.+)")
"""The first number of a name is its layer: `encoder.layer.3.attention.self.query`."""
COLOURS = colormaps["viridis"].resampled(32)
"""Light is a high rank, as in the paper's figure. So few colours that the legend is drawn, not stored as
a picture, whose bytes could differ from machine to machine."""


class RankMap(NamedTuple):
    """Singular values left after training."""

    layers: list[str]
    """Columns: the model's layers by their index, at last an empty one of the modules outside of them."""
    modules: list[str]
    """Rows: the rest of the names, in the model's order."""
    ranks: NDArray[np.float64]
    """Mean over the seeds, (modules, layers); NaN where there is no such layer."""
    initial: int | None
    """The rank before pruning."""
    seeds: int


def rank_maps(group: Group) -> dict[str, RankMap]:
    """Adapter -> its map, of the adapters whose runs say what rank each layer was left."""
    found = {label: rank_map(runs) for label, runs in group.runs.items()}
    return {label: ranks for label, ranks in found.items() if ranks}


def rank_map(runs: Mapping[int, RunRecord]) -> RankMap | None:
    """The map of one adapter's runs (by seed), of those that have one."""
    left = [run.diagnostics[RANK] for run in runs.values() if isinstance(run.diagnostics.get(RANK), dict)]
    if not left:
        return None
    places = _places(name for ranks in left for name in ranks)
    layers = sorted({layer for layer, _ in places.values()}, key=lambda layer: (not layer, int(layer or 0)))
    modules = list(dict.fromkeys(module for _, module in places.values()))
    means = np.full((len(modules), len(layers)), np.nan)
    for name, (layer, module) in places.items():
        values = [ranks[name] for ranks in left if name in ranks]
        means[modules.index(module), layers.index(layer)] = np.mean(values)
    initial = next(iter(runs.values())).config.get("adapter", {}).get("rank")
    return RankMap(layers, modules, means, initial, len(left))


def _places(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> layer and module; modules of several stacks, encoder and decoder, are told apart."""
    matches = {name: PLACE.fullmatch(name) for name in names}
    stacks = {match["stack"] for match in matches.values() if match}
    places = {}
    for name, match in matches.items():
        if not match:
            places[name] = ("", name)
        elif len(stacks) > 1:
            places[name] = (match["layer"], f"{match['stack']}: {match['module']}")
        else:
            places[name] = (match["layer"], match["module"])
    return places


def draw_rank_maps(title: str, maps: Mapping[str, RankMap]) -> bytes:
    """One panel a map, one below the other, with a common scale of colours."""
    highest = max(found.initial or np.nanmax(found.ranks) for found in maps.values())
    rows = sum(len(found.modules) for found in maps.values())
    columns = max(len(found.layers) for found in maps.values())

    def draw(canvas: Figure) -> None:
        heights = [len(found.modules) for found in maps.values()]
        panels = canvas.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (label, found) in zip(panels, maps.items(), strict=True):
            mesh = axes.pcolormesh(found.ranks, cmap=COLOURS, vmin=0, vmax=highest, edgecolors="white")
            _name_cells(axes, found, highest)
            axes.set_title(label)
        panels[-1].set_xlabel("layer")
        canvas.colorbar(mesh, ax=list(panels), label="singular values left")
        canvas.suptitle(title)

    return render(draw, (3.4 + 0.42 * columns, 1.1 + 0.7 * len(maps) + 0.36 * rows))


def _name_cells(axes: Axes, found: RankMap, highest: float) -> None:
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(found.layers)) + 0.5, found.layers)
    axes.set_yticks(np.arange(len(found.modules)) + 0.5, found.modules)
    for (row, column), rank in np.ndenumerate(found.ranks):
        if np.isfinite(rank):
            colour = "black" if rank > 0.6 * highest else "white"
            axes.text(
                column + 0.5, row + 0.5, f"{rank:.2g}", ha="center", va="center", color=colour, fontsize=8
            )
