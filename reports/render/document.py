"""The document as Markdown, and its pictures as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rankbench.reports.render import blocks
from rankbench.reports.render.markdown import figure, paragraphs, table
from rankbench.reports.render.svg import svg


def document(title: str, sections: Mapping[str, blocks.Section]) -> str:
    """The whole report; each section's anchor is its key."""
    return (
        paragraphs(
            f"# {title}", *(section(replace(made, anchor=anchor)) for anchor, made in sections.items())
        )
        + "\n"
    )


def images(sections: Mapping[str, blocks.Section]) -> dict[str, bytes]:
    """File name -> SVG, of every figure that the document shows."""
    return {
        f"{picture.name}.svg": svg(picture.figure) for picture in blocks.pictures(list(sections.values()))
    }


def section(made: blocks.Section, level: int = 2) -> str:
    """A section under a heading of the level, with the mark that links to it lead to; nothing where the
    page alone shows it."""
    mark = f'<a id="{made.anchor}"></a>' if made.anchor else ""
    content = paragraphs(*(block(each, level + 1) for each in made.blocks))
    return paragraphs(mark, f"{'#' * level} {made.title}", content) if content else ""


def block(made: blocks.Block, level: int = 3) -> str:
    """A block; `level` is that of the headings in it."""
    match made:
        case str():
            return made
        case blocks.Table(header, rows, words):
            return table(header, [[str(cell) for cell in row] for row in rows], words)
        case blocks.Picture(name, title, caption):
            return figure(f"{name}.svg", title, caption)
        case blocks.Folded(summary, inner):
            opened = f"<details>\n<summary>{summary}</summary>"
            return paragraphs(opened, *(block(each, level) for each in inner), "</details>")
        case blocks.PageOnly() | blocks.Choice():
            return ""
        case blocks.Section():
            return section(made, level)
