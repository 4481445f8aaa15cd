"""The words of the sections, which lie in text files: `sections/texts/SECTION.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from rankbench.reports.frames.contender import NO_MODEL


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


def model_name(name: str) -> str:
    """A model in a sentence."""
    return "the task's own model" if name == NO_MODEL else f"`{name}`"


def listed(names: Iterable[str], most: int = 1000) -> str:
    """ "a", "a and b", "a, b and c"; of more than `most` the first, and how many more."""
    every = list(names)
    shown = every if len(every) <= most else [*every[: most - 1], f"{len(every) - most + 1} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
