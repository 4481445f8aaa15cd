"""A reader of the page, apart from the code that writes it: tags in balance, tables, stored figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Table:
    section: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def by(self, column: str) -> list[dict[str, str]]:
        """The rows as dictionaries; raises if the column is not there."""
        assert column in self.header, self.header
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]


class Page(HTMLParser):
    """Parses a whole page; AssertionError where a tag is not closed, or closed twice."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.tables: list[Table] = []
        self.figures: dict[str, dict[str, Any]] = {}
        self._section = self._figure = ""
        self._stored: list[str] | None = None
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute of {tag} twice"
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = str(given["id"])
            assert self._section not in self.sections
            self.sections[self._section] = ""
        elif tag == "table":
            self.tables.append(Table(self._section))
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif given.get("class") == "figure":
            self._figure = str(given["aria-label"])
        elif given.get("type") == "application/json":
            self._stored = []

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open.pop()
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1].rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        elif tag == "thead":
            self.tables[-1].header = self.tables[-1].rows.pop()
        elif tag == "script" and self._stored is not None:
            assert self._figure not in self.figures, f"two figures of the title {self._figure}"
            self.figures[self._figure] = json.loads("".join(self._stored))
            self._stored = None

    def handle_data(self, data: str) -> None:
        if self._stored is not None:
            self._stored.append(data)
        elif self._cell is not None:
            self._cell.append(data)
        if self._section and "script" not in self.open:
            self.sections[self._section] += data

    def table(self, section: str, column: str) -> Table:
        """The first table of a section that has the column."""
        return next(t for t in self.tables if t.section == section and column in t.header)
