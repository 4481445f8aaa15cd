"""Sweeps: curves and budgets against hand-computed and enumerated values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rankbench.bench.records import FailureRecord, Metrics, Observation
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.render.blocks import pictures
from rankbench.reports.sections import leaderboard, scores
from rankbench.reports.sections.tuning import section
from rankbench.reports.stats.sweep import chosen_trials, sweeps
from rankbench.reports.study import Study
from tests.made_records import run_record, save

SCORES = {("lora", 0.001, None): 0.6, ("lora", 0.002, None): 0.8, ("lora", 0.004, None): 0.7}
SCALORA = {
    ("scalora", 0.001, 30): 0.5,
    ("scalora", 0.001, 300): 0.9,
    ("scalora", 0.002, 30): 0.65,
    ("scalora", 0.002, 300): 0.3,
}


def trial(folder, method, rate, smoothness, score, *, main="accuracy", lower=False, seed=100, **changes):
    """As versions without `method` and `point` wrote it: both are told from label and configuration."""
    label = f"{method}-learning-rate{rate:g}" + (f"-smoothness{smoothness}" if smoothness else "")
    # The test score would choose otherwise: it is the selection slice that counts.
    best = {main: 1 - score}
    metrics = Metrics(main=main, lower_is_better=lower, best=best, last=best, best_step=1, last_step=1)
    worse = score + (0.1 if lower else -0.1)
    seen = [Observation(step=5, selection=worse), Observation(step=9, selection=score)]
    config = {"learning_rate": rate, "adapter": {"name": method, "smoothness": smoothness}}
    save(
        folder, run_record("movie", label, seed, metrics=metrics, observations=seen, config=config, **changes)
    )


@pytest.fixture
def swept(tmp_path):
    for (method, rate, smoothness), score in (SCORES | SCALORA).items():
        trial(tmp_path, method, rate, smoothness, score)
    return tmp_path


def found(folder):
    suite = load(folder)
    (group,) = suite.groups
    return sweeps(group, suite.failures)


def test_a_curve_takes_the_best_of_the_other_settings(swept):
    lora, scalora = (found(swept)[method].curve for method in ("lora", "scalora"))
    assert [(point.rate, point.mean) for point in lora.points] == [(0.001, 0.6), (0.002, 0.8), (0.004, 0.7)]
    assert (lora.best, lora.at_edge) == (0.002, False)
    assert [(point.rate, point.mean) for point in scalora.points] == [(0.001, 0.9), (0.002, 0.65)]
    assert (scalora.best, scalora.at_edge) == (0.001, True)
    assert found(swept)["scalora"].chosen == "scalora-learning-rate0.001-smoothness300"


def test_the_best_of_k_is_the_mean_over_all_subsets(swept):
    best = found(swept)["scalora"].best
    for k in range(1, 5):
        subsets = itertools.combinations(SCALORA.values(), k)
        assert best[k - 1] == pytest.approx(np.mean([max(subset) for subset in subsets]))


def test_of_errors_the_smallest_is_best_and_seeds_are_averaged(tmp_path):
    for seed, extra in ((100, 0.0), (101, 0.2)):
        for rate, error in ((0.01, 0.5), (0.03, 0.1), (0.1, 0.3)):
            trial(tmp_path, "full", rate, None, error + extra, main="mse", lower=True, seed=seed)
    sweep = found(tmp_path)["full"]
    assert [point.mean for point in sweep.curve.points] == pytest.approx([0.6, 0.2, 0.4])
    assert (sweep.curve.best, sweep.chosen) == (0.03, "full-learning-rate0.03")
    assert sweep.best == pytest.approx([0.4, (0.2 + 0.2 + 0.4) / 3, 0.2])


def test_a_rate_that_diverged_with_some_seeds_is_not_chosen_by_the_others(tmp_path):
    for seed in range(3):
        for rate, score in ((0.001, 0.6), (0.002, 0.7)):
            trial(tmp_path, "lora", rate, None, score, seed=seed)
    trial(tmp_path, "lora", 0.004, None, 0.9, seed=0)
    for seed in (1, 2):
        place = {"suite": "made", "task": "movie", "adapter": "lora-learning-rate0.004", "seed": seed}
        save(tmp_path, FailureRecord(**place, fingerprint="", reason="made", config={}, provenance={}))
    assert found(tmp_path)["lora"].chosen == "lora-learning-rate0.002"
    assert Study.read(tmp_path).shown.groups[0].runs.keys() == {"lora-learning-rate0.002"}


def test_where_one_rate_of_two_diverged_the_other_is_chosen(tmp_path):
    for seed in range(2):
        trial(tmp_path, "lora", 0.001, None, 0.6, seed=seed)
    trial(tmp_path, "lora", 0.004, None, 0.9, seed=0)
    place = {"suite": "made", "task": "movie", "adapter": "lora-learning-rate0.004", "seed": 1}
    save(tmp_path, FailureRecord(**place, fingerprint="", reason="made", config={}, provenance={}))
    assert Study.read(tmp_path).shown.groups[0].runs.keys() == {"lora-learning-rate0.001"}
    assert section(Study.read(tmp_path))


def test_a_sweep_that_is_not_finished_is_judged_by_the_seeds_that_all_trials_have(tmp_path):
    """The second seed is a lucky one, and only one of the rates has it yet."""
    for rate, score in ((0.001, 0.6), (0.002, 0.7)):
        trial(tmp_path, "lora", rate, None, score, seed=0)
    trial(tmp_path, "lora", 0.001, None, 0.95, seed=1)
    assert found(tmp_path)["lora"].chosen == "lora-learning-rate0.002"


def test_the_section_has_a_figure_and_a_row_for_each_method(swept):
    made = section(Study.read(swept))
    assert [picture.name for picture in pictures([made])] == ["learning-rates--movie"]
    assert made == section(Study.read(swept))
    lines = [line for line in markdown.section(made).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0][5:] == ["best of 1", "best of 2", "best of 4", "best trial"]
    assert rows[2] == [
        "lora", "0.001 to 0.004", "3", "0.002", "no", "70.00", "76.67", "–", "lora-learning-rate0.002"
    ]  # fmt: skip
    assert rows[3][4:8] == ["yes", "58.75", "75.00", "90.00"]


def test_without_a_sweep_there_is_no_section(tmp_path):
    save(tmp_path, run_record("movie", "lora", 0), run_record("movie", "scalora", 0))
    trial(tmp_path, "rslora", 0.001, None, 0.5)
    assert section(Study.read(tmp_path)) is None


def test_the_leaderboard_has_a_row_a_method_with_what_was_chosen(swept):
    text = markdown.section(leaderboard.section(Study.read(swept)))
    rows = [line for line in text.split("<details>")[0].splitlines() if line.startswith("|")]
    assert rows.pop(1).count(":-") == 2, "words, which may break: the table fits the page"
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[1:]] == [
        ["lora", "20.00 (1) at learning rate 0.002"],
        ["scalora", "10.00 (1) at learning rate 0.001, smoothness 300"],
    ]


@pytest.mark.parametrize("field", ["length", "loop_version"])
def test_other_protocols_do_not_share_a_curve(field, tmp_path):
    for value in (1, 2):
        for rate in (0.001, 0.002):
            trial(tmp_path, "lora", rate * value, None, 0.7, protocol={"length": 64} | {field: value})
    assert len(chosen_trials(load(tmp_path)).groups) == 2


def test_labels_do_not_make_a_sweep_but_the_records_fields(tmp_path):
    for number, (rate, smoothness, score) in enumerate([(0.1, 30, 0.5), (0.1, 300, 0.9), (0.2, 30, 0.6)]):
        point = {"smoothness": smoothness, "learning_rate": rate}
        seen = [Observation(step=9, selection=score)]
        save(tmp_path, run_record("movie", f"t{number}", 0, observations=seen, method="mine", point=point))
    sweep = found(tmp_path)["mine"]
    assert [(point.rate, point.mean) for point in sweep.curve.points] == [(0.1, 0.9), (0.2, 0.6)]
    assert sweep.chosen == "t1"


def test_a_label_that_only_looks_like_a_trial_is_none(tmp_path):
    for rate in ("0.1", "0.2"):
        seen = [Observation(step=9, selection=0.5)]
        save(tmp_path, run_record("movie", f"lora-learning-rate{rate}", 0, observations=seen))
    assert found(tmp_path) == {}


def test_a_selection_by_log_likelihood_is_shown_as_it_is(tmp_path):
    best = {"exact_match_strict_match": 0.25}
    metrics = Metrics(main="exact_match_strict_match", best=best, last=best, best_step=1, last_step=1)
    for rate, score in ((0.1, -1.5), (0.2, -0.25)):
        config = {"learning_rate": rate, "adapter": {"name": "lora"}}
        made = run_record(
            "gsm8k", f"lora-learning-rate{rate}", 0, config=config, metrics=metrics,
            observations=[Observation(step=9, selection=score)],
        )  # fmt: skip
        save(tmp_path, made)
    text = markdown.section(section(Study.read(tmp_path)))
    (row,) = (line for line in text.splitlines() if line.startswith("| lora "))
    assert [cell.strip() for cell in row.split("|")[6:8]] == ["-0.875", "-0.25"]
    assert "selection: answer_loglikelihood" in markdown.section(scores.section(Study.read(tmp_path)))
