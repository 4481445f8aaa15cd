"""The report as one page that needs no network: tables to sort and filter, figures to look into."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rankbench.reports.claims.judge import judge, ran_and_absent
from rankbench.reports.claims.schema import load_claims
from rankbench.reports.frames import Suite
from rankbench.reports.render import plot
from rankbench.reports.render.html_markdown import ShowFigure, heading, to_html
from rankbench.reports.render.interactive_figures import figures
from rankbench.reports.render.markdown import Section, p_value
from rankbench.reports.sections import board, tradeoff
from rankbench.reports.sections.verdicts import verdict_table
from rankbench.reports.stats.standing import LEVEL


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    anchor: str
    title: str
    content: Markup


def html(suite: Suite, sections: Mapping[str, Section]) -> str:
    """The page of a suite, `sections` being its report's by anchor. The same records give the same text."""
    styles = plot.styles(suite)
    drawn = figures(suite, styles)
    parts = []
    for anchor, section in sections.items():
        if not section.text:
            continue
        show = _shown_in(section, drawn)
        content = to_html(section.text, show)
        if anchor == "verdicts" and (verdicts := ran_and_absent(judge(suite, load_claims()))[0]):
            above, _, below = section.text.partition(verdict_table(verdicts))
            evidence = _render("verdicts.html", verdicts=verdicts)
            content = to_html(above, show) + evidence + to_html(below, show)
        if anchor == "leaderboard":
            content += _render("board.html", places=board.places(suite), level=f"{LEVEL:.0%}")
        parts.append(Part(anchor, heading(section.text), content))
        if anchor == "leaderboard" and (measures := tradeoff.tradeoffs(suite, styles)):
            content = _render("tradeoff.html", measures=measures)
            parts.append(Part("accuracy-cost", "Accuracy and cost", content))
    style, script = (Markup(_source(name)) for name in ("page.css", "page.js"))
    return _render(
        "page.html", suite=suite.name, parts=parts, style=style, script=script, plotly=Markup(get_plotlyjs())
    )


def _shown_in(section: Section, drawn: Mapping[str, object]) -> ShowFigure:
    """The Plotly figure of the name, or else the section's picture itself."""

    def show(file_name: str, title: str) -> Markup:
        if content := drawn.get(file_name.removesuffix(".svg")):
            return _render("figure.html", title=title, content=content)
        picture = base64.b64encode(section.figures[file_name]).decode()
        return _render("picture.html", title=title, picture=picture)

    return show


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rankbench.reports.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["p_value"] = p_value
    environment.policies["json.dumps_function"] = _figure_json
    return environment


def _figure_json(figure: Any, **options: Any) -> str:
    """Numbers in six digits: more is not seen, and the last ones differ from processor to processor."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, Mapping):
            return {key: rounded(entry) for key, entry in value.items()}
        return [rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    return json.dumps(rounded(figure), **options)


def _source(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def _render(name: str, **values: object) -> Markup:
    return Markup(_environment().get_template(name).render(values))
