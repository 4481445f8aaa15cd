"""The report as one page that needs no network: tables to sort and filter, figures to look into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rankbench.reports.claims.schema import Outcome
from rankbench.reports.render import blocks
from rankbench.reports.render.html_markdown import inline, to_html, unbroken
from rankbench.reports.render.plotly import plotly

PLOTLY = "plotlyjs/plotly-cartesian.min.js"


def html(title: str, sections: Mapping[str, blocks.Section]) -> str:
    """The page of the title, its sections by their anchors. The same sections give the same text."""
    parts = [
        {"anchor": anchor, "title": section.title, "content": _all(section.blocks)}
        for anchor, section in sections.items()
    ]
    scripts = [_text(PLOTLY), _text("templates/page.js")]
    return _render("page.html", title=title, parts=parts, style=_text("templates/page.css"), scripts=scripts)


def _all(made: Sequence[blocks.Block], level: int = 3) -> Markup:
    return Markup("\n").join(_block(each, level) for each in made)


def _block(made: blocks.Block, level: int) -> Markup:
    """A block; `level` is that of the headings in it."""
    match made:
        case str():
            return to_html(made)
        case blocks.Table():
            return _render("table.html", table=made)
        case blocks.Picture(_, title, caption, figure):
            drawn = _render("figure.html", title=title, figure=figure)
            return drawn + to_html(f"*{title}. {caption}*")
        case blocks.Folded():
            return _render("folded.html", summary=made.summary, content=_all(made.blocks, level))
        case blocks.PageOnly():
            return _all(made.blocks, level)
        case blocks.Choice():
            return _render("choice.html", choice=made)
        case blocks.Section():
            content = _all(made.blocks, level + 1)
            return _render("section.html", section=made, level=level, content=content)


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
    environment.filters |= {"inline": inline, "plotly": plotly, "unbroken": unbroken}
    environment.globals["tones"] = {outcome.value: outcome.name.lower() for outcome in Outcome}
    return environment


def _text(name: str) -> Markup:
    """A file of this folder, as it is."""
    return Markup(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _render(name: str, **values: object) -> Markup:
    return Markup(_environment().get_template(name).render(values))
