"""The words of the sections, which lie in text files: `sections/texts/SECTION.md`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


def words(section: str, part: str = "", **values: object) -> str:
    """A part of a section's file, its `{placeholders}` filled with the values.

    A line `# NAME` begins the part of that name; what stands before the first is the part without one. The
    lines of a paragraph become one. Raises KeyError for a part or a value that is not there.
    """
    return _parts(section)[part].format_map(values)


@cache
def _parts(section: str) -> dict[str, str]:
    text = files("rankbench.reports.sections").joinpath("texts", f"{section}.md").read_text(encoding="utf-8")
    first, *others = re.split(r"^# ", text, flags=re.MULTILINE)
    named = (part.partition("\n")[::2] for part in others)
    return {name: re.sub(r"(?<!\n)\n(?![\n-])", " ", part.strip()) for name, part in [("", first), *named]}
