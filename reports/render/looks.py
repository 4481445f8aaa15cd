"""How a method looks: the same colour, dash and shape in every figure of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Okabe and Ito's colours for any eyes, less the yellow that white paper swallows.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 1.5), (1.2, 1.2), (5, 1.5, 1.2, 1.5))
SHAPES = ("circle", "square", "diamond", "triangle")
"""In place of the dashes where no line joins the points: methods outnumber the colours."""
GREY = "#777777"


@dataclass(frozen=True)
class Look:
    """A name of the legend and how its marks are drawn."""

    name: str
    colour: str = GREY
    dash: tuple[float, ...] = ()
    """Lengths of ink and gap in line widths; a solid line has none."""
    shape: str = SHAPES[0]
    width: float = 1.5
    """Of lines, in points."""


class Looks(dict[str, Look]):
    """Name -> look; a name that is not in it is grey."""

    def __missing__(self, name: str) -> Look:
        return Look(name)


def looks(names: Iterable[str], baseline: str) -> Looks:
    """A look for each name, in their order after the baseline's, which is broad: what lies over it leaves it
    seen."""
    return Looks(
        {
            name: Look(
                name,
                COLOURS[index % len(COLOURS)],
                DASHES[index % len(DASHES)],
                SHAPES[index % len(SHAPES)],
                2.6 if name == baseline else 1.5,
            )
            for index, name in enumerate(dict.fromkeys([baseline, *names]))
        }
    )


def distinct(names: Sequence[str], styles: Looks) -> Looks:
    """The looks of a figure of these names: those of all figures, unless two of them look alike; the first
    name is the baseline's."""
    seen = {(styles[name].colour, styles[name].dash) for name in names}
    return styles if len(seen) == len(names) else looks(names, names[0])
