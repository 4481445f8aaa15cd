"""The papers' figures from hand-made records: what is drawn, beside what, and where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rankbench.bench.records import Observation
from rankbench.reports.claims.published import Paper, load_papers
from rankbench.reports.frames import Suite, load
from rankbench.reports.render import markdown
from rankbench.reports.render.blocks import pictures
from rankbench.reports.render.figure import Level
from rankbench.reports.render.looks import Looks
from rankbench.reports.render.svg import svg
from rankbench.reports.sections import all_sections
from rankbench.reports.sections.paper_figures import section
from rankbench.reports.sections.paper_figures.quotations import quoted, setting, tables_of, value_of
from rankbench.reports.sections.paper_figures.rank_maps import drawn, rank_map, rank_maps
from rankbench.reports.sections.paper_figures.ranks import measured, picture
from rankbench.reports.stats.costs import peak_ratios
from rankbench.reports.study import Study
from tests.made_records import curve, overhead_record, run_record, save


def published(letter: str, column: str, metric: str, **content) -> dict:
    """A panel of figure 2."""
    unit = "rank" if "accumulated" in metric else "percent"
    given = {"table": f"Figure 2({letter})", "model": "DeBERTaV3-base", "hand": "second", "source": "s"}
    return given | {"unit": unit, "columns": {column: metric}} | content


def row(column: str, value: float, **changes) -> list[dict]:
    return [{"method": "ScaLoRA", "values": {column: value}} | changes]


PAPER = Paper.model_validate(
    {
        "paper": "2510.23818",
        "name": "ScaLoRA",
        "title": "t",
        "role": "claims",
        "tables": [
            published("b", "RTE", "accumulated_rank", rows=row("RTE", 54, rank=4)),
            published("c", "training", "gradient_rank_share", missing="every figure"),
            published("d", "training", "nonnegative_share", rows=row("training", 70)),
        ],
    }
)


def scaled(task: str, seed: int = 0, *, gradient: list[dict[str, int]] | None = None, **changes):
    """A ScaLoRA run of rank 3, observed twice."""
    gradient = gradient or [{}, {}]
    seen = [
        Observation(step=step, accumulated_rank={"a": step, "b": 3 * step}, gradient_rank=ranks)
        for step, ranks in zip((1, 2), gradient, strict=True)
    ]
    config = {"adapter": {"name": "scalora", "rank": 3}, "task": {"task": task}}
    share = {"nonnegative_share": {"step": [0, 1], "share": [1.0, 0.5]}}
    fields = {"config": config, "observations": seen, "diagnostics": share} | changes
    return run_record(task, "scalora", seed, **fields)


def pruned(seed: int, ranks: dict[str, int], **changes):
    config = {"adapter": {"name": "lora2", "rank": 8, "target_rank": 4}, "task": {"task": "mnli"}}
    fields = {"config": config, "diagnostics": {"rank": ranks, "scores_saved": 0.96}} | changes
    return run_record("mnli", "lora2", seed, **fields)


def shown(suite: Suite, papers=(PAPER,)) -> str:
    """The section's Markdown."""
    made = section(Study(suite, papers=papers))
    return markdown.section(made) if made else ""


def test_figure_2_has_the_panels_that_were_measured(tmp_path: Path) -> None:
    save(tmp_path, scaled("movie", gradient=[{"a": 6, "b": 5, "head": 50}, {"a": 9, "b": 12, "head": 50}]))
    (group,) = load(tmp_path).groups
    found = measured(group)
    assert list(found) == ["b", "c", "d"]
    assert found["b"]["scalora"][0].to_dict() == {1: 2.0, 2: 4.0}
    assert found["c"]["scalora"][0].to_dict() == {1: 5, 2: 9}
    _, c, d = picture(group, found, 0.7, Looks()).figure.panels
    assert [mark for mark in c.marks if isinstance(mark, Level)] == [Level(6.0, "2r = 6")]
    assert [mark for mark in d.marks if isinstance(mark, Level)] == [Level(0.7, "70% in the paper")]
    *_, d = picture(group, found, None, Looks()).figure.panels
    assert not any(isinstance(mark, Level) for mark in d.marks)
    text = shown(load(tmp_path))
    (cells,) = (line.split("|") for line in text.splitlines() if line.startswith("| scalora "))
    # Of six gradients, that of rank 5 is below 2r.
    assert [cell.strip() for cell in cells[2:-1]] == [
        *("2", "2", "4 (1)", "6"),
        *("83.33 (1)", "5 (b)", "75.00 (1)"),
    ]


def test_the_ranks_of_a_sweep_are_told_apart(tmp_path: Path) -> None:
    for rank in (3, 6, 12):
        run = scaled("movie")
        config = {**run.config, "adapter": {"name": "scalora", "rank": rank}}
        save(tmp_path, run.model_copy(update={"adapter": f"scalora-r{rank}", "rank": rank, "config": config}))
    study = Study.read(tmp_path)
    (group,) = study.shown.groups
    assert group.is_rank_sweep
    looks = [
        (study.styles_of(group)[label].colour, study.styles_of(group)[label].dash) for label in group.runs
    ]
    assert len({*looks}) == 3


def test_without_an_observed_gradient_there_is_no_panel_and_no_column(tmp_path: Path) -> None:
    save(tmp_path, scaled("movie"))
    suite = load(tmp_path)
    assert list(measured(suite.groups[0])) == ["b", "d"]
    assert "rank(G)" not in shown(suite)


def test_each_figure_of_the_page_stands_in_one_section(tmp_path: Path) -> None:
    regression = scaled("linear-regression")
    save(
        tmp_path,
        scaled("movie"),
        regression,
        pruned(0, {"layer.0.q": 3}),
        overhead_record({"lora": [0.1] * 3}),
    )
    places: dict[str, list[str]] = {}
    for name, part in all_sections(Study(load(tmp_path), papers=[PAPER])).items():
        for found in pictures([part]):
            places.setdefault(f"{found.name}.svg", []).append(name)
            assert markdown.section(part).count(f"(figures/{found.name}.svg)") == 1
    assert places == {
        "loss--mnli.svg": ["convergence"],
        "loss--movie.svg": ["convergence"],
        "loss--linear-regression.svg": ["paper-figures"],
        "rank--movie.svg": ["paper-figures"],
        "rank--linear-regression.svg": ["paper-figures"],
        "heat--mnli.svg": ["paper-figures"],
        "overhead--encoder.svg": ["overhead"],
    }


def test_the_papers_numbers_and_what_differs_stand_beside(tmp_path: Path) -> None:
    save(tmp_path, scaled("movie"))
    text = shown(load(tmp_path))
    assert "ScaLoRA (rank 4): accumulated rank 54 (RTE)" in text
    assert "Figure 2(c) (DeBERTaV3-base; second-hand): Not found: every figure." in text
    assert "What differs: model: DeBERTaV3-base, ours tiny; task: RTE, ours movie." in text
    theirs = tables_of([PAPER], "ScaLoRA", "Figure 2(d)", "Figure 2(b)")
    assert [found.table for found in theirs] == ["Figure 2(d)", "Figure 2(b)"]
    assert setting(theirs, "microsoft/deberta-v3-base", "my-rte", "rte") == ""
    assert value_of(theirs[:1], "ScaLoRA") == 70
    assert value_of(theirs, "ScaLoRA") is None
    assert value_of(theirs, "LoRA") is None


def test_without_papers_ours_is_still_shown(tmp_path: Path) -> None:
    save(tmp_path, scaled("movie"), pruned(0, {"layer.0.q": 3}))
    made = section(Study(load(tmp_path), papers=()))
    assert "In the paper" not in markdown.section(made)
    assert {"rank--movie", "heat--mnli"} == {picture.name for picture in pictures([made])}


def test_records_without_any_of_it_have_no_section(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0))
    assert shown(load(tmp_path)) == ""


def test_a_rank_map_is_the_mean_over_seeds_by_layer_and_module() -> None:
    names = ["enc.layer.1.q", "enc.layer.0.q", "enc.layer.0.ff.out", "pooler"]
    runs = {
        s: pruned(s, dict(zip(names, ranks, strict=True)))
        for s, ranks in enumerate([(1, 2, 3, 8), (3, 2, 4, 8)])
    }
    found = rank_map(runs)
    assert found is not None
    assert (found.layers, found.modules) == (["0", "1", ""], ["q", "ff.out", "pooler"])
    expected = [[2.0, 2.0, np.nan], [3.5, np.nan, np.nan], [np.nan, np.nan, 8.0]]
    np.testing.assert_array_equal(found.ranks, expected)
    assert (found.initial, found.seeds) == (8, 2)
    assert rank_map({0: run_record("mnli", "lora", 0)}) is None


def test_layers_are_ordered_as_numbers_and_stacks_told_apart() -> None:
    found = rank_map({0: pruned(0, {"encoder.10.q": 1, "encoder.9.q": 2, "decoder.9.q": 5})})
    assert found is not None
    assert found.layers == ["9", "10"]
    assert found.modules == ["encoder: q", "decoder: q"]
    np.testing.assert_array_equal(found.ranks, [[2, 1], [5, np.nan]])


def test_a_rank_map_writes_its_numbers(tmp_path: Path) -> None:
    save(tmp_path, pruned(0, {"0.q": 3, "1.q": 7}))
    (group,) = load(tmp_path).groups
    image = svg(drawn(group.name, rank_maps(group)))
    assert image == svg(drawn(group.name, rank_maps(group)))
    for word in (b">3</text>", b">7</text>", b">q</text>", b">lora2</text>"):
        assert word in image
    assert b"<image" not in image


def test_parameters_beside_full_fine_tuning(tmp_path: Path) -> None:
    counts = {"total": 100_000, "trainable": 100_000, "adapter": 99_000}
    full = {"config": {"adapter": {"name": "full"}}, "parameters": counts}
    save(
        tmp_path,
        pruned(0, {"layer.0.q": 3}),
        run_record("mnli", "full", 0, **full),
        scaled("mnli", observations=[], diagnostics={}),
    )
    text = shown(load(tmp_path))
    rows = {
        cells[1]: cells[2:]
        for line in text.splitlines()
        if len(cells := [c.strip() for c in line.split("|")[1:-1]]) == 8
    }
    # 1,200 of the adapter beside 98,800 of the model.
    assert rows["lora2"] == ["8 → 4", "1,200", "1.215", "accuracy ×100", "80.00 (1)", "96"]
    assert rows["full"][1:3] == ["99,000", "100"]
    assert "scalora" not in rows


def test_overhead_and_rank_sweeps_are_pointed_at(tmp_path: Path) -> None:
    for rank in (4, 16):
        config = {"adapter": {"name": "lora", "rank": rank}, "learning_rate": 0.001}
        save(tmp_path, run_record("ranks", f"lora-r{rank}", 0, curve=curve([1.0] * 10), config=config))
    record = overhead_record({"lora": [0.1, 0.1], "scalora": [0.2, 0.2]})
    save(tmp_path, record)
    text = shown(load(tmp_path), load_papers())
    assert "drawn under Overhead: encoder." in text
    assert "Drawn under Rank sweep: ranks." in text
    assert "Llama 2 (size not stated)" in text
    assert "Learning rate: 5e-05 in the paper, 0.001 here." in text
    peaks = {label: ratio.middle for label, ratio in peak_ratios(record, "lora").items()}
    assert peaks == pytest.approx({"lora": 1.0, "scalora": 1.1})
    assert peak_ratios(record, "full") == {}


def test_the_papers_figures_that_are_named_are_among_the_published() -> None:
    papers = load_papers()
    named = {
        "ScaLoRA": ["Figure 1", *(f"Figure 2({x})" for x in "abcd"), "Figure 3"],
        "rsLoRA": ["Figure 2", "Figure 3", "not stated, quoted in a note"],
        "LoRA²": ["Figure 3", "abstract", "Table 2"],
    }
    for paper, tables in named.items():
        for table in tables:
            assert quoted(tables_of(papers, paper, table)).startswith(f"In the paper, {table}")
