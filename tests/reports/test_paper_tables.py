"""The papers' tables with ours below: their columns, one rule for averages, and the verdict."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from rankbench.bench.records import Metrics
from rankbench.reports.render import markdown
from rankbench.reports.sections.paper_tables import section
from rankbench.reports.study import Study
from tests.made_records import run_record, save

METRICS = {"cola": "matthews_correlation", "stsb": "pearson"}
GLUE = {
    "cola": 0.5,
    "sst2": 0.9,
    "mrpc": 0.8,
    "stsb": 0.85,
    "qqp": 0.88,
    "mnli": 0.7,
    "qnli": 0.75,
    "rte": 0.6,
}
Rows = list[dict[str, str]]


def scored(task: str, value: float, *, label: str = "lora", seed: int = 0, experiment: str = "", **changes):
    metric = METRICS.get(task, "accuracy")
    metrics = Metrics(main=metric, best={metric: value}, last={metric: value}, best_step=1, last_step=1)
    config = {
        "task": {"task": task},
        "adapter": {"name": label, "rank": 4, "alpha": 8},
        "training": {"steps": 10, "batch_size": 16, "accumulation": 1, "precision": "no"},
        "learning_rate": 1e-3,
    }
    fields = {"model": "minilm-l6", "config": config, "metrics": metrics} | changes
    return run_record(experiment or task, label, seed, **fields)


def written(folder: Path) -> tuple[str, Rows]:
    save(folder, run_record("movie", "lora", 7))  # papers are judged by runs of several seeds
    made = section(Study.read(folder))
    text = markdown.section(made) if made else ""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return text, [dict(zip(cells[0], row, strict=True)) for row in cells[2:]] if cells else []


def ours(rows: Rows) -> Rows:
    return [row for row in rows if row["from"].startswith("here")]


def test_a_suite_of_three_glue_tasks_stands_in_the_papers_columns(tmp_path: Path) -> None:
    for seed, value in enumerate((0.6, 0.62)):
        save(tmp_path, *(scored(task, value, seed=seed) for task in ("rte", "mrpc", "cola")))
    text, rows = written(tmp_path)
    assert list(rows[0])[4:-1] == ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE"]
    theirs = next(row for row in rows if row["from"].startswith("ScaLoRA") and row["method"] == "ScaLoRA")
    assert (theirs["RTE"], theirs["MNLI"], theirs["average"]) == ("87.61", "90.36", "88.98")
    (own,) = ours(rows)
    assert (own["RTE"], own["SST-2"], own["average"]) == ("61.00 ± 1.41 (2)", "–", "–")
    assert (own["method"], own["rank"], own["model"]) == ("lora", "4", "minilm-l6")
    assert "Ours beside ScaLoRA, GLUE, r = 4 (DeBERTaV3-base): PROTOCOL DIFFERS, in model;" in text
    assert "Ours beside AdaLoRA, Table 1 (DeBERTaV3-base): PROTOCOL DIFFERS, in model, rank;" in text
    assert "LoRA², Table 1 (DeBERTaV3-base), not found: spreads, number of runs" in text
    assert "### Commonsense" not in text


def test_ranks_are_those_that_pruning_leaves_as_the_papers_count_them(tmp_path: Path) -> None:
    """Beside the paper's AdaLoRA of rank 8, which keeps 8, ours of 8 that keeps 4 is none of rank 8."""
    for seed, method in ((0, "adalora"), (1, "adalora"), (0, "lora"), (1, "lora")):
        adapter = {"name": method, "rank": 8} | ({"target_rank": 4} if method == "adalora" else {})
        record = scored("cola", 0.6, label=method, seed=seed)
        config = record.config | {"adapter": adapter}
        save(tmp_path, record.model_copy(update={"config": config, "rank": 8}))
    assert [(row["method"], row["rank"]) for row in ours(written(tmp_path)[1])] == [
        ("lora", "8"),
        ("adalora", "8 → 4"),
    ]


def test_every_average_is_the_plain_mean_of_the_eight_columns(tmp_path: Path) -> None:
    save(tmp_path, *(scored(task, value) for task, value in GLUE.items()))
    _, rows = written(tmp_path)
    (own,) = ours(rows)
    assert own["average"] == f"{100 * statistics.fmean(GLUE.values()):.2f}"
    # AdaLoRA prints 88.09 for the row that ScaLoRA prints as 88.25.
    full = {row["from"]: row["average"] for row in rows if row["method"].startswith("Full FT")}
    assert full == {
        "ScaLoRA, GLUE, r = 4": "88.25",
        "AdaLoRA, Table 1": "88.25",
        "LoRA², Table 1": "88.00",
    }
    for row in rows:
        cells = [row[column].split(" ")[0] for column in list(row)[4:-1]]
        if "–" not in cells:
            assert float(row["average"]) == pytest.approx(statistics.fmean(map(float, cells)), abs=0.01)


def test_an_average_that_its_cells_do_not_give_is_shown_with_what_they_give(tmp_path: Path) -> None:
    save(tmp_path, scored("rte", 0.6))
    text, rows = written(tmp_path)
    said = "LoRA², Table 1: the Avg printed for LoRA2 (k=8) is 89.68, where its cells give 89.43"
    assert said in text
    assert text.count("where its cells give") == 1
    (row,) = (row for row in rows if row["method"].startswith("LoRA2 (k=8)"))
    assert (row["CoLA"], row["average"]) == ("72.30", "89.60")  # 716.81 / 8, our rule


def test_where_only_a_papers_average_was_found_it_is_shown(tmp_path: Path) -> None:
    save(tmp_path, scored("boolq", 0.7, label="scalora"))
    _, rows = written(tmp_path)
    shown = {(row["method"], row["rank"], row["model"]): (row["BoolQ"], row["average"]) for row in rows}
    assert shown["ScaLoRA", "8", "LLaMA2-7B"] == ("–", "74.51")
    assert shown["LoRA", "32", "LLaMA3-8B"] == ("–", "77.54")
    assert shown["scalora", "4", "minilm-l6"] == ("70.00 (1)", "–")
    assert not [row for row in rows if row["BoolQ"] == "89.20"], "a figure of no row of the paper"


def test_a_table_of_which_nothing_was_found_leaves_only_ours(tmp_path: Path) -> None:
    save(tmp_path, scored("gsm8k", 0.3))
    text, rows = written(tmp_path)
    assert ours(rows) == rows
    assert "ScaLoRA, mathematics (MetaMathQA to GSM8K and MATH) (Gemma3-12B), not found: every figure" in text


def test_other_protocols_and_a_second_experiment_have_rows_of_their_own(tmp_path: Path) -> None:
    save(tmp_path, scored("rte", 0.6), scored("rte", 0.7, experiment="rte-long"))
    save(tmp_path, scored("cola", 0.5), scored("cola", 0.4, label="full", protocol={"length": 7}))
    _, rows = written(tmp_path)
    found = {(row["from"], row["method"]): (row["RTE"][:2], row["CoLA"][:2]) for row in ours(rows)}
    assert found == {
        ("here", "lora"): ("60", "–"),
        ("here (A)", "lora"): ("–", "50"),
        ("here (B)", "full"): ("–", "40"),
        ("here (rte-long)", "lora"): ("70", "–"),
    }


def test_a_suite_without_such_tasks_has_no_tables(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0))
    assert written(tmp_path) == ("", [])
