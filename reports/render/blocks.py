"""The document: sections of blocks, each made once and rendered to Markdown and to the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from rankbench.reports.render.figure import Figure


class Strip(NamedTuple):
    """A cell that draws a mean and its interval, each in percent of the cell's width."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Table:
    """Cells are Markdown of one line; the first `words` columns are set left, the numbers right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Strip]]
    words: int = 1
    choose: Sequence[str] = ()
    """Columns by whose values the page lets choose rows."""
    search: str = ""
    """The column that the page searches, in place of the whole row."""


@dataclass(frozen=True)
class Picture:
    """A figure, `figures/NAME.svg` beside the Markdown and interactive on the page."""

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class PageOnly:
    """Blocks that the Markdown has no use for: it cannot sort, filter or choose."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Choice:
    """Figures, of which the page shows those of one option at a time; title -> figure for each option."""

    label: str
    options: Mapping[str, Mapping[str, Figure]]


@dataclass(frozen=True)
class Section:
    """Blocks under a heading. A link to `anchor` leads here; a section's own is the name of its module."""

    title: str
    blocks: Sequence[Block]
    anchor: str = ""


Block: TypeAlias = str | Table | Picture | Folded | PageOnly | Choice | Section
"""A string is Markdown: paragraphs, which may link to anchors (`[words](#anchor)`)."""


def pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
    """Those of the Markdown, in folded blocks and in sections within sections too."""
    for block in blocks:
        match block:
            case Picture():
                yield block
            case Folded() | Section():
                yield from pictures(block.blocks)
