"""The document: sections of blocks, each made once and rendered to Markdown and to the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rankbench.reports.render.figure import Figure


@dataclass(frozen=True)
class Table:
    """Cells are Markdown of one line; the first `words` columns are set left, the numbers right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


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
class Widget:
    """On the page, a template of `render/templates` filled with `values`; in Markdown, `plain`."""

    template: str
    values: Mapping[str, Any]
    plain: Sequence[Block] = ()


@dataclass(frozen=True)
class Section:
    """Blocks under a heading. A link to `anchor` leads here; a section's own is the name of its module."""

    title: str
    blocks: Sequence[Block]
    anchor: str = ""


Block: TypeAlias = str | Table | Picture | Folded | Widget | Section
"""A string is Markdown: paragraphs, which may link to anchors (`[words](#anchor)`)."""


def pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
    """Every picture, those of folded blocks and of sections within sections included."""
    for block in blocks:
        match block:
            case Picture():
                yield block
            case Folded() | Section():
                yield from pictures(block.blocks)
            case Widget():
                yield from pictures(block.plain)
