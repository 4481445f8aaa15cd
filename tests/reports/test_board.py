"""The board: order, groups and ratios against what the made records hold, and Tukey's test by simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from rankbench.bench.records import Metrics
from rankbench.reports.frames import Group
from rankbench.reports.render import markdown
from rankbench.reports.render.blocks import pictures
from rankbench.reports.render.figure import Row
from rankbench.reports.render.plotly import plotly
from rankbench.reports.sections import board
from rankbench.reports.stats.standing import Basis, Standing
from rankbench.reports.stats.ties import tied
from rankbench.reports.study import Study
from tests import made_trials
from tests.made_records import realistic, save


def basis(table: np.ndarray, *, lower: bool = True) -> Basis:
    """Of (methods, seeds) or (methods, seeds, items)."""
    scores = {f"m{place}": dict(enumerate(row)) for place, row in enumerate(table)}
    return Basis(scores, is_ratio=False, percent=False, lower_is_better=lower)


@pytest.mark.parametrize(
    ("spread", "most"), [(np.ones(40), 0.01), (np.geomspace(0.5, 2, 40), 0.05)], ids=["alike", "uneven"]
)
def test_of_equal_methods_one_board_of_twenty_is_divided(spread: np.ndarray, most: float) -> None:
    generator = np.random.default_rng(0)
    luck = generator.normal(size=(300, 1, 3))
    tables = luck + spread[:, None] * generator.normal(size=(300, 40, 3))
    divided = np.mean([max(tied(basis(table)).values()) > 1 for table in tables])
    assert divided <= most + 2 * np.sqrt(most * (1 - most) / 300)


def test_items_that_are_drawn_by_chance_divide_no_board() -> None:
    generator = np.random.default_rng(1)
    tables = generator.normal(size=(200, 6, 1, 40)) + 0.1 * generator.normal(size=(200, 6, 3, 40))
    divided = np.mean([max(tied(basis(table)).values()) > 1 for table in tables])
    assert divided <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_methods_that_differ_are_told_apart_whatever_the_direction() -> None:
    noise = 0.01 * np.random.default_rng(2).normal(size=(6, 3))
    level = np.array([3.0, 1.0, 2.0, 1.0, 3.0, 2.0])[:, None]
    assert tied(basis(level + noise)) == {"m1": 1, "m3": 1, "m2": 2, "m5": 2, "m0": 3, "m4": 3} | {}
    rising = tied(basis(level + noise, lower=False))
    assert {label: rising[label] for label in ("m0", "m2", "m1")} == {"m0": 1, "m2": 2, "m1": 3}


def test_an_unsteady_method_is_not_told_apart_by_the_steadiness_of_others() -> None:
    generator = np.random.default_rng(3)
    table = 0.01 * generator.normal(size=(10, 3))
    table[0] = [0.0, 0.9, 0.1]
    found = tied(basis(table))
    assert found["m0"] == 1, "worse by 0.3 in the mean, beside spreads that are nearly nothing"


def test_a_method_without_a_seed_of_the_others_is_in_no_group() -> None:
    compared = basis(np.random.default_rng(4).normal(size=(4, 3)))
    del compared.scores["m2"][1]
    assert tied(compared).keys() == {"m0", "m1", "m3"}
    assert tied(basis(np.ones((3, 1)))) == {}


def test_methods_that_stopped_after_a_stage_are_in_groups_by_the_seeds_of_the_first() -> None:
    level = np.array([1.0, 1.0, 3.0, 5.0])[:, None]
    table = level + 0.01 * np.random.default_rng(5).normal(size=(4, 8))
    compared = replace(basis(table), plan=(3, 5, 8))
    for label, seeds in (("m1", 5), ("m2", 3), ("m3", 3)):
        compared.scores[label] = dict([*compared.scores[label].items()][:seeds])
    assert tied(compared) == tied(basis(table[:, :3]))
    assert tied(compared).keys() == {"m0", "m1", "m2", "m3"}


def test_the_table_has_the_least_loss_first_and_ratios_to_the_baseline(tmp_path: Path) -> None:
    study = Study.read(made_trials.board(tmp_path, methods=8, trials=3, items=30))
    made = board.section(study)
    lines = [
        line for line in markdown.section(made).split("### movie")[0].splitlines() if line.startswith("|")
    ]
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    loss = {record.adapter: [] for record in study.suite.records}
    for record in study.suite.records:
        if record.task == "cola":
            loss[record.adapter].append(record.metrics.best["nll"])
    assert [row[0] for row in rows] == sorted(loss, key=lambda label: np.mean(loss[label]))
    by = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert by["lora"]["parameters ÷ lora's"] == "1"
    assert by["dora"]["parameters ÷ lora's"] == f"{1280 / 1200:.3g}"
    assert float(by["dora"]["step time ÷ lora's"]) == pytest.approx(1.04, abs=0.02)
    assert float(by["dora"]["memory ÷ lora's"]) == pytest.approx(820 / 800, abs=0.005)
    assert by["lora"]["best of its trials"].endswith("(3)")
    assert by["lora"]["held-out loss (nll) ↓"].endswith("(3)")
    (told,) = (line for line in board.best(study))
    assert f"`{rows[0][0]}`" in told
    (picture, _) = pictures([made])
    assert [*picture.figure.panels[0].y.categories] == [row[0] for row in rows]


def test_an_order_by_a_loss_that_a_constant_answer_has_too_is_called_so(tmp_path: Path) -> None:
    study = Study.read(made_trials.board(tmp_path, methods=3, trials=3, items=30))
    said = "By this loss no method is shown to beat a constant answer"
    by_loss = {group.name: group for group in study.by_loss.shown.groups}
    losses = [one.low for one in study.by_loss.standings[by_loss["cola"]].values()]
    for constant, told in ((100.0, False), (min(losses), True)):
        by_loss["cola"].constant_score = constant
        cola = markdown.section(board.section(study)).split("### movie")[0]
        assert (f"{said} ({constant:.4g})" in cola) == told


def test_each_point_of_a_grid_stands_beside_its_own_trials(tmp_path: Path) -> None:
    """Trials are of the entry with its point, as its label says, and not of all that one grid gave."""
    folder = made_trials.board(tmp_path, methods=3, trials=3, items=30)
    for record in Study.read(folder).suite.records:
        if record.adapter == "dora":
            save(folder, record.model_copy(update={"method": "wide", "point": {"rank": 4}}))
    (line, _) = (
        line for line in markdown.section(board.section(Study.read(folder))).splitlines() if "| dora" in line
    )
    assert line.rstrip(" |").endswith("(3)")


def test_an_interval_that_ends_at_zero_is_drawn_on_a_logarithmic_axis() -> None:
    standings = {"lora": Standing(1e-3, 9e-4, 1.1e-3, 3), "wild": Standing(1e-8, 0.0, 4e-8, 3)}
    group = SimpleNamespace(metric="mse", baseline="lora")
    figure = board._figure(cast(Group, group), standings, "lora")
    (panel,) = figure.panels
    assert panel.x.log == 10
    steady, wild = sorted((mark for mark in panel.marks if isinstance(mark, Row)), key=lambda row: row.name)
    assert (steady.low, steady.open_low) == (9e-4, False)
    assert 0 < (wild.low or 0) < 1e-8
    assert wild.open_low


def test_a_loss_of_zero_is_drawn_and_ends_no_report(tmp_path: Path) -> None:
    """Of an error rate, the baseline's itself for one: a logarithmic axis has no place for it."""
    found = [made_trials.trial("speech", "lora", number, 0.5) for number in range(2)]
    save(tmp_path, *found)
    for seed in range(3):
        for method, error in (("lora", 0.0), ("scalora", 0.5), ("dora", 4.0)):
            best = {"ter": error * (1 + seed / 100)}
            metrics = Metrics(main="ter", best=best, last=best, best_step=1, last_step=1)
            save(tmp_path, made_trials.chosen("speech", method, seed, found, metrics=metrics))
    (picture,) = pictures([board.section(Study.read(tmp_path))])
    (panel,) = picture.figure.panels
    assert not panel.x.log
    assert {mark.name: mark.middle for mark in panel.marks if isinstance(mark, Row)}["lora"] == 0
    plotly(picture.figure)


def test_what_one_trial_reaches_is_not_told_where_some_were_stopped_early(tmp_path: Path) -> None:
    """What those would have reached is not known; that the others are the best of all, is."""
    folder = made_trials.board(tmp_path, methods=4, trials=3, items=30)
    short = {"protocol": {"length": 64, "steps": 5}, "steps": 5}
    save(folder, made_trials.trial("cola", "lora", 7, 0.9, label="lora-t07-r0", **short))
    text = markdown.section(board.section(Study.read(folder))).split("### movie")[0]
    ends = {cells[1].strip(): cells[-3:-1] for line in text.splitlines() if len(cells := line.split("|")) > 3}
    assert ends["lora"][0].strip() == "–"
    assert ends["lora"][1].strip().endswith("(4)")
    assert float(ends["dora"][0]) > 0


def test_no_link_leads_to_costs_that_were_not_measured(tmp_path: Path) -> None:
    folder = made_trials.board(tmp_path, methods=3, trials=2, items=10)
    assert "as under [Overhead](#overhead)" in markdown.section(board.section(Study.read(folder)))
    (folder / "overhead" / "encoder.json").unlink()
    text = markdown.section(board.section(Study.read(folder)))
    assert "#overhead" not in text
    assert "time and memory were not measured in this suite" in text
    assert "parameters ÷ lora's" in text
    assert "time ÷" not in text
    assert "memory ÷" not in text


def test_where_nothing_parts_the_methods_none_is_named_as_the_best(tmp_path: Path) -> None:
    study = Study.read(made_trials.board(tmp_path, methods=4, trials=3, items=30))
    worst = {group.name: max(tied(found).values()) for group, found in study.by_loss.bases.items()}
    assert worst == {"cola": 1, "movie": 2}
    (told,) = board.best(study)
    assert (
        ". Not one of the 4 that are in a group on cola is shown to have a higher held-out loss than the best"
        in told
    )
    assert told.count("on cola") == 1
    assert " of 4) on movie. All others that are in a group are shown to have one. Not one" in told


def errors(folder: Path, by_method: dict[str, np.ndarray]) -> Study:
    """Of methods whose settings trials chose, and their errors by seed."""
    found = [made_trials.trial("speech", "lora", number, 0.5) for number in range(2)]
    save(folder, *found)
    for method, by_seed in by_method.items():
        for seed, error in enumerate(by_seed):
            best = {"ter": float(error)}
            metrics = Metrics(main="ter", best=best, last=best, best_step=1, last_step=1)
            save(folder, made_trials.chosen("speech", method, seed, found, metrics=metrics))
    return Study.read(folder)


def test_what_seems_to_contradict_the_groups_is_explained(tmp_path: Path) -> None:
    """A wild method of the first group stands behind one of the second; one of the baseline's loses to it."""
    generator = np.random.default_rng(6)
    even = {f"m{place}": np.exp(0.05 * generator.normal(size=8)) for place in range(8)}
    lora = np.exp(0.05 * generator.normal(size=8))
    uneven = {
        "near": lora * np.linspace(1.2, 1.21, 8),
        "far": 8 * np.exp(0.05 * generator.normal(size=8)),
        "wild": 10 * np.exp(2.5 * np.array([-1.0, 1, -1, 1, -1, 1, -1, 1])),
    }
    study = errors(tmp_path / "uneven", even | {"lora": lora} | uneven)
    (group,) = study.shown.groups
    groups, standings = tied(study.bases[group]), study.standings[group]
    assert (groups["near"], groups["far"], groups["wild"]) == (1, 2, 1)
    assert standings["far"].mean < standings["wild"].mean
    assert standings["near"].beside == "below"
    told = "A method whose seeds spread widely", "For the groups all pairs are tested at once"
    text = markdown.section(board.section(study))
    assert all(sentence in text for sentence in told)
    text = markdown.section(board.section(errors(tmp_path / "even", even | {"lora": lora})))
    assert not any(sentence in text for sentence in told)


def test_adaloras_size_is_told_to_be_that_of_the_rank_which_is_left(tmp_path: Path) -> None:
    """Half of what its records say, which stands under Scores."""
    study = errors(tmp_path, {"lora": np.array([1.0, 1.1]), "adalora": np.array([1.1, 1.2])})
    told = "AdaLoRA's parameters are counted at the rank that it keeps"
    assert told not in markdown.section(board.section(study)), "nothing is pruned"
    config = {"adapter": {"name": "adalora", "rank": 8, "target_rank": 4}}
    for record in study.suite.records:
        if record.adapter == "adalora":
            save(tmp_path, record.model_copy(update={"config": config}))
    text = markdown.section(board.section(Study.read(tmp_path)))
    assert told in text
    (row,) = (line.split("|") for line in text.splitlines() if line.startswith("| adalora"))
    assert row[4].strip() == "0.5"


def test_records_without_chosen_settings_have_no_board(tmp_path: Path) -> None:
    assert board.section(Study.read(realistic(tmp_path, steps=20, seeds=2))) is None
