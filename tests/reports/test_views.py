"""Methods by the loss of their test items and by what they forgot, judged as by the main score."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import log_softmax

from rankbench.bench.records import Forgetting, Metrics, RecordError
from rankbench.reports.render import markdown
from rankbench.reports.sections import all_sections, held_out, leaderboard
from rankbench.reports.stats.evidence import evidence
from rankbench.reports.study import Study
from tests.made_items import save_scored
from tests.made_records import run_record, save

ITEMS = 200


def save_logits(folder: Path, adapter: str, seed: int, sure: float, *, state: bool = True) -> np.ndarray:
    """A run that answers as every other of its seed and is `sure` of it; its items' losses."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, 2, ITEMS)
    right = generator.random(ITEMS) < 0.8
    margin = sure * (1 + 0.1 * generator.standard_normal(ITEMS))
    sign = np.where(right == (target == 1), 1, -1)
    logits = np.stack([np.zeros(ITEMS), sign * margin], axis=1)
    frame = pd.DataFrame({"item": [f"i{i}" for i in range(ITEMS)], "target": target})
    frame["prediction"], frame["logits"] = logits.argmax(1), logits.tolist()
    losses = -log_softmax(logits, axis=1)[np.arange(ITEMS), target]
    accuracy = float((frame["prediction"] == target).mean())
    scores = {"accuracy": accuracy} | ({"nll": float(losses.mean())} if state else {})
    metrics = Metrics(
        main="accuracy", best=scores, last=scores, best_step=1, last_step=1, held_out="nll" if state else ""
    )
    save_scored(folder, adapter, seed, frame, metrics)
    return losses


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Equal answers; `full` is too sure of them, and `rslora` has measured nothing."""
    for seed in range(3):
        save_logits(tmp_path, "lora", seed, 1.4)
        save_logits(tmp_path, "scalora", seed, 1.2 + 0.1 * seed)
        save_logits(tmp_path, "full", seed, 6 + seed)
        save_logits(tmp_path, "rslora", seed, 1.4, state=False)
    return tmp_path


def test_what_equal_accuracies_hide_the_loss_shows(folder):
    study = Study.read(folder)
    (group,) = study.shown.groups
    assert study.told[group].above == study.told[group].below == []
    (by_loss,) = study.by_loss.shown.groups
    assert list(by_loss.runs) == ["lora", "full", "scalora"]
    assert study.by_loss.told[by_loss].below == ["full"]
    made = markdown.section(held_out.section(study))
    assert "| adapter   |" in made
    assert "movie: nll ↓" in made
    assert re.search(r"\| movie +\| – +\| full +\|", made)


@pytest.mark.parametrize("sure", [1.4, 9.0])
def test_losses_that_no_constant_answer_is_beaten_by_are_called_so(tmp_path, sure):
    """Both answer four items of five right; who is too sure of it loses more than by saying 50 % each."""
    for seed in range(3):
        for label in ("lora", "scalora"):
            save_logits(tmp_path, label, seed, sure + (label == "lora") * 0.1)
    study = Study.read(tmp_path)
    (group,) = study.by_loss.shown.groups
    target = np.random.default_rng(0).integers(0, 2, ITEMS)
    assert group.constant_score == pytest.approx(stats.entropy(np.bincount(target)))
    said = "No method is shown to beat a constant answer on movie." in markdown.section(
        held_out.section(study)
    )
    assert said == (sure == 9.0)


def test_means_intervals_and_tests_are_those_of_the_items_losses(folder):
    """Recomputed from the logits: of errors the logarithm is compared, linearised over the items."""
    found = {
        label: np.array([save_logits(folder, label, seed, sure(seed)) for seed in range(3)])
        for label, sure in (("lora", lambda _: 1.4), ("full", lambda seed: 6.0 + seed))
    }
    study = Study.read(folder)
    (group,) = study.by_loss.shown.groups
    standing = study.by_loss.standings[group]["full"]
    low, high = evidence(found["full"]).interval(0.95)
    assert (standing.mean, standing.low, standing.high) == pytest.approx((found["full"].mean(), low, high))
    logarithms = {
        label: np.log(table.mean(1, keepdims=True)) + table / table.mean(1, keepdims=True) - 1
        for label, table in found.items()
    }
    gain = evidence(logarithms["lora"] - logarithms["full"])
    assert study.by_loss.gains[group]["full"].found.estimate == pytest.approx(gain.estimate)
    assert study.by_loss.gains[group]["full"].found.standard_error == pytest.approx(gain.standard_error)


def test_predictions_that_do_not_give_the_loss_are_refused(folder):
    path = folder / "runs" / "movie--full--0.parquet"
    frame = pd.read_parquet(path)
    frame["logits"] = [[2 * value for value in row] for row in frame["logits"]]
    frame.to_parquet(path, index=False)
    with pytest.raises(RecordError, match=r"movie--full--0\.parquet gives nll .*, its record "):
        _ = Study.read(folder).by_loss.standings


def forgot(kind: str, value: float, text: str = "ab") -> Forgetting:
    return Forgetting(kind=kind, value=value, items=48, text=text)


def save_forgetting(folder: Path, task: str, kind: str, **values: list[float]) -> None:
    for label, seeds in values.items():
        for seed, value in enumerate(seeds):
            save(folder, run_record(task, label, seed, forgetting=forgot(kind, value)))


def header_and_rows(made: str) -> tuple[list[str], dict[str, list[str]]]:
    """Of the first table."""
    lines = [line for line in made.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {row[0]: row[1:] for row in cells[2:]}
    return cells[0], rows


def test_forgetting_stands_behind_the_scores_with_its_interval_and_test(tmp_path):
    save_forgetting(
        tmp_path, "bbc", "loss", lora=[0.5, 0.6, 0.7], full=[0.1, 0.2, 0.15], old=[-0.1, 0.3, 0.1]
    )
    save_forgetting(tmp_path, "movie", "drift", lora=[0.2, 0.21, 0.22], full=[0.8, 0.81, 0.83])
    for label in ("lora", "full"):
        for seed in range(3):
            save(tmp_path, run_record("toy", label, seed))
    scores, _, forgotten = markdown.section(leaderboard.section(Study.read(tmp_path))).partition("Forgetting")
    header, _ = header_and_rows(scores)
    assert header[1:] == ["bbc: accuracy ×100 ↑", "movie: accuracy ×100 ↑", "toy: accuracy ×100 ↑"]
    header, rows = header_and_rows(forgotten)
    assert header[1:] == ["bbc: forgetting, nats a token ↓", "movie: forgetting, drift ↓"]
    low, high = stats.t.interval(0.95, 2, 0.6, stats.sem([0.5, 0.6, 0.7]))
    assert rows["lora"][0] == f"0.60 [{low:.2f}, {high:.2f}] (3)"
    assert rows["full"][0].startswith("**0.15")
    assert not rows["full"][1].startswith("**")
    assert rows["old"][1] == "–"


def test_a_rise_that_may_be_negative_is_compared_by_differences_and_a_drift_by_ratio(tmp_path):
    save_forgetting(tmp_path, "bbc", "loss", lora=[0.5, 0.6, 0.7], full=[0.1, 0.2, 0.15])
    save_forgetting(tmp_path, "movie", "drift", lora=[0.2, 0.21, 0.22], full=[0.8, 0.81, 0.83])
    study = Study.read(tmp_path).by_forgetting
    bbc, movie = study.shown.groups
    assert study.gains[bbc]["full"].found.estimate == pytest.approx(0.45)
    ratio = np.log([0.8 / 0.2, 0.81 / 0.21, 0.83 / 0.22]).mean()
    assert study.gains[movie]["full"].found.estimate == pytest.approx(-ratio)


def test_values_of_another_text_are_left_out(tmp_path):
    save_forgetting(tmp_path, "bbc", "loss", lora=[0.5, 0.6, 0.7])
    for seed in range(2):
        changed = run_record("bbc", "full", seed, forgetting=forgot("loss", 0.1, text="cd"))
        save(tmp_path, changed)
    study = Study.read(tmp_path).by_forgetting
    (group,) = study.shown.groups
    assert list(study.standings[group]) == ["lora"]


def test_the_page_sorts_by_either_and_old_records_have_neither(folder, tmp_path):
    save_forgetting(folder, "bbc", "loss", lora=[0.5, 0.6, 0.7], full=[0.1, 0.2, 0.15])
    board = leaderboard.board(Study.read(folder))
    rows = {(row[0], row[1]): dict(zip(board.header, row, strict=True)) for row in board.rows}
    assert float(rows["full", "bbc"]["forgetting"]) == pytest.approx(0.15)
    assert rows["full", "bbc"]["held-out loss"] == rows["lora", "movie"]["forgetting"] == "–"
    assert rows["rslora", "movie"]["held-out loss"] == "–"
    assert math.isclose(
        float(rows["lora", "movie"]["held-out loss"]),
        np.mean([save_logits(folder, "lora", seed, 1.4).mean() for seed in range(3)]),
        rel_tol=1e-3,
    )
    old = tmp_path / "old"
    save(old, run_record("movie", "lora", 0), run_record("movie", "full", 0))
    study = Study.read(old)
    assert not {"held-out loss", "forgetting"} & {*leaderboard.board(study).header}
    assert "held-out" not in all_sections(study)
    assert "orgetting" not in markdown.section(leaderboard.section(study))
