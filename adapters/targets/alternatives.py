"""The alternatives of a regular expression, each by itself: one that matches nothing is as good as a
misspelt entry of a list.

Our own reading of bars and brackets, as `re` has none to offer: its parse tree is private, has no positions
to cut at, and makes one set of `0|1`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Match = Callable[[str], bool]
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:P<\w+>|<?[=!]|:))?|[|)]")


def whole(pattern: str) -> Match:
    """Whether a name matches from its first letter to its last."""
    expression = re.compile(pattern)
    return lambda name: expression.fullmatch(name) is not None


def alternatives(pattern: str) -> Iterator[tuple[str, Match]]:
    """Each alternative of the expression, and what it matches where it stands alone; without any, the
    expression itself. Raises re.error if it is none.

    Those inside a look-around or a repeated group depend on each other and are left together.
    """
    match, parts = whole(pattern), _parts(pattern)
    if not parts:
        yield pattern, match
    for _, left, right, _ in parts:
        around = [part for part in parts if part[1] <= left and right <= part[2]]
        alone = "".join(
            letter
            for i, letter in enumerate(pattern)
            if not any(first <= i < start or end <= i < last for first, start, end, last in around)
        )
        if left < right:
            yield pattern[left:right], whole(alone)


def _parts(pattern: str) -> list[tuple[int, int, int, int]]:
    """Of each alternative: where its group's first one starts, its own start and end, the group's end."""
    opened: list[list[int]] = [[0]]
    parts: list[tuple[int, int, int, int]] = []
    bound: list[tuple[int, int]] = []
    for token in _TOKEN.finditer(f"{pattern})"):
        if token[0].startswith("("):
            opened.append([token.end()])
        elif token[0] == "|":
            opened[-1].append(token.end())
        elif token[0] == ")":
            starts, end = opened.pop(), token.start()
            ends = [*(start - 1 for start in starts[1:]), end]
            if pattern[: starts[0]].endswith(("?=", "?!", "?<=", "?<!")) or (
                pattern[token.end() : token.end() + 1] in ("*", "+", "{")
            ):
                bound.append((starts[0], end))
            elif len(starts) > 1:
                parts += ((starts[0], *span, end) for span in zip(starts, ends, strict=True))
    return [part for part in parts if not any(a <= part[0] and part[3] <= b for a, b in bound)]
