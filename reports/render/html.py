"""The report as one page that needs no network: tables to sort and filter, figures to look into."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rankbench.reports.render import blocks
from rankbench.reports.render.html_markdown import inline, to_html
from rankbench.reports.render.markdown import p_value
from rankbench.reports.render.plotly import plotly


def html(title: str, sections: Mapping[str, blocks.Section]) -> str:
    """The page of the title, its sections by their anchors. The same sections give the same text."""
    parts = [
        {"anchor": anchor, "title": section.title, "content": _all(section.blocks)}
        for anchor, section in sections.items()
    ]
    style, script = (Markup(_source(name)) for name in ("page.css", "page.js"))
    return _render(
        "page.html", title=title, parts=parts, style=style, script=script, plotly=Markup(get_plotlyjs())
    )


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
            drawn = _render("figure.html", title=title, content=plotly(figure))
            return drawn + to_html(f"*{title}. {caption}*")
        case blocks.Folded():
            return _render("folded.html", summary=made.summary, content=_all(made.blocks, level))
        case blocks.Widget():
            return _render(made.template, **made.values)
        case blocks.Section():
            content = _all(made.blocks, level + 1)
            return _render("section.html", section=made, level=level, content=content)
        case blocks.Old():
            return to_html(made.text, lambda name, title: _old_figure(made, name, title))


def _old_figure(made: blocks.Old, file_name: str, title: str) -> Markup:
    """The Plotly figure of the name, or else the section's picture itself."""
    if content := made.drawn.get(file_name.removesuffix(".svg")):
        return _render("figure.html", title=title, content=content)
    picture = base64.b64encode(made.figures[file_name]).decode()
    return _render("picture.html", title=title, picture=picture)


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
    environment.filters |= {"p_value": p_value, "inline": inline}
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
