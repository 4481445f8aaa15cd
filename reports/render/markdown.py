"""The document as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from tabulate import tabulate

from rankbench.reports.render import blocks

MARKS = re.compile(r"\*|<(?=[A-Za-z/!?])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\\(?=[!-/:-@[-`{-~])")
"""What Markdown would take for a mark of its own in somebody else's words; a backslash before a sign is."""


def document(title: str, sections: Mapping[str, blocks.Section]) -> str:
    """The whole report; each section's anchor is its key."""
    made = (section(replace(each, anchor=anchor)) for anchor, each in sections.items())
    return paragraphs(f"# {title}", *made) + "\n"


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
            return f"![{title}](figures/{quote(name)}.svg)\n\n*{title}. {caption}*"
        case blocks.Folded(summary, inner):
            opened = f"<details>\n<summary>{summary}</summary>"
            return paragraphs(opened, *(block(each, level) for each in inner), "</details>")
        case blocks.PageOnly() | blocks.Choice():
            return ""
        case blocks.Section():
            return section(made, level)


def paragraphs(*parts: str) -> str:
    """Blocks with a blank line between them; empty blocks vanish."""
    return "\n\n".join(part for part in parts if part)


def literal(text: str) -> str:
    """Somebody else's words as Markdown that shows them as they are: `*args`, `__init__`, `<class …>`,
    a regular expression."""
    return MARKS.sub(r"\\\g<0>", text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A pipe table; the first `words` columns are words, the others numbers, set to the right."""
    align = ["left" if column < words else "right" for column in range(len(header))]
    escaped = [[_escape(cell) for cell in row] for row in rows]
    return tabulate(
        escaped, [_escape(name) for name in header], tablefmt="pipe", colalign=align, disable_numparse=True
    )


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", r"\|")
