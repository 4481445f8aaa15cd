"""An SVG of Matplotlib's in a third of its bytes: the same picture, less what only an editor needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
GROUP, STYLE, LINK = f"{{{SVG}}}g", f"{{{SVG}}}style", f"{{{XLINK}}}href"
REFERENCE, NUMBER = re.compile(r"(?<=url\(#)[^)]+|(?<=^#).+"), re.compile(r"-?\d+\.?\d*")
STRETCH = re.compile(r"([MLCQz])([^MLCQz]*)")
STYLED, NO_TURN = {"style", "clip-path"}, "rotate(-0 "

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def compact(image: bytes) -> bytes:
    """The picture to a hundredth of a point, where Matplotlib writes a millionth, and each style once."""
    root = ElementTree.fromstring(image)
    elements = [*root.iter()]
    classes = _numbered("c", (style for each in elements for style in _styles(each)))
    texts = (*classes, *(each.get(LINK, "") for each in elements))
    names = _numbered("i", (name for text in texts for name in REFERENCE.findall(text)))
    rules = (f".{name}{{{_renamed(style, names)}}}" for style, name in classes.items())
    for each in elements:
        each.attrib = dict(_attributes(each, names, classes))
        each.tail = "\n" if each.tag == GROUP else None
        if len(each):
            each.text = None
        if each.tag == STYLE:
            each.text = "\n".join([each.text or "", *rules])
    _ungroup(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _numbered(letter: str, texts: Iterable[str]) -> dict[str, str]:
    return {text: f"{letter}{number}" for number, text in enumerate(dict.fromkeys(texts))}


def _styles(element: Element) -> list[str]:
    """What it looks like and what it is cut to, apart: many share one of them."""
    clip = element.get("clip-path")
    return [*filter(None, [element.get("style"), clip and f"clip-path: {clip}"])]


def _renamed(text: str, names: dict[str, str]) -> str:
    return REFERENCE.sub(lambda found: names[found[0]], text)


def _attributes(
    element: Element, names: dict[str, str], classes: dict[str, str]
) -> Iterator[tuple[str, str]]:
    if styles := _styles(element):
        yield "class", " ".join(classes[style] for style in styles)
    for key, value in element.items():
        if key == "id":
            if value in names:
                yield key, names[value]
        elif key == LINK:
            yield key, _renamed(value, names)
        elif key == "d":
            yield key, "".join(_steps(value))
        elif key not in STYLED and not value.startswith(NO_TURN):
            yield key, NUMBER.sub(lambda found: _short(round(100 * float(found[0]))), value)


def _steps(outline: str) -> Iterator[str]:
    """From point to point, in whole hundredths so that no error adds up."""
    here = start = (0, 0)
    for command, numbers in STRETCH.findall(outline):
        ends = [round(100 * float(number)) for number in numbers.split()]
        points = [*zip(ends[::2], ends[1::2], strict=True)]
        steps = [end - origin for point in points for end, origin in zip(point, here, strict=True)]
        yield _stretch(command.lower(), steps)
        here = points[-1] if points else start
        start = here if command == "M" else start


def _stretch(command: str, steps: Sequence[int]) -> str:
    if command == "l" and 0 in steps:
        across, down = steps
        return f"v{_short(down)}" if down else f"h{_short(across)}"
    return command + " ".join(map(_short, steps)).replace(" -", "-")


def _short(hundredths: int) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{hundredths / 100:g}")


def _ungroup(element: Element) -> None:
    """Without groups that say nothing of what is in them."""
    inner: list[Element] = []
    for child in element:
        _ungroup(child)
        inner += [child] if child.attrib or child.tag != GROUP else child
    element[:] = inner
