"""Published figures beside ours: judged under the same protocol, never from a smaller model."""

from __future__ import annotations

import pytest

from rankbench.reports.claims.published import Paper, Protocol, Row, Table
from rankbench.reports.claims.reproductions import PublishedValue, reproductions
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.sections import published
from rankbench.reports.study import Study
from tests.made_records import accuracy, run_record, save


def figure(**changes):
    given = {
        "name": "ScaLoRA", "role": "claims", "table": "GLUE",
        "model": "DeBERTaV3-base", "method": "ScaLoRA", "rank": 4, "parameters": None,
        "task": "RTE", "metric": "accuracy", "value": 87.61, "spread": None, "unit": "percent",
        "hand": "second", "source": "s", "protocol": Protocol(batch=32),
    }  # fmt: skip
    return PublishedValue(**(given | changes))


def glue_run(folder, model="microsoft/deberta-v3-base", best=(0.874, 0.876, 0.878), **training):
    for seed, value in enumerate(best):
        recipe = {"steps": 10, "batch_size": 32, "accumulation": 1, "precision": "no"} | training
        adapter = {"name": "scalora", "rank": 4, "alpha": 4}
        config = {"task": {"task": "rte"}, "adapter": adapter, "learning_rate": 1e-3, "training": recipe}
        save(folder, run_record("rte", "scalora", seed, model=model, config=config, metrics=accuracy(value)))
    return load(folder)


def test_a_small_models_run_never_reproduces_a_large_models_figure(tmp_path):
    (found,) = reproductions(
        glue_run(tmp_path, model="minilm-l6", best=(0.8761, 0.8761, 0.8761), batch_size=16), [figure()]
    )
    assert found.outcome is Outcome.PROTOCOL_DIFFERS
    assert found.differing == ["model: DeBERTaV3-base, ours minilm-l6", "batch: 32, ours 16"]
    assert {"alpha", "epochs", "learning_rate", "length"} <= set(found.unknown)
    assert "87.61" in markdown.block(published.table([found]))


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(87.61, Outcome.REPRODUCED), (88.5, Outcome.UNDERPOWERED), (95.0, Outcome.NOT_REPRODUCED)],
)
def test_the_same_protocol_is_judged(tmp_path, value, outcome):
    (found,) = reproductions(glue_run(tmp_path), [figure(value=value)])
    assert (found.outcome, found.differing) == (outcome, [])


def test_figures_of_other_tasks_methods_and_unnamed_models(tmp_path):
    suite = glue_run(tmp_path)
    assert reproductions(suite, [figure(task="CoLA"), figure(method="LoRA"), figure(role="context")]) == []
    row = Row(method="ScaLoRA", values={"CoLA": 70.0})
    columns = {"CoLA": "matthews_correlation"}
    table = Table(
        table="GLUE", model="x", unit="percent", hand="second", source="s", columns=columns, rows=[row]
    )
    paper = Paper(paper="2510.23818", name="ScaLoRA", title="t", role="claims", tables=[table])
    assert published.section(Study(suite, papers=[paper])) is None
    (found,) = reproductions(suite, [figure(model="not stated")])
    assert found.outcome is Outcome.PROTOCOL_DIFFERS


def test_a_setting_that_the_row_states_must_be_ours(tmp_path):
    """Of two rows of one method, only the one with our width is judged."""
    for seed, value in enumerate((0.895, 0.896, 0.897)):
        adapter = {"name": "lora2", "rank": 8, "width": 1}
        config = {"task": {"task": "rte"}, "adapter": adapter, "training": {"batch_size": 32}}
        model = "microsoft/deberta-v3-base"
        save(tmp_path, run_record("rte", "lora2", seed, model=model, config=config, metrics=accuracy(value)))
    suite = load(tmp_path)
    rows = {1: 89.53, 8: 88.45}
    given = {f"LoRA2 (k={k})": (value, {"width": k}) for k, value in rows.items()}
    found = [
        reproductions(suite, [figure(method=method, value=value, rank=None, settings=settings)])[0]
        for method, (value, settings) in given.items()
    ]
    assert [one.outcome for one in found] == [Outcome.REPRODUCED, Outcome.PROTOCOL_DIFFERS]
    assert found[1].differing == ["width: 8, ours 1"]


def test_adaloras_rank_is_the_one_it_keeps(tmp_path):
    """As its tables count it: 4 values a matrix, of which 2 are left, are its row of rank 2."""
    for seed in range(3):
        adapter = {"name": "adalora", "rank": 4, "target_rank": 2}
        config = {"task": {"task": "rte"}, "adapter": adapter, "training": {"batch_size": 32}}
        save(tmp_path, run_record("rte", "adalora", seed, config=config))
    for rank, differing in ((2, []), (4, ["rank: 4, ours 2"])):
        (found,) = reproductions(load(tmp_path), [figure(method="AdaLoRA", model="tiny", rank=rank)])
        assert found.differing == differing


def test_what_differs_alike_shares_a_row_and_what_is_judged_has_its_own(tmp_path):
    for label, scores in (("scalora", (0.874, 0.876, 0.878)), ("scalora-again", (0.5, 0.6, 0.7))):
        for seed, value in enumerate(scores):
            config = {
                "task": {"task": "rte"},
                "adapter": {"name": "scalora", "rank": 4},
                "training": {"batch_size": 32},
            }
            made = {"model": "minilm-l6", "config": config, "metrics": accuracy(value)}
            save(tmp_path, run_record("rte", label, seed, **made))
    first, second = (
        reproductions(load(tmp_path), [figure(model=model)]) for model in ("DeBERTaV3-base", "minilm-l6")
    )
    assert {one.outcome for one in first} == {Outcome.PROTOCOL_DIFFERS}
    assert Outcome.PROTOCOL_DIFFERS not in {one.outcome for one in second}
    shared, *own = published.table([*first, *second]).rows
    ours = [f"{one.ours}: {one.method} on rte" for one in first]
    assert shared[3] == "; ".join(ours)
    assert [row[3] for row in own] == ours


def test_what_is_not_judged_is_folded_and_says_so_once(tmp_path):
    row = Row(method="ScaLoRA", rank=4, values={"RTE": 87.61})
    for model, judged in (("minilm-l6", False), ("DeBERTaV3-base", True)):
        table = Table(
            table="GLUE", model="DeBERTaV3-base", unit="percent", hand="second", source="s",
            columns={"RTE": "accuracy"}, rows=[row],
        )  # fmt: skip
        paper = Paper(paper="2510.23818", name="ScaLoRA", title="t", role="claims", tables=[table])
        suite = glue_run(tmp_path / model, model=model)
        text = markdown.section(published.section(Study(suite, papers=[paper])))
        assert text.count("PROTOCOL DIFFERS") == 1 + (not judged), (
            "in the words above, and as the fold's name"
        )
        assert ("<summary>PROTOCOL DIFFERS, not judged: 1</summary>" in text) is not judged
        assert ("| verdict " in text) is judged
        assert "87.6 " in text, "ours is shown"
        assert "Intervals of ours are 90% and speak of new seeds alone" in text
