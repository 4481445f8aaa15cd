"""Printing on any console: one that is not UTF-8 gets the nearest plain characters, never an error."""

from __future__ import annotations

import codecs
import io
import sys

PLAIN = {
    "–": "-", "—": "-", "−": "-", "×": "x", "±": "+/-", "·": "*", "…": "...", "→": "->", "≤": "<=", "≥": ">=",
    "≈": "~", "²": "^2", "⁻": "^-", "ᵀ": "^T", "‖": "||", "“": '"', "”": '"', "‘": "'", "’": "'",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " ",
}  # fmt: skip
"""What our output uses; anything else (a name in another script) is shown as its escape."""

HANDLER = "rankbench-plain"


def print_anywhere() -> None:
    """Let the two standard streams replace what their encoding does not have. Files are not concerned:
    they are written as UTF-8."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    shown = "".join(
        PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in unknown
    )
    return shown, error.end
