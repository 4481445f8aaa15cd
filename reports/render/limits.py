"""What keeps the report of very many runs readable: how much of it is listed and drawn, and a word where that
is not all. The records hold the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from rankbench.reports.render.blocks import Block, Choice, Folded, PageOnly, Picture, Section, Table, pictures
from rankbench.reports.render.figure import Figure, Heat, Level, Mark, Panel, Row

ROWS = 200
"""Of a table."""
PAGE_ROWS = 2000
"""Of one that the page alone has, where it is searched and sorted."""
PICTURES = 12
"""Of a kind in a section: its losses, say, a figure a task."""
CLAIM = "claim"
"""The kind that is not limited: there are as many as claims, whatever was run."""
PANELS = 12
"""Of a figure."""
NAMES = 16
"""That a figure's legend tells apart; the baseline is the first."""
CATEGORIES = 48
"""From top to bottom of a panel."""


def limited(section: Section) -> Section:
    """A section of the report with no more in it than can be read."""
    return replace(section, blocks=[*_blocks(section.blocks, _drawn(section), ROWS)])


def _drawn(section: Section) -> set[str]:
    """Names of the pictures that stay; what stands before `--` in one is its kind."""
    of_a_kind: dict[str, list[str]] = defaultdict(list)
    for picture in pictures([section]):
        of_a_kind[picture.name.partition("--")[0]].append(picture.name)
    return {
        name for kind, names in of_a_kind.items() for name in names[: None if kind == CLAIM else PICTURES]
    }


def _blocks(blocks: Sequence[Block], drawn: set[str], rows: int) -> Iterator[Block]:
    for block in blocks:
        match block:
            case Table():
                yield replace(block, rows=block.rows[:rows])
                if len(block.rows) > rows:
                    yield f"The first {rows:,} of {len(block.rows):,} rows."
            case Picture() if block.name not in drawn:
                yield f"*{block.title}: not drawn, as the first {PICTURES} of the kind are.*"
            case Picture():
                caption = " ".join([block.caption, *_left_out(block.figure)])
                yield replace(block, caption=caption, figure=fewer(block.figure))
            case Choice():
                options = {
                    name: {title: fewer(figure) for title, figure in islice(figures.items(), PICTURES)}
                    for name, figures in block.options.items()
                }
                yield replace(block, options=options)
            case PageOnly():
                yield replace(block, blocks=[*_blocks(block.blocks, drawn, PAGE_ROWS)])
            case Folded() | Section():
                yield replace(block, blocks=[*_blocks(block.blocks, drawn, rows)])
            case str():
                yield block


def fewer(figure: Figure) -> Figure:
    """The figure's first panels, and of these the first names and categories."""
    names = set(_names(figure)[:NAMES])
    panels = [_fewer(panel, names) for panel in figure.panels[:PANELS]]
    width, height = figure.size
    if not figure.beside:
        height *= len(panels) / len(figure.panels)
    if (rows := _rows(figure)) > CATEGORIES:
        height *= CATEGORIES / rows
    return replace(figure, panels=panels, size=(width, height))


def _fewer(panel: Panel, names: set[str]) -> Panel:
    if _is_map(panel):
        return panel
    categories = panel.y.categories[:CATEGORIES]

    def stays(mark: Mark) -> bool:
        if isinstance(mark, Row):
            return mark.name in categories
        return isinstance(mark, (Level, Heat)) or mark.look.name in names

    return replace(panel, marks=[*filter(stays, panel.marks)], y=replace(panel.y, categories=categories))


def _is_map(panel: Panel) -> bool:
    """Whether its categories are the layers of a model, each a row of cells."""
    return any(isinstance(mark, Heat) for mark in panel.marks)


def _rows(figure: Figure) -> int:
    """Most categories of a panel."""
    return max((len(panel.y.categories) for panel in figure.panels if not _is_map(panel)), default=0)


def _names(figure: Figure) -> list[str]:
    """Of what has one in the legend, each once."""
    marks = (mark for panel in figure.panels for mark in panel.marks)
    return list(dict.fromkeys(mark.look.name for mark in marks if not isinstance(mark, (Level, Heat, Row))))


def _left_out(figure: Figure) -> Iterator[str]:
    counts = (
        ("panels", len(figure.panels), PANELS),
        ("methods", len(_names(figure)), NAMES),
        ("rows", _rows(figure), CATEGORIES),
    )
    for noun, count, most in counts:
        if count > most:
            yield f"Drawn are the first {most} of {count} {noun}."
