"""A compacted SVG draws what Matplotlib wrote: the same outlines, looks, places and words, in fewer bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from rankbench.reports.render import svg
from rankbench.reports.render.compact import compact
from rankbench.reports.render.figure import Axis, Figure, Heat, Level, Line, Panel, Points, Row
from rankbench.reports.render.looks import Look

A, B = Look("a", "#0072B2", (6, 1.5), "square"), Look("b", "#D55E00")
DRAWN = {"path", "use", "text", "tspan", "rect"}
LINK = "{http://www.w3.org/1999/xlink}href"
SEEN = 0.0051
"""Points: half a hundredth, and the last digit of a float."""


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """As Matplotlib wrote it, and compacted."""
    curve = Line(A, [1, 2, 3], [1.0, 3.0, 0.01], [0.5, 2.0, 0.005], [2.0, 4.0, 0.02])
    points = [Points(A, [1, 4], [2.0, 5.0], [1.0, 4.0], [4.0, 6.0], joined=True), Points(B, [4], [3.0])]
    cells = Heat([[1.0, None], [2.0, 4.0]], 8, "left")
    panels = [
        Panel([curve, Level(2.0, "2r")], Axis("steps"), Axis("loss", 10)),
        Panel(points, Axis("rank", 2, ticks=[1, 4])),
        Panel([Row(B, "x", 2.0, 1.5, 3.0)], y=Axis(categories=["x"])),
        Panel([cells], Axis(categories=["0", "1"]), Axis(categories=["q", "v"])),
    ]
    monkeypatch.setattr(svg, "compact", lambda image: image)
    written = svg.svg(Figure(panels, (6, 12), "Title"))
    return written, compact(written)


def drawn(image: bytes) -> Iterator[dict[str, Any]]:
    """Each thing that is drawn, in order, as a viewer takes it."""
    root = ElementTree.fromstring(image)
    ids = {f"#{each.get('id')}": each for each in root.iter()}
    sheet = "".join(each.text or "" for each in root.iter() if each.tag.endswith("style"))
    rules = dict(re.findall(r"\.(\w+)\{([^}]*)\}", sheet))
    for each in root.iter():
        if each.tag.rpartition("}")[2] in DRAWN:
            styles = [each.get("style", ""), *(rules[name] for name in each.get("class", "").split())]
            clip = re.search(r"url\((#\w+)\)", each.get("clip-path", "") + "".join(styles))
            target = ids[each.attrib[LINK]].get("d", "") if LINK in each.attrib else ""
            yield {
                "kind": each.tag,
                "words": (each.text or "").strip(),
                "look": [style for style in styles if style and "clip-path" not in style],
                "outline": corners(each.get("d", "")),
                "target": corners(target),
                "clip": place(ids[clip[1]][0]) if clip else [],
                "place": place(each),
            }


def place(each: ElementTree.Element) -> list[float]:
    return [float(each.get(key, 0)) for key in ("x", "y", "width", "height")]


def corners(outline: str) -> list[float]:
    """Where it goes in x and y, one after the other, whether it says so in places or in steps."""
    found: list[float] = []
    here = start = np.zeros(2)
    for command, text in re.findall(r"([A-Za-z])([^A-Za-z]*)", outline):
        given = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text)]
        given = {"h": [*given, 0.0], "v": [0.0, *given]}.get(command, given)
        to = np.reshape(given, (-1, 2)) + (here if command.islower() else 0)
        here = to[-1] if len(to) else start
        start = here if command in "Mm" else start
        found += to.ravel().tolist()
    return found


def test_everything_is_drawn_as_it_was(pair: tuple[bytes, bytes]) -> None:
    before, after = (list(drawn(image)) for image in pair)
    assert len(before) == len(after) > 100
    assert {key for each in before for key, value in each.items() if any(value)} == {*before[0]}
    for old, new in zip(before, after, strict=True):
        for key in ("kind", "words", "look"):
            assert new[key] == old[key]
        for key in ("outline", "target", "clip", "place"):
            assert new[key] == pytest.approx(old[key], abs=SEEN), old


def test_turned_words_stay_turned(pair: tuple[bytes, bytes]) -> None:
    turned = rb'transform="rotate\(-90 [^"]*"[^>]*>loss<'
    assert all(re.search(turned, image) for image in pair)


def test_it_takes_half_the_bytes_at_most(pair: tuple[bytes, bytes]) -> None:
    assert len(pair[1]) < len(pair[0]) / 2
