"""LoRA²'s maps, tables and costs from hand-made records, beside what its paper prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rankbench.reports.claims.published import load_papers
from rankbench.reports.render import markdown
from rankbench.reports.sections.paper_figures import section
from rankbench.reports.sections.paper_figures.lora2 import published_maps
from rankbench.reports.sections.paper_figures.quotations import tables_of
from rankbench.reports.stats.matrices import by_matrix, first_feed_forward_lead
from rankbench.reports.study import Study
from tests.made_records import overhead_record, run_record, save

BERT = "bert.encoder.layer.0."
NAMES = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "attention output": "attention.output.dense", "feed-forward 1": "intermediate.dense",
    "feed-forward 2": "output.dense",
}  # fmt: skip


def pruned(seed: int, ranks: dict[str, int]):
    config = {"adapter": {"name": "lora2", "rank": 8, "target_rank": 4}, "task": {"task": "mnli"}}
    return run_record("mnli", "lora2", seed, config=config, diagnostics={"rank": ranks})


def page(folder: Path) -> tuple[str, dict[str, list[str]]]:
    """The section, and the cells of its table rows by the first of them, the first such row."""
    made = section(Study.read(folder))
    text = markdown.section(made) if made else ""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return text, {cells[0]: cells[1:] for cells in reversed(lines)}


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        *((BERT + name, matrix) for matrix, name in NAMES.items()),
        ("deberta.encoder.layer.11.attention.self.query_proj", "query"),
        ("model.layers.3.self_attn.o_proj", "attention output"),
        ("model.layers.3.mlp.gate_proj", "feed-forward 1"),
        ("model.layers.3.mlp.down_proj", "feed-forward 2"),
        ("bert.pooler.dense", None),
        ("classifier.out_proj", None),
    ],
)
def test_a_module_is_known_as_one_of_the_six_matrices(name: str, matrix: str | None) -> None:
    assert by_matrix({name: 3}) == ({matrix: [3]} if matrix else {})


def test_the_lead_of_the_first_feed_forward_matrix_is_over_the_next_fullest(tmp_path: Path) -> None:
    names = [f"bert.encoder.layer.{layer}.{name}" for layer in (0, 1) for name in NAMES.values()]
    left = [*(1, 0, 2, 3, 6, 0), *(1, 0, 2, 5, 8, 0)]  # means 7 and, of the attention's output, 4
    assert first_feed_forward_lead(dict(zip(names, left, strict=True)) | {"bert.pooler.dense": 8}) == 3
    assert first_feed_forward_lead(dict(zip(names, [8] * 12, strict=True))) == 0
    assert first_feed_forward_lead({name: 8 for name in names if not name.endswith("key")}) is None
    paper = published_maps(tables_of(load_papers(), "LoRA²", "Figure 3"))
    for found in paper.values():
        ranks = {
            f"encoder.layer.{layer}.{NAMES[matrix]}": int(found.ranks[row, layer])
            for row, matrix in enumerate(found.modules)
            for layer in range(12)
        }
        lead = first_feed_forward_lead(ranks)
        assert lead is not None
        assert lead > 1, "as the paper says of all four of its maps"


def test_the_papers_map_is_its_records(tmp_path: Path) -> None:
    maps = published_maps(tables_of(load_papers(), "LoRA²", "Figure 3"))
    assert list(maps) == ["MNLI", "QQP", "MRPC", "SST-2"]
    mnli = maps["MNLI"]
    assert (len(mnli.layers), mnli.initial, mnli.ranks.sum()) == (12, 8, 216)
    np.testing.assert_array_equal(
        mnli.ranks[mnli.modules.index("feed-forward 1")], [3, 4, 0, 7, 5, 8, 7, 8, 8, 8, 8, 4]
    )


def test_shares_of_what_is_left_stand_below_the_papers(tmp_path: Path) -> None:
    ranks = dict(zip(NAMES.values(), (1, 0, 1, 0, 6, 0), strict=True))
    save(tmp_path, pruned(0, {BERT + name: rank for name, rank in ranks.items()} | {"bert.pooler.dense": 8}))
    save(tmp_path, pruned(1, dict.fromkeys((BERT + name for name in ranks), 2)))
    text, rows = page(tmp_path)
    assert text.count("(figures/published--lora2-figure-3.svg)") == 1
    assert rows["LoRA², MNLI"] == ["LoRA2", "216", "12 %", "15 %", "16 %", "19 %", "32 %", "4 %"]
    # Means of the two seeds: 1.5, 1, 1.5, 1, 4, 1 of 10; the pooler is none of the six.
    assert rows["mnli"][:2] == ["lora2", "10"]
    assert rows["mnli"][2:] == ["15 %", "10 %", "15 %", "10 %", "40 %", "10 %"]


def test_table_2_stands_below_our_own_cost(tmp_path: Path) -> None:
    seconds = {"lora": [0.10] * 3, "lora2": [0.12] * 3, "adalora": [0.16] * 3}
    save(tmp_path, overhead_record(seconds))
    text, rows = page(tmp_path)
    assert "### LoRA², table 2: the cost of a step" in text
    ours = [line for line in text.splitlines() if line.startswith("| encoder")]
    assert [[cell.strip() for cell in line.split("|")[3:5]] for line in ours] == [
        ["lora2 ÷ lora", "1.2"],
        ["lora2 ÷ adalora", "0.75"],
    ]
    assert rows["LoRA², CoLA"] == ["DeBERTaV3-base", "LoRA2 ÷ AdaLoRA", "1.129"]
    assert rows["LoRA², STS-B"][-1] == "1.171"
    assert "seconds an iteration 1.14 (CoLA)" in text


def test_without_its_cost_there_is_no_table_2(tmp_path: Path) -> None:
    save(tmp_path, overhead_record({"lora": [0.1] * 3, "adalora": [0.2] * 3}))
    assert "table 2" not in page(tmp_path)[0]
