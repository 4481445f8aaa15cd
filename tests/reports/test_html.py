"""The page: whole, without a network, deaf to hostile labels, and with the records' numbers."""

from __future__ import annotations

import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from rankbench import reports
from rankbench.bench.records import FailureRecord, Observation, write_record
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.render.blocks import pictures
from rankbench.reports.render.html import html, to_html
from rankbench.reports.render.plotly import plotly
from rankbench.reports.sections import (
    accuracy_cost,
    all_sections,
    failures,
    leaderboard,
    protocol,
    provenance,
    settings,
)
from rankbench.reports.stats import costs
from rankbench.reports.stats.standing import Standing
from rankbench.reports.study import Study
from tests.html_page import Page
from tests.made_records import accuracy, curve, overhead_record, run_record, save


def page(folder: Path) -> Page:
    reports.write(folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def board(folder: Path) -> list[dict[str, str]]:
    """Its rows, of a page of nothing else: no figure is drawn."""
    made = {"leaderboard": leaderboard.section(Study.read(folder))}
    return Page(html("made", made)).table("leaderboard", "mean").by("mean")


def drawn(folder: Path) -> dict[str, Any]:
    """Every picture's Plotly figure."""
    made = list(all_sections(Study.read(folder)).values())
    return {picture.name: plotly(picture.figure) for picture in pictures(made)}


@pytest.fixture(scope="module")
def whole(laptop: Path) -> Page:
    return Page((laptop / "report.html").read_text(encoding="utf-8"))


def trace(figure: dict[str, Any], name: str, axis: str = "y") -> dict[str, Any]:
    """The line or points of a label, not its band."""
    (found,) = (
        t for t in figure["data"] if t["name"] == name and t["yaxis"] == axis and "fillcolor" not in t
    )
    return found


def test_the_page_fetches_nothing(laptop: Path, whole: Page) -> None:
    for tag, given in whole.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form", "audio", "video")
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (given.get(name) or "#").startswith(("#", "data:")), (tag, given)
    policy = next(given["content"] for tag, given in whole.tags if given.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    text = (laptop / "report.html").read_text(encoding="utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_plotly_is_in_it_once(laptop: Path) -> None:
    text = (laptop / "report.html").read_text(encoding="utf-8")
    assert text.count("* plotly.js (cartesian") == 1
    assert 1.5e6 < len(text) < 2.5e6, "the part that draws lines and maps, not the whole"


def test_every_section_has_a_heading_and_a_link(whole: Page) -> None:
    links = [str(given["href"])[1:] for tag, given in whole.tags if tag == "a"]
    assert links[: len(whole.sections)] == list(whole.sections)
    assert {
        "leaderboard",
        "accuracy-cost",
        "convergence",
        "verdicts",
        "provenance",
        "protocol",
        "failures",
    } <= {*links}
    assert all(text.strip() for text in whole.sections.values())
    ids = [given["id"] for _, given in whole.tags if "id" in given]
    assert len(ids) == len({*ids})
    assert {*links} <= {*ids}, "every link leads somewhere"
    assert "needs JavaScript" in whole.sections["convergence"]


def test_all_tables_of_the_report_are_there_and_scroll_by_themselves(laptop: Path, whole: Page) -> None:
    lines = (laptop / "report.md").read_text(encoding="utf-8").splitlines()
    written = sum(line.startswith("|:") for line in lines)
    # The leaderboard is there a second time, a row for each task and adapter.
    assert len(whole.tables) == written + 1
    containers = sum("scroll" in (given.get("class") or "").split() for _, given in whole.tags)
    assert containers == len(whole.tables)
    assert all(len(row) == len(table.header) for table in whole.tables for row in table.rows)


def test_the_leaderboard_has_the_records_numbers(tmp_path: Path) -> None:
    scores = {"lora": [0.80, 0.82, 0.84], "scalora": [0.90, 0.92, 0.91], "dora": [0.5]}
    for adapter, values in scores.items():
        for seed, value in enumerate(values):
            save(tmp_path, run_record("movie", adapter, seed, metrics=accuracy(value)))
    save(tmp_path, overhead_record({"lora": [1.0, 1.0, 2.0], "scalora": [1.0, 1.0, 4.0]}))
    rows = {row["adapter"]: row for row in board(tmp_path)}
    assert list(rows) == ["scalora", "lora", "dora"], "the best first"
    assert {name: row["mean"] for name, row in rows.items()} == {
        "lora": "82.00",
        "scalora": "91.00",
        "dora": "50.00",
    }
    # Student's t with two degrees of freedom: 82 ± 4.303 × 2 / √3.
    assert rows["lora"]["95% interval"] == "[77.03, 86.97]"
    assert rows["dora"]["95% interval"] == "–"
    assert {name: row["beside lora"] for name, row in rows.items()} == {
        "lora": "–", "scalora": "above", "dora": "–"
    }  # fmt: skip
    assert {name: row["step time ÷ lora's"] for name, row in rows.items()} == {
        "lora": "1.000",
        "scalora": "1.500",
        "dora": "–",
    }, "of the means over the rounds, where it was measured"
    assert rows["lora"]["trainable parameters"] == "1,500"


def test_verdicts_carry_their_evidence(whole: Page) -> None:
    text = whole.sections["verdicts"]
    (grown,) = re.findall(
        r"The rank of ScaLoRA's accumulated update grows beyond r\s+REPRODUCED\..*?Why", text, re.DOTALL
    )
    assert "Holds if > 1 × r." in grown
    assert "arXiv 2510.23818" in grown
    assert "-hand" in grown
    tables = [table for table in whole.tables if table.section == "verdicts" and "p for" in table.header]
    rows = [row for table in tables for row in table.by("verdict")]
    outcomes = {outcome.value for outcome in Outcome}
    assert {row["verdict"] for row in rows} <= outcomes
    judged = [row for row in rows if row["verdict"].endswith("REPRODUCED")]
    assert judged
    assert all("(" in row["measured [interval] (n)"] for row in judged)


def test_curves_are_the_mean_and_range_of_the_records(tmp_path: Path) -> None:
    for seed, level in enumerate((0.2, 0.6)):
        save(tmp_path, run_record("movie", "lora", seed, curve=curve([1.0] * 9 + [level])))
        save(tmp_path, run_record("movie", "scalora", seed, curve=curve([0.5] * 9 + [level])))
    figure = drawn(tmp_path)["loss--movie"]
    line = trace(figure, "lora")
    assert (line["x"], line["y"]) == ([*range(1, 11)], [*[1.0] * 9, pytest.approx(0.4)])
    band = next(t for t in figure["data"] if t["name"] == "lora" and t.get("fill"))
    assert (band["y"][9], band["y"][10]) == (0.6, 0.2), "up along the largest, back along the smallest"
    assert trace(figure, "scalora", "y2")["y"][:9] == [-0.5] * 9


def test_ranks_sweeps_and_step_times_are_the_records(tmp_path: Path) -> None:
    for rank in (4, 64):
        losses = curve([rank / 100] * 10, gradient_norm=1 / rank)
        config = {"adapter": {"name": "lora", "rank": rank}}
        save(tmp_path, run_record("sweep", f"lora-r{rank}", 0, curve=losses, config=config))
    seen = [Observation(step=5, accumulated_rank={"a": 4, "b": 8})]
    shares = {"nonnegative_share": {"step": [0, 5], "share": [1.0, 0.5]}}
    save(tmp_path, run_record("movie", "scalora", 0, observations=seen, diagnostics=shares))
    seconds = {"floor": [[1.0], [1.0]], "lora": [[2.0], [4.0]], "scalora": [[3.0], [8.0]]}
    save(tmp_path, overhead_record(seconds))
    found = drawn(tmp_path)
    assert {*found} >= {"ranks--sweep", "rank--movie", "overhead--encoder"}
    sweep = found["ranks--sweep"]
    assert trace(sweep, "lora")["x"] == [4, 64]
    assert trace(sweep, "lora")["y"] == [pytest.approx(0.04), pytest.approx(0.64)]
    assert trace(sweep, "lora", "y2")["y"] == [0.25, 1 / 64]
    ranks = found["rank--movie"]
    assert (trace(ranks, "scalora")["x"], trace(ranks, "scalora")["y"]) == ([5], [6.0])
    assert trace(ranks, "scalora", "y2")["y"] == [1.0, 0.5]
    times = found["overhead--encoder"]
    # Of 1.5 and 2: Student's t of one degree of freedom on logarithms, 12.706 · (ln 4/3 / √2) / √2.
    reach = math.exp(12.7062 * math.log(4 / 3) / 2)
    point = trace(times, "scalora")
    assert point["x"] == [pytest.approx(math.sqrt(3))]
    assert point["error_x"]["arrayminus"] == [pytest.approx(math.sqrt(3) * (1 - 1 / reach), rel=1e-5)]
    assert point["error_x"]["array"] == [pytest.approx(math.sqrt(3) * (reach - 1), rel=1e-5)]
    assert trace(times, "scalora", "y2")["x"] == [pytest.approx(math.sqrt(24))]
    assert trace(times, "scalora", "y3")["x"] == [pytest.approx(1.1)]


def test_the_heat_map_has_the_mean_rank_of_each_layer_and_module(whole: Page) -> None:
    (heat,) = whole.figures["Singular values left on pruned"]["data"]
    assert heat["type"] == "heatmap"
    assert (heat["x"], heat["y"]) == (["0", "1", "2"], ["query", "value"])
    assert heat["z"] == [[2.0, 3.0, 4.0]] * 2


def test_the_page_stores_these_figures(laptop: Path, whole: Page) -> None:
    """In six digits, so that no processor's last ones show."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        if isinstance(one, (list, tuple)):
            return len(one) == len(other) and all(map(same, one, other))
        return one == (pytest.approx(other, rel=1e-5) if isinstance(one, float) else other)

    for figure in drawn(laptop).values():
        assert any(same(figure, stored) for stored in whole.figures.values())


def test_every_figure_is_one_that_plotly_accepts(whole: Page) -> None:
    assert len(whole.figures) > 10
    for title, figure in whole.figures.items():
        checked = go.Figure(figure)  # raises ValueError on what is not in Plotly's schema
        assert len(checked.data) > 0, title


def test_only_figures_of_what_was_measured(tmp_path: Path) -> None:
    save(tmp_path / "cost", overhead_record({"lora": [1.0], "full": [2.0]}))
    costly = page(tmp_path / "cost")
    (title,) = costly.figures
    assert title.startswith("Step time")
    assert "accuracy-cost" not in costly.sections
    failure = {"suite": "made", "task": "movie", "adapter": "lora", "seed": 0, "fingerprint": "0" * 64}
    record = FailureRecord.model_validate(failure | {"reason": "x", "config": {}, "provenance": {}})
    save(tmp_path / "failed", record)
    assert page(tmp_path / "failed").figures == {}


HOSTILE = "</script><img src=x onerror=alert(1)>${1}{{ 7*7 }}"
LINK = "![a](http://evil.example/a.png) [b](http://evil.example) <http://evil.example>"


def test_hostile_labels_stay_text(tmp_path: Path) -> None:
    for seed in (0, 1):
        for number, label in enumerate(("lora", HOSTILE)):
            record = run_record(
                LINK, label, seed, diagnostics={"nonnegative_share": {"step": [0], "share": [1]}}
            )
            write_record(tmp_path / "runs" / f"{number}{seed}.json", record)
    write_record(tmp_path / "overhead" / "o.json", overhead_record({"lora": [1.0], HOSTILE: [2.0]}))
    failure = {"suite": "made", "task": LINK, "adapter": HOSTILE, "seed": 0, "fingerprint": "0" * 64}
    blocks: dict[str, Any] = {"reason": LINK + HOSTILE, "config": {}, "provenance": {"commit": HOSTILE}}
    write_record(tmp_path / "failed" / "f.json", FailureRecord.model_validate(failure | blocks))
    found = page(tmp_path)
    assert all((given.get("src") or "data:").startswith("data:") for _, given in found.tags)
    assert all((given.get("href") or "#").startswith(("#", "data:")) for _, given in found.tags)
    assert not any(name.startswith("on") for _, given in found.tags for name in given)
    assert HOSTILE in found.sections["leaderboard"]
    assert "49" not in found.sections["leaderboard"]
    names = {trace["name"] for figure in found.figures.values() for trace in figure["data"]}
    assert not any("<" in name for name in names), "Plotly reads tags in names"


def test_markdown_of_a_label_makes_no_tag() -> None:
    shown = to_html(f"| a |\n|---|\n| {LINK} |\n\n{LINK}")
    assert "<img" not in shown
    assert "<a" not in shown


def test_the_front_is_what_nothing_beats_in_both() -> None:
    def at(cost: float, mean: float) -> tuple[float, Standing]:
        return cost, Standing(mean, None, None, 1, False)

    points = {
        "cheap": at(1, 0.7),
        "beaten": at(2, 0.6),
        "fair": at(2, 0.8),
        "dear": at(9, 0.8),
        "best": at(9, 0.9),
    }
    assert accuracy_cost.front(points, lower_is_better=False) == ["cheap", "fair", "best"]
    assert accuracy_cost.front(points, lower_is_better=True) == ["cheap", "beaten"]


def test_points_of_one_cost_are_set_apart_in_order() -> None:
    drawn = accuracy_cost.set_apart({"a": 100.0, "b": 100.0, "c": 100.0, "d": 200.0}, log=False)
    assert drawn["b"] == 100.0
    assert drawn["d"] == 200.0
    assert drawn["b"] - drawn["a"] == pytest.approx(drawn["c"] - drawn["b"])
    assert drawn["b"] > drawn["a"]
    logs = accuracy_cost.set_apart({"a": 10.0, "b": 1000.0}, log=True)
    assert logs == {"a": pytest.approx(10.0), "b": pytest.approx(1000.0)}


def test_however_many_points_of_one_cost_lie_near_it() -> None:
    many = accuracy_cost.set_apart({**{f"m{i:02}": 100.0 for i in range(30)}, "full": 200.0}, log=False)
    places = [many[f"m{i:02}"] for i in range(30)]
    assert places == sorted({*places})
    assert max(abs(place - 100.0) for place in places) <= accuracy_cost.FAR * 100.0 * 1.001


def test_costs_are_those_measured_on_the_same_model_in_the_same_size(tmp_path: Path) -> None:
    for label in ("lora", "scalora", "full"):
        slow = {"median_step": 1.0 + (label == "scalora"), "train": 1.0, "score": 1.0, "total": 2.0}
        save(tmp_path, run_record("movie", label, 0, timings=slow, memory={"peak_resident": 9000.0}))
    suite = load(tmp_path)
    parameters = {costs.PARAMETERS: {"full": 1500, "lora": 1500, "scalora": 1500}}
    assert costs.costs(suite.groups[0], suite) == parameters, "what the runs took tells of the machine"
    assert costs.step_ratios(suite.groups[0], suite) == {}
    sizes = {"lora": 1200, "scalora": 1200, "full": 99}
    rounds = {"lora": [1.0] * 4, "scalora": [1.0, 1.0, 1.0, 2.0], "full": [2.0] * 4}
    save(tmp_path, overhead_record(rounds, parameters=sizes))
    save(tmp_path, overhead_record({"lora": [1.0], "scalora": [9.0]}, name="a-loop", model="large"))
    suite = load(tmp_path)
    assert costs.costs(suite.groups[0], suite) == parameters | {
        "step time ÷ lora (encoder)": {"lora": 1.0, "scalora": 1.25},
        "peak memory, MiB (encoder)": {"lora": pytest.approx(800.0), "scalora": pytest.approx(880.0)},
    }
    assert costs.step_ratios(suite.groups[0], suite) == {"lora": 1.0, "scalora": 1.25}


@pytest.mark.parametrize(
    ("config", "protocol"),
    [
        ({"model": {"name": "tiny", "weights": "bfloat16"}}, {"weights_held_in": "bfloat16"}),
        ({"precision": "bf16"}, {"precision": "bf16"}),
    ],
)
def test_costs_are_those_measured_in_the_precision_of_the_runs(
    tmp_path: Path, config: dict[str, Any], protocol: dict[str, Any]
) -> None:
    for label in ("lora", "scalora"):
        plain = run_record("movie", label, 0)
        save(tmp_path / "plain", plain)
        save(tmp_path / "other", plain.model_copy(update={"protocol": plain.protocol | protocol}))
    sizes = {"lora": 1200, "scalora": 1200}
    measured = overhead_record({"lora": [1.0] * 4, "scalora": [1.5] * 4}, config=config, parameters=sizes)
    for folder, expected in (("plain", {}), ("other", {"lora": 1.0, "scalora": 1.5})):
        suite = load(save(tmp_path / folder, measured))
        assert costs.step_ratios(suite.groups[0], suite) == pytest.approx(expected)


def test_a_baseline_of_another_size_divides_no_cost(tmp_path: Path) -> None:
    for label in ("lora", "scalora", "dora"):
        save(tmp_path, run_record("movie", label, 0))
    sizes = {"lora": 600, "scalora": 1200, "dora": 1200}
    rounds = {"lora": [1.0] * 4, "scalora": [1.3] * 4, "dora": [1.5] * 4}
    save(tmp_path, overhead_record(rounds, parameters=sizes))
    suite = load(tmp_path)
    assert costs.step_ratios(suite.groups[0], suite) == {}
    assert costs.memory_ratios(suite.groups[0], suite) == {}


def test_the_tradeoff_shows_cost_and_score_with_its_interval(tmp_path: Path) -> None:
    for label, size, scores in (("lora", 1000, (0.7, 0.9, 0.8)), ("full", 9000, (0.8, 1.0, 0.9))):
        for seed, value in enumerate(scores):
            counts = {"total": 10_000, "trainable": size, "adapter": size}
            save(tmp_path, run_record("movie", label, seed, metrics=accuracy(value), parameters=counts))
    figure = plotly(accuracy_cost.tradeoffs(Study.read(tmp_path))[costs.PARAMETERS]["movie"])
    point = trace(figure, "lora")
    # Student's t of three seeds would reach past 100; an accuracy ends there.
    assert point["hovertext"] == ["80.00 [55.16, 100.00], n = 3, at 1000"]
    assert point["y"] == [pytest.approx(80.0)]
    assert point["error_y"]["array"] == [pytest.approx(20.0)]
    assert trace(figure, "Pareto front")["y"] == [pytest.approx(80.0), pytest.approx(90.0)]


@pytest.mark.parametrize(
    "reason",
    [
        "TypeError: __init__() got *args and **kwargs of <class 'x.Y'>",
        r"no layer fits .*\.(query|value)\b",
        "out of memory: MemoryError; lower batch_size, or set gradient_checkpointing",
        "a * b < c, _private and trailing_",
    ],
)
def test_a_message_stands_on_the_page_as_it_was(reason, tmp_path):
    row = {"suite": "made", "task": "movie", "adapter": "lora", "fingerprint": "", "config": {}}
    save(tmp_path, FailureRecord(**row, provenance={}, reason=reason))
    text = markdown.section(failures.section(Study.read(tmp_path)))
    (line,) = (line for line in text.splitlines() if "movie" in line)
    (*_, cell) = re.findall(
        r"<td[^>]*>(.*?)</td>",
        to_html(f"| a | b | c | d | e |\n|---|---|---|---|---|\n{line}"),
    )
    assert unescape(cell) == reason


def test_expressions_of_a_suite_stand_under_protocol_and_settings_as_they_were(tmp_path: Path) -> None:
    """Markdown made `.attention.` of the targets' stars, and `.` of a backslash before a dot."""
    targets, pattern = r".*attention.*\.(query|value)", {".*q_proj": 8, ".*v_proj": 4}
    config = {"adapter": {"name": "peft", "rank_pattern": pattern}}
    weights = "random:<*.bin> and _x_"
    changes = {"protocol": {"targets": targets}, "config": config, "provenance": {"weights": weights}}
    save(tmp_path, run_record("movie", "peft", 0, **changes))
    study = Study.read(tmp_path)
    parts = {protocol: targets, settings: f"rank pattern {pattern}", provenance: weights}
    for module, wanted in parts.items():
        page = to_html(markdown.section(module.section(study)))
        cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
        assert wanted in [unescape(re.sub("<[^>]+>", "", cell)) for cell in cells], module
