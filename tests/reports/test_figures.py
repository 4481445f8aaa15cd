"""One description, two renderers: both draw what it says, and the same each time."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs_version

from rankbench.reports.render.blocks import pictures
from rankbench.reports.render.figure import (
    Axis,
    Figure,
    Heat,
    Level,
    Line,
    Mark,
    Panel,
    Points,
    Row,
    band,
    spans_decades,
)
from rankbench.reports.render.looks import COLOURS, Look, looks
from rankbench.reports.render.plotly import plotly
from rankbench.reports.render.svg import svg
from rankbench.reports.sections import accuracy_cost, convergence
from rankbench.reports.study import Study
from tests.made_records import run_record, save

A, B = Look("a", "#0072B2", (6, 1.5), "square"), Look("b <i>", "#D55E00")


def figure(*marks: Mark, x: Axis | None = None, y: Axis | None = None, **fields) -> Figure:
    return Figure([Panel(marks, x or Axis(), y or Axis())], (5, 3), **fields)


def texts(image: bytes) -> list[str]:
    """What is written in it."""
    return [
        found.text or "" for found in ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")
    ]


@cache
def everything() -> Figure:
    """A panel of each kind."""
    ranged = Line(A, [1, 2], [1.0, 3.0], [0.5, 2.0], [2.0, 4.0])
    curves = [Level(2.0, "2r"), ranged, Line(B, [1, 2], [1.0, 2.0])]
    points = [Points(A, [1, 4], [2.0, 5.0], [1.0, 4.0], [4.0, 6.0], joined=True), Points(B, [4], [3.0])]
    rows = [Level(1.0, "bound", vertical=True), Row(A, "1e-3", 2.0, 1.5, 3.0), Row(B, "other", 1.0)]
    cells = Heat([[1.0, None], [2.0, 4.0]], 8, "left")
    return Figure(
        [
            Panel(curves, Axis("steps"), Axis("loss", 10), "(a)"),
            Panel(points, Axis("rank", 2, ticks=[1, 4]), Axis("share", range=(0, 10))),
            Panel(rows, Axis("ratio"), Axis(categories=["other", "1e-3"])),
            Panel([cells], Axis("layer", categories=["0", "1"]), Axis(categories=["q", "v"])),
        ],
        (6, 12),
        "Title",
    )


def test_the_svg_has_every_word_and_is_the_same_each_time() -> None:
    image = svg(everything())
    assert image == svg(everything())
    assert ElementTree.fromstring(image).get("width") == "432pt"
    wanted = {"Title", "(a)", "steps", "loss", "rank", "share", "ratio", "layer", "left", "2r", "bound", "a"}
    assert wanted | {"b <i>", "1e-3", "other", "q", "v", "0", "1"} <= {*texts(image)}
    assert b"<image" not in image, "a picture in it differs from machine to machine"


def test_numbers_that_are_written_keep_their_digits() -> None:
    """Those of the outlines are cut to what is seen."""
    image = svg(figure(Line(A, [1, 2], [0.125, 0.375]), y=Axis(ticks=[0.125, 0.375])))
    assert {"0.125", "0.375"} <= {*texts(image)}
    outlines = b"".join(re.findall(rb' d="[^"]*"', image))
    assert not re.search(rb"\.\d{3}", outlines)


def test_plotlys_panels_have_the_descriptions_numbers() -> None:
    drawn = plotly(everything())
    of = {}
    for trace in drawn["data"]:
        of.setdefault(trace["yaxis"], []).append(trace)
    band_of_a, line_a, line_b = of["y"]
    assert (band_of_a["x"], band_of_a["y"]) == ([1, 2, 2, 1], [2.0, 4.0, 2.0, 0.5])
    assert (line_a["y"], line_a["line"]["dash"]) == ([1.0, 3.0], "9px,2.25px")
    assert (line_b["name"], line_b["line"]["dash"]) == ("b &lt;i&gt;", "solid")
    joined, alone = of["y2"]
    assert joined["error_y"] == joined["error_y"] | {"array": [2.0, 1.0], "arrayminus": [1.0, 1.0]}
    assert (joined["mode"], alone["mode"], "error_y" in alone) == ("lines+markers", "markers", False)
    interval, value = of["y3"]
    assert (interval["x"], interval["y"]) == ([2.0], ["1e-3"])
    assert (interval["error_x"]["array"], interval["error_x"]["arrayminus"]) == ([1.0], [0.5])
    assert "error_x" not in value
    assert of["y4"][0]["z"] == [[1.0, None], [2.0, 4.0]]
    layout = drawn["layout"]
    assert (layout["yaxis"]["type"], layout["xaxis2"]["tickvals"]) == ("log", [1, 4])
    assert layout["yaxis2"]["range"] == [0, 10]
    assert layout["yaxis3"]["autorange"] == "reversed"
    assert layout["yaxis3"]["categoryarray"] == ["other", "1e-3"]
    names = {each["text"]: each for each in layout["annotations"]}
    assert names["2r"]["y"] == pytest.approx(np.log10(2.0)), "Plotly has texts at logarithms"
    assert (names["bound"]["x"], layout["shapes"][0]["y0"]) == (1.0, 2.0)


def test_pointing_at_a_row_tells_a_value_however_small_it_is() -> None:
    """With three decimals a loss of 1.6e-8 was told as 0.000."""
    drawn = plotly(figure(Row(A, "full", 1.6e-8), y=Axis(categories=["full"])))
    (template,) = drawn["data"][0]["hovertemplate"]
    assert template.endswith("%{x:.4g}"), "d3's: significant digits"


def test_each_name_is_listed_once_and_rows_only_if_asked() -> None:
    listed = [trace["name"] for trace in plotly(everything())["data"] if trace["showlegend"]]
    assert listed == ["a", "b &lt;i&gt;"]
    rows = figure(Row(A, "x", 1.0, listed=True), Row(B, "y", 2.0), y=Axis(categories=["x", "y"]))
    assert [trace["showlegend"] for trace in plotly(rows)["data"]] == [True, False]
    assert "a" in texts(svg(rows))
    assert "b <i>" not in texts(svg(rows))


def test_points_without_a_line_have_the_shape_of_their_look() -> None:
    open_one = Points(A, [1], [1.0], filled=False, notes=["n < 2"])
    alone, joined = plotly(figure(open_one, Points(A, [1], [1.0], joined=True)))["data"]
    assert (alone["marker"]["symbol"], joined["marker"]["symbol"]) == ("square-open", "circle")
    assert (alone["hovertext"], alone["hovertemplate"]) == (["n &lt; 2"], "%{hovertext}")


def test_a_shared_axis_is_named_once() -> None:
    panel = Panel([Line(A, [1, 2], [1.0, 2.0])], Axis("steps"), Axis("loss"))
    stacked = plotly(Figure([panel, panel], (5, 5), shared="x"))["layout"]
    assert (stacked["xaxis"]["title"]["text"], stacked["xaxis2"]["title"]["text"]) == ("", "steps")
    assert stacked["xaxis"]["matches"] == "x2"
    for fields, steps, losses in (
        ({"shared": "x"}, 1, 2),
        ({"shared": "y", "beside": True}, 2, 1),
        ({"shared": "x", "beside": True}, 2, 2),
    ):
        written = texts(svg(Figure([panel, panel], (5, 5), **fields)))
        assert (written.count("steps"), written.count("loss")) == (steps, losses), fields


def test_what_is_no_number_is_left_out_of_the_page_and_others_have_six_digits() -> None:
    (trace,) = plotly(figure(Line(A, [1, 2, 3], [1 / 3, float("nan"), float("inf")])))["data"]
    assert trace["y"] == [0.333333, None, None]


def test_a_band_is_the_mean_and_range_over_seeds_at_no_more_than_120_steps() -> None:
    frame = pd.DataFrame({0: np.arange(1.0, 1001.0), 1: np.arange(1.0, 1001.0) * 4})
    found = band(A, frame)
    assert len(found.x) == 120
    assert (found.x[0], found.x[-1]) == (0, 999)
    assert (found.y[0], found.low[0], found.high[0]) == (2.5, 1.0, 4.0)
    assert band(A, frame, geometric=True).y[0] == pytest.approx(2.0)
    alone = band(A, frame[[0]])
    assert (alone.low, alone.high) == ((), ())
    gaps = band(A, pd.DataFrame({0: [1.0, np.nan], 1: [3.0, 5.0]}, [10, 20]))
    assert gaps == Line(A, [10, 20], [2.0, 5.0], [1.0, 5.0], [3.0, 5.0])


def test_what_falls_below_zero_is_drawn_on_no_logarithmic_axis() -> None:
    assert spans_decades([100.0, 0.01, 0.0])
    assert not spans_decades([100.0, 0.01, -3.0]), "half of the curve would be a gap"


def test_the_baseline_is_first_and_broad_and_unknown_names_are_grey() -> None:
    found = looks(["a", "lora", "z"], "lora")
    assert [look.name for look in found.values()] == ["lora", "a", "z"]
    assert found["lora"].width > found["a"].width
    assert [look.colour for look in found.values()] == list(COLOURS[:3])
    assert found["unknown"] == Look("unknown")
    many = looks(map(str, range(27)), "lora")
    assert len({(look.colour, look.dash) for look in many.values()}) == 28


def test_of_very_many_methods_no_two_of_one_figure_look_alike(tmp_path: Path) -> None:
    """Looks come again after 28 names: two methods of a smaller task may have the same one elsewhere."""
    everywhere = ["lora", *(f"m{place:02d}" for place in range(1, 31))]
    for name in everywhere:
        save(tmp_path, run_record("a", name, 0))
    for name in ("lora", "m01", "m29"):
        save(tmp_path, run_record("b", name, 0))
    study = Study.read(tmp_path)
    assert study.styles["m01"].colour == study.styles["m29"].colour
    (*_, drawn) = pictures([convergence.section(study)])
    seen = {(mark.look.name, mark.look.colour, mark.look.dash) for mark in drawn.figure.panels[0].marks}
    assert {name for name, *_ in seen} == {"lora", "m01", "m29"}
    assert len({(colour, dash) for _, colour, dash in seen}) == 3
    figure = accuracy_cost.tradeoffs(study)["trainable parameters"]["b"]
    points = [mark.look for mark in figure.panels[0].marks if isinstance(mark, Points)]
    assert len({(look.colour, look.shape) for look in points}) == 3


def test_of_so_many_methods_that_bands_would_hide_the_lines_the_lines_alone_are_drawn(tmp_path: Path) -> None:
    for count in (16, 17):
        for name in ["lora", *(f"m{place:02d}" for place in range(1, count))]:
            save(tmp_path / f"{count}", *(run_record("a", name, seed) for seed in range(3)))
        (picture,) = pictures([convergence.section(Study.read(tmp_path / f"{count}"))])
        lines = [mark for panel in picture.figure.panels for mark in panel.marks if isinstance(mark, Line)]
        assert {len(line.low) > 0 for line in lines} == {count == 16}
        assert ("; band: smallest to largest" in picture.caption) is (count == 16)


def test_the_page_draws_by_the_version_that_figures_are_checked_for() -> None:
    """Its README says how it is renewed."""
    held = (
        files("rankbench.reports.render").joinpath("plotlyjs", "plotly-cartesian.min.js").read_text("utf-8")
    )
    assert f"v{get_plotlyjs_version()}\n" in held[:200]
