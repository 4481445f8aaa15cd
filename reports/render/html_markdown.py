"""The report's Markdown as HTML: nothing in it fetches, and no link leads out of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

FIGURES = "figures/"

ShowFigure = Callable[[str, str], Markup]
"""File name and title of a figure -> what the page shows."""


def to_html(text: str, show_figure: ShowFigure | None = None) -> Markup:
    """Paragraphs, lists and tables. Labels come from records: of what they say nothing becomes a tag, a
    picture from elsewhere, or a link but to an anchor."""
    tokens = _parser().parse(text)
    shown = _with_figures(tokens, show_figure) if show_figure else tokens
    return Markup(_parser().renderer.render(shown, _parser().options, {}))


def inline(text: str) -> Markup:
    """One line, a table's cell for instance."""
    return Markup(_parser().renderInline(" ".join(text.split())))


class _WithinThePage(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return url.startswith(("#", FIGURES))


@cache
def _parser() -> MarkdownIt:
    parser = _WithinThePage("commonmark").enable("table").disable(["autolink", "html_inline", "html_block"])
    parser.add_render_rule("image", _only_words)
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _with_figures(tokens: Sequence[Token], show_figure: ShowFigure) -> list[Token]:
    """Paragraphs that are one of the report's figures become that figure."""
    kept: list[Token] = []
    for token in tokens:
        children = token.children or []
        if len(children) == 1 and children[0].type == "image":
            source = unquote(str(children[0].attrs["src"]))
            if source.startswith(FIGURES):
                kept[-1] = Token("html_block", "", 0)
                kept[-1].content = show_figure(source.removeprefix(FIGURES), children[0].content)
                continue
        if kept and kept[-1].type == "html_block" and token.type == "paragraph_close":
            continue
        kept.append(token)
    return kept


def _only_words(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    return str(escape(tokens[index].content))
