"""Gains over LoRA and its noise card, against hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from rankbench.bench.records import Metrics
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.render.numbers import ends, number, p_value, quantity, ranged, ratio
from rankbench.reports.sections import leaderboard
from rankbench.reports.sections.scores import gains
from rankbench.reports.stats.evidence import evidence
from rankbench.reports.stats.standing import Basis, basis
from rankbench.reports.stats.summary import Spread
from rankbench.reports.study import Study
from tests.made_items import answers, save_answers, save_scored
from tests.made_records import accuracy, run_record, save


def rows(text):
    """Cells of the first table, by the first one."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {first: rest for first, *rest in cells[2:]}


def gains_of(folder):
    return told(Study.read(folder))


def told(study):
    (group,) = study.shown.groups
    return "\n\n".join(markdown.block(each) for each in gains(study, group))


LORA = (0.80, 0.82, 0.84)
SCALORA = (0.83, 0.83, 0.86)
"""Gains of 3, 1 and 2 points: mean 2, sd 1."""
RSLORA = (0.81, 0.82, 0.82)


@pytest.fixture
def made(tmp_path):
    for adapter, scores in (("lora", LORA), ("scalora", SCALORA), ("rslora", RSLORA)):
        for seed, score in enumerate(scores):
            save(tmp_path, run_record("movie", adapter, seed, metrics=accuracy(score)))
    return save(tmp_path, run_record("movie", "dora", 7, metrics=accuracy(0.5)))


def test_over_seeds_alone_it_is_the_paired_t_test_with_holm(made):
    found = rows(gains_of(made))
    reach = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert found["scalora"][0] == f"+2.00 [{2 - reach:+.2f}, {2 + reach:+.2f}]"
    smaller, larger = (stats.ttest_rel(scores, LORA).pvalue for scores in (SCALORA, RSLORA))
    assert found["scalora"][2:] == [f"{2 * smaller:.3f}", "3"]
    assert found["rslora"][2:] == [f"{max(larger, 2 * smaller):.3f}", "3"]
    assert found["dora"] == ["–", "–", "–", "0"], "seed 7 has no LoRA run to be paired with"


def test_the_noise_card_is_hand_computed(made):
    text = gains_of(made)
    assert "Over seeds, the items held fixed. Noise card, lora against itself over 3 seeds: sd 2.00;" in text
    # the single runs lie 2, 2 and 4 points apart
    assert "single runs on disjoint seeds lie 2.00 apart in the median, 4.00 at most" in text
    reach = stats.t.ppf(0.975, 2) * 2 * math.sqrt(2 / 3)
    assert f"two means of 3 lie more than {reach:.2f} apart in one case of 20" in text


def test_the_least_gain_that_the_seeds_find_has_the_stated_power(made):
    def power(gain):
        shift, critical = gain / (2 * math.sqrt(2)) * math.sqrt(3), stats.t.ppf(0.975, 2)
        return stats.nct.sf(critical, 2, shift) + stats.nct.cdf(-critical, 2, shift)

    least = optimize.brentq(lambda gain: power(gain) - 0.8, 4, 12)
    assert f"Least gain that 3 seeds find with 80% power: {least:.2f}" in gains_of(made)


def test_smaller_errors_are_gains(tmp_path):
    for adapter, errors in (("lora", (1.5, 1.6)), ("scalora", (1.25, 1.25))):
        for seed, error in enumerate(errors):
            best = {"mse": error}
            metrics = Metrics(
                main="mse", lower_is_better=True, best=best, last=best, best_step=1, last_step=1
            )
            save(tmp_path, run_record("movie", adapter, seed, metrics=metrics))
    text = gains_of(tmp_path)
    assert " mse ÷ lora's |" in text
    ratio = math.sqrt(1.25 / 1.5 * 1.25 / 1.6)
    assert rows(text)["scalora"][0].startswith(f"{ratio:.2f} [")


def test_the_ratio_of_errors_turned_over_is_the_reciprocal(tmp_path):
    for adapter, errors in (("lora", (1.0, 2.0, 1.5)), ("scalora", (2.0, 1.0, 1.2))):
        for seed, error in enumerate(errors):
            best = {"mse": error}
            metrics = Metrics(
                main="mse", lower_is_better=True, best=best, last=best, best_step=1, last_step=1
            )
            save(tmp_path, run_record("movie", adapter, seed, metrics=metrics))
    (group,) = load(tmp_path).groups
    compared = basis(group)
    there, back = (evidence(compared.gains(*pair)) for pair in (("scalora", "lora"), ("lora", "scalora")))
    assert there.interval() == pytest.approx(tuple(-end for end in reversed(back.interval())))
    product = math.prod(float(compared.text(one.estimate)) for one in (there, back))
    assert product == pytest.approx(1.0, rel=1e-3)


def test_the_logarithm_of_an_error_has_its_items(tmp_path):
    """Its spread over items is that of the logarithm over resampled items."""
    generator = np.random.default_rng(0)
    errors = generator.gamma(2.0, size=400)
    frame = pd.DataFrame({"item": [str(i) for i in range(400)], "squared_error": errors})
    best = {"mse": float(errors.mean())}
    metrics = Metrics(main="mse", lower_is_better=True, best=best, last=best, best_step=1, last_step=1)
    save_scored(tmp_path, "lora", 0, frame, metrics)
    (group,) = load(tmp_path).groups
    parts = basis(group).scores["lora"][0]
    assert parts.mean() == pytest.approx(math.log(errors.mean()))
    drawn = [math.log(errors[generator.integers(400, size=400)].mean()) for _ in range(500)]
    assert parts.std() / 20 == pytest.approx(np.std(drawn), rel=0.1)


def test_the_noise_of_errors_is_a_factor(tmp_path):
    for seed, error in enumerate((1.0, 2.0, 4.0)):
        best = {"mse": error}
        metrics = Metrics(main="mse", lower_is_better=True, best=best, last=best, best_step=1, last_step=1)
        save(tmp_path, run_record("movie", "lora", seed, metrics=metrics))
    text = gains_of(tmp_path)
    assert "sd a factor of 2;" in text
    assert "lie a factor of 2 apart in the median, a factor of 4 at most" in text


def test_one_seed_gains_without_an_interval(tmp_path):
    save(tmp_path, run_record("movie", "lora", 0, metrics=accuracy(0.8)))
    save(tmp_path, run_record("movie", "scalora", 0, metrics=accuracy(0.85)))
    text = gains_of(tmp_path)
    assert rows(text)["scalora"] == ["+5.00", "–", "–", "1"]
    assert "The noise of lora is not known: one seed; noise needs two." in text


def test_predictions_widen_the_interval_to_new_items(tmp_path):
    """Half of the items are won, half lost, by every seed but for one answer: seeds alone see no doubt."""
    wins = np.arange(60) % 2 == 0
    for adapter, right in (("lora", ~wins), ("scalora", wins)):
        table = np.tile(right, (3, 1))
        table[0, 0] = adapter == "lora"
        save_answers(tmp_path, adapter, table)
    with_items = rows(gains_of(tmp_path))["scalora"][0]
    for path in (tmp_path / "runs").glob("*.parquet"):
        path.unlink()
    by_seeds = rows(gains_of(tmp_path))["scalora"][0]
    low, high = (float(end) for end in with_items.split("[")[1].rstrip("]").split(", "))
    error = 200 / math.sqrt(60)  # of a mean of 60 differences of ±100 points, two standard errors
    assert (high - low) / 2 == pytest.approx(error, rel=0.1)
    low, high = (float(end) for end in by_seeds.split("[")[1].rstrip("]").split(", "))
    assert (high - low) / 2 < error / 4


def test_a_clear_gain_is_found_and_the_losers_are_not_bold(tmp_path):
    generator = np.random.default_rng(3)
    easiness = generator.standard_normal(400)
    for adapter, gain in (("lora", 0.0), ("rslora", 0.0), ("scalora", 1.0)):
        save_answers(tmp_path, adapter, answers(generator, easiness + gain, 4, luck=0.03))
    study = Study.read(tmp_path)
    text = told(study)
    assert "Over seeds and 400 test items." in text
    assert (float(rows(text)["rslora"][2]) > 0.05, rows(text)["scalora"][2]) == (True, "< 0.001")
    board = rows(markdown.section(leaderboard.section(study)))
    assert board["scalora"][0].startswith("**")
    assert not board["lora"][0].startswith("**")


def test_intervals_as_text():
    assert ranged(0.756, 0.7, 0.812, True) == "75.60 [70.00, 81.20]"
    assert ranged(1.5, 1.25, 1.75, False, signed=True) == "+1.50 [+1.25, +1.75]"
    assert ends(1234.0, 5678.0, False) == "[1,234, 5,678]"
    assert ends(2e-8, 3e-8, False) == "[2e-08, 3e-08]"
    assert ranged(1.0750e12, 9.8e8, 2.2e12, False) == "1.075e+12 [980,000,000, 2.2e+12]"
    assert quantity(Spread(1.0750e12, 9.2814e9, 3)) == "1.075e+12 ± 9.3e+09 (3)"
    assert [number(value) for value in (9999.4, 9999.6, -9999.6)] == ["9999", "10,000", "-10,000"]
    assert [p_value(p) for p in (None, 0.0004, 0.05, 1.0)] == ["–", "< 0.001", "0.050", "1.000"]


@pytest.mark.parametrize(
    ("value", "low", "high", "told"),
    [
        (0.001865, 1.966e-07, 17.69, "0.00186 [1.97e-07, 17.7]"),
        (7.174, 0.0254, 2025.3, "7.17 [0.0254, 2,025]"),
        (7.174, 0.0254, 999.7, "7.17 [0.0254, 1,000]"),
        (1.0102, 0.9793, 1.0419, "1.010 [0.979, 1.042]"),
        (3.9, 1.9, 8.2, "3.9 [1.9, 8.2]"),
        (1.0498522e24, 9.748e23, 1.13e24, "1.05e+24 [9.748e+23, 1.13e+24]"),
    ],
)
def test_no_ratio_is_told_as_0(value, low, high, told):
    assert ratio(value, low, high) == told


@pytest.mark.parametrize(
    ("difference", "told"),
    [(0.0, "1"), (4e-4, "1.0004"), (0.0213, "1.022"), (0.5, "1.65"), (3.0, "20.1")],
)
def test_a_factor_near_1_keeps_two_digits_of_what_it_has_beyond(difference, told):
    compared = Basis({}, is_ratio=True, percent=False, lower_is_better=True)
    assert compared.size(difference) == f"a factor of {told}"
