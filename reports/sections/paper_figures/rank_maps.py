"""Ranks left over layers and modules, of adapters that prune, as maps: LoRA²'s figure 3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankbench.bench.records import RunRecord
from rankbench.reports.frames import Group
from rankbench.reports.render.figure import Axis, Figure, Heat, Panel

RANK = "rank"
"""The diagnostic: layer -> singular values left."""
PLACE = re.compile(r"(?:(?P<stack>.*?)\.)?(?P<layer>\d+)\.(?P<module>.+)")
"""The first number of a name is its layer: `encoder.layer.3.attention.self.query`."""


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
    initial = next(iter(runs.values())).rank
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


def drawn(title: str, maps: Mapping[str, RankMap]) -> Figure:
    """A panel a map, with a common scale of colours."""
    highest = float(max(found.initial or np.nanmax(found.ranks) for found in maps.values()))
    rows = sum(len(found.modules) for found in maps.values())
    columns = max(len(found.layers) for found in maps.values())
    last = list(maps)[-1]
    panels = []
    for label, found in maps.items():
        cells = [[None if np.isnan(rank) else rank for rank in row] for row in found.ranks.tolist()]
        x = Axis("layer" if label == last else "", categories=found.layers)
        heat = Heat(cells, highest, "singular values left")
        panels.append(Panel([heat], x, Axis(categories=found.modules), label))
    return Figure(panels, (3.4 + 0.42 * columns, 1.1 + 0.7 * len(maps) + 0.36 * rows), title)
