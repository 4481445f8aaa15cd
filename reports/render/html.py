"""The report as one page that needs no network: tables to sort and filter, figures to look into."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from rankbench.reports.claims.schema import Outcome
from rankbench.reports.render import blocks
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


def to_html(text: str) -> Markup:
    """Paragraphs, lists and tables. Labels come from records: of what they say nothing becomes a tag, a
    picture from elsewhere, or a link but to an anchor."""
    return Markup(_parser().render(text))


def inline(text: str) -> Markup:
    """One line, a table's cell for instance."""
    return Markup(_parser().renderInline(re.sub(r"[ \t\r\n]+", " ", text)))


def unbroken(text: str) -> str:
    """A number whose line breaks before its interval and its count alone."""
    return re.sub(r" (?![\[(])", "\u00a0", text)


class _WithinThePage(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return url.startswith("#")


@cache
def _parser() -> MarkdownIt:
    parser = _WithinThePage("commonmark").enable("table").disable(["autolink", "html_inline", "html_block"])
    parser.add_render_rule("image", _only_words)
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _only_words(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    return str(escape(tokens[index].content))
