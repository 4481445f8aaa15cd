"""The published figures: complete against what was collected, and checked when they are read."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

import pytest
import yaml

from rankbench.reports.claims.published import PUBLISHED, PublishedError, load_papers
from rankbench.reports.claims.reproductions import PublishedValue, same_model, values_of

SHARED = Path(__file__).parents[3] / "shared" / "published"
COLLECTED = [SHARED / "published.json", SHARED / "lora2_v1.json"]
NAMES = {"LoRA2": "LoRA²"}
GLUE = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "QNLI", "RTE")


def load(folder: Path = PUBLISHED) -> list[PublishedValue]:
    return [value for paper in load_papers(folder) for value in values_of(paper)]


@pytest.mark.skipif(not SHARED.exists(), reason="../shared, where the figures were collected, is absent")
def test_every_collected_figure_is_there_and_no_other():
    def collected(record):
        name = record["paper"].removesuffix(" (context)")
        return NAMES.get(name, name), record["method"], record["rank"], record["value"], record["std"]

    wanted = Counter(collected(record) for path in COLLECTED for record in json.loads(path.read_text()))
    assert Counter((f.name, f.method, f.rank, f.value, f.spread) for f in load()) == wanted


@pytest.mark.skipif(not SHARED.exists(), reason="../shared, where the figures were collected, is absent")
def test_lora2s_cells_stand_where_they_were_read():
    names = {
        "Matthews corr": "matthews_correlation", "Pearson corr": "pearson", "F1": "f1",
        **{f"trainable parameters ({unit})": "trainable parameters" for unit in "Mk"},
        "seconds per iteration, batch 32": "seconds an iteration",
    }  # fmt: skip
    whole = {"-": "whole model"}
    wanted = Counter()
    for record in json.loads(COLLECTED[1].read_text()):
        metric = "accuracy_mismatched" if record["task"] == "MNLI-mm" else record["metric"]
        task = whole.get(record["task"], record["task"])
        wanted[record["table"], record["method"], task, names.get(metric, metric), record["value"]] += 1
    found = Counter(
        (f.table, f.method, f.task, "average" if f.task == "Avg" else f.metric, f.value)
        for f in load()
        if f.name == "LoRA²" and f.table != "abstract"
    )
    assert found == wanted


def test_ranks_left_add_up_as_the_figure_does():
    figures = [f for f in load() if (f.name, f.table) == ("LoRA²", "Figure 3")]
    left = {task: [f for f in figures if f.task == task] for task in ("MNLI", "QQP", "MRPC", "SST-2")}
    assert {task: sum(f.value for f in found) for task, found in left.items()} == {
        "MNLI": 216, "QQP": 72, "MRPC": 72, "SST-2": 68,
    }  # fmt: skip
    first = {
        task: sum(f.value for f in found if "feed-forward 1" in f.metric) for task, found in left.items()
    }
    assert {task: round(100 * first[task] / sum(f.value for f in left[task])) for task in left} == {
        "MNLI": 32, "QQP": 54, "MRPC": 61, "SST-2": 68,
    }  # fmt: skip


def test_every_other_average_of_lora2_follows_from_its_cells():
    (paper,) = (paper for paper in load_papers() if paper.name == "LoRA²")
    rows = [(table, row) for table in paper.tables for row in table.rows if "Avg" in row.values]
    assert len(rows) == 10 + 5 + 4
    unlike = {}
    for table, row in rows:
        cells = {column: value for column, value in row.values.items() if column != "Avg"}
        for pair in (("QQP", "QQP, F1"), ("MNLI-m", "MNLI-mm")):
            if set(pair) <= set(cells):
                cells[pair[0]] = statistics.fmean(cells.pop(column) for column in pair)
        mean = statistics.fmean(cells.values())
        if abs(mean - row.values["Avg"]) > 0.011:
            unlike[table.table, row.method] = mean
        assert row.recomputed.get("Avg", row.values["Avg"]) == pytest.approx(mean, abs=0.011)
    assert set(unlike) == {("Table 1", "LoRA2 (k=8)"), ("Table 4", "LoRA2 (k=1), query, key")}


def test_averages_follow_from_their_columns_by_each_papers_rule():
    rows = {}
    for figure in load():
        if figure.name in ("ScaLoRA", "AdaLoRA") and figure.table in ("GLUE, r = 4", "Table 1"):
            key = (figure.name, figure.method, figure.rank, figure.parameters)
            rows.setdefault(key, {})[figure.task, figure.metric] = figure.value
    assert len(rows) == 5 + 12
    for (name, *_), row in rows.items():
        values = {task: value for (task, metric), value in row.items() if metric != "f1"}
        average = values.pop("Avg")
        if name == "AdaLoRA":
            values["MNLI-m"] = (values["MNLI-m"] + values.pop("MNLI-mm")) / 2
            values["QQP"] = (values["QQP"] + row["QQP", "f1"]) / 2
        assert statistics.fmean(values[task] for task in GLUE) == pytest.approx(average, abs=0.011)


def test_what_was_not_found_is_said_and_has_no_figure():
    papers = {paper.name: paper for paper in load_papers()}
    empty = {
        (name, table.table, table.model) for name in papers for table in papers[name].tables if not table.rows
    }
    assert ("ScaLoRA", "mathematics (MetaMathQA to GSM8K and MATH)", "Gemma3-12B") in empty
    assert not [table for name, *table in empty if name == "LoRA²"]
    # Its abstract speaks of RoBERTa-large, but v1 has no table of it.
    assert {table.model for table in papers["LoRA²"].tables} == {"DeBERTaV3-base", "not stated"}
    assert not [figure for figure in load() if figure.task in ("GSM8K", "MATH")]


def test_sources_are_told_apart():
    figures = load()
    assert {f.hand for f in figures if f.name == "ScaLoRA"} == {"second"}
    assert {f.hand for f in figures if f.name in ("AdaLoRA", "LoRA", "LoRA²")} == {"first"}
    assert all(f.source for f in figures)
    adalora = next(f for f in figures if f.name == "AdaLoRA" and f.method == "LoRA" and f.rank == 8)
    assert (adalora.protocol.seeds, adalora.protocol.batch, adalora.protocol.learning_rate) == (5, None, None)


PAPER = {
    "paper": "2510.23818",
    "name": "Made",
    "title": "Made up",
    "role": "claims",
    "tables": [
        {
            "table": "GLUE",
            "model": "m",
            "unit": "percent",
            "hand": "first",
            "source": "s",
            "columns": {"RTE": "accuracy"},
            "rows": [{"method": "LoRA", "rank": 4, "values": {"RTE": 80.0}}],
        }
    ],
}


def write(folder, change):
    paper = yaml.safe_load(yaml.safe_dump(PAPER))
    change(paper, paper["tables"][0], paper["tables"][0].get("rows", [None])[0])
    (folder / "made.yaml").write_text(yaml.safe_dump(paper))
    return folder


def test_a_small_file_loads(tmp_path):
    (figure,) = load(write(tmp_path, lambda paper, table, row: row.update(spreads={"RTE": 0.5})))
    assert (figure.task, figure.metric, figure.value, figure.spread) == ("RTE", "accuracy", 80.0, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, t, r: r.update(values={"RTE": "high"}), ["tables.GLUE.rows.LoRA.values.RTE", "number"]),
        (lambda p, t, r: r.update(values={"rte": 80.0}), ["tables.GLUE", "no column", "rte"]),
        (lambda p, t, r: r.update(values={"RTE": 808.0}), ["tables.GLUE", "808"]),
        (lambda p, t, r: r.update(values={"RTE": float("nan")}), ["tables.GLUE.rows.LoRA"]),
        (lambda p, t, r: r.update(values={}), ["tables.GLUE.rows.LoRA.values"]),
        (lambda p, t, r: r.update(spreads={"QNLI": 1.0}), ["spread without a value: QNLI"]),
        (lambda p, t, r: r.update(recomputed={"Avg": 1.0}), ["recomputed average without a value: Avg"]),
        (lambda p, t, r: r.pop("values"), ["tables.GLUE.rows.LoRA", "neither values nor ranks"]),
        (lambda p, t, r: r.update(ranks={"MNLI": {"query": [1]}}), ["tables.GLUE", "no column", "MNLI"]),
        (lambda p, t, r: r.update(std=1.0), ["tables.GLUE.rows.LoRA.std"]),
        (lambda p, t, r: t["rows"].append(dict(r)), ["tables.GLUE", "two rows of LoRA"]),
        (lambda p, t, r: t.pop("rows"), ["tables.GLUE", "missing"]),
        (lambda p, t, r: t.pop("source"), ["tables.GLUE.source", "required"]),
        (lambda p, t, r: t.update(hand="third"), ["tables.GLUE.hand"]),
        (lambda p, t, r: t.update(protocol={"lenght": 64}), ["tables.GLUE.protocol.lenght"]),
        (lambda p, t, r: p.update(paper="ScaLoRA"), ["made.yaml: paper"]),
    ],
)
def test_a_bad_entry_is_named_in_one_line(tmp_path, change, words):
    with pytest.raises(PublishedError) as error:
        load(write(tmp_path, change))
    message = str(error.value)
    assert "\n" not in message
    for word in ["made.yaml", *words]:
        assert word in message


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(PublishedError, match="no published figures"):
        load(tmp_path)
    (tmp_path / "made.yaml").write_text("tables: [")
    with pytest.raises(PublishedError, match=r"made\.yaml is no YAML"):
        load(tmp_path)
    (tmp_path / "made.yaml").write_text("name: one\nname: two\n")
    with pytest.raises(PublishedError, match=r"made\.yaml: line 2 repeats the key 'name'; keep one"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("published", "ours", "same"),
    [
        ("DeBERTaV3-base", "microsoft/deberta-v3-base", True),
        ("LLaMA2-7B", "meta-llama/Llama-2-7b-hf", True),
        ("LLaMA3-8B", "meta-llama/Meta-Llama-3-8B", True),
        ("LLaMA3-8B", "meta-llama/Llama-2-7b-hf", False),
        ("DeBERTaV3-base", "minilm-l6", False),
        ("DeBERTaV3-base", "microsoft/deberta-v3-large", False),
        ("not stated", "minilm-l6", False),
    ],
)
def test_models_are_known_by_either_name(published, ours, same):
    assert same_model(published, ours) is same
