"""The report's Markdown as HTML: nothing in it fetches, and no link leads out of the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape


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
