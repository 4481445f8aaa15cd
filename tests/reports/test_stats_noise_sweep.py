"""Noise cards, power and sweeps against closed forms, brute force and simulation."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from rankbench.reports.stats.evidence import StatsError, Unjudged
from rankbench.reports.stats.noise import NoiseCard, minimum_detectable_effect, noise_card
from rankbench.reports.stats.sweep import expected_best, rate_curve


def card(scores: list[float]) -> NoiseCard:
    found = noise_card(scores)
    assert isinstance(found, NoiseCard)
    return found


def test_noise_card_by_hand() -> None:
    found = card([1.0, 2.0, 4.0])
    assert found.differences == pytest.approx([-3, -2, -1, 1, 2, 3])
    assert (found.seeds, found.per_side) == (3, 1)
    assert card([0.0, 1.0, 10.0, 20.0]).differences == pytest.approx([-14.5, -5.5, -4.5, 4.5, 5.5, 14.5])


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 8])
def test_noise_card_has_the_variance_of_two_means(seeds: int) -> None:
    found = card(list(np.random.default_rng(0).standard_normal(seeds)))
    assert np.mean(found.differences**2) == pytest.approx(2 * found.sd**2 / found.per_side)
    assert found.differences.mean() == pytest.approx(0, abs=1e-12)


def test_noise_alone_exceeds_the_reach_in_one_of_twenty() -> None:
    runs = np.random.default_rng(1).standard_normal((4000, 2, 5))
    beyond = [abs(new.mean() - old.mean()) > card(list(old)).reach for old, new in runs[:2000]]
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.015)


def test_noise_card_unjudged() -> None:
    for scores in ([], [1.0], [1.0, float("nan")], [0.1, 0.1, 0.1]):
        assert isinstance(noise_card(scores), Unjudged), "a spread of zero over few seeds is no spread known"


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_detectable_effect_has_the_power_asked_for(seeds: int) -> None:
    effect = minimum_detectable_effect(0.7, seeds, power=0.8)
    assert isinstance(effect, float)
    center = effect / (0.7 * sqrt(2)) * sqrt(seeds)
    critical = stats.t.isf(0.025, seeds - 1)
    power = stats.nct.sf(critical, seeds - 1, center) + stats.nct.sf(critical, seeds - 1, -center)
    assert power == pytest.approx(0.8, abs=1e-3)


def test_detectable_effect_in_simulation() -> None:
    effect = minimum_detectable_effect(1.0, 5)
    assert isinstance(effect, float)
    rng = np.random.default_rng(2)
    lora, other = rng.standard_normal((2, 5, 4000))
    found = stats.ttest_rel(other + effect, lora, axis=0).pvalue < 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)


def test_detectable_effect_unjudged() -> None:
    assert isinstance(minimum_detectable_effect(1.0, 1), Unjudged)
    assert isinstance(minimum_detectable_effect(0.0, 5), Unjudged)
    assert isinstance(minimum_detectable_effect(float("nan"), 5), Unjudged)


@pytest.mark.parametrize(
    "scores", [[0.3, 0.9, 0.1, 0.5, 0.7, 0.2], [0.3, 0.9, 0.9, 0.5, 0.5, 0.5], [1.0]], ids=str
)
def test_expected_best_is_the_mean_over_subsets(scores: list[float]) -> None:
    sizes = range(1, len(scores) + 1)
    highest = [np.mean([max(subset) for subset in combinations(scores, k)]) for k in sizes]
    lowest = [np.mean([min(subset) for subset in combinations(scores, k)]) for k in sizes]
    assert expected_best(scores) == pytest.approx(highest)
    assert expected_best(scores, lower_is_better=True) == pytest.approx(lowest)


def test_expected_best_is_unbiased() -> None:
    """Uniform trials: the best of k has mean k / (k + 1), whatever the number of trials."""
    trials = np.random.default_rng(4).random((4000, 8))
    means = np.mean([expected_best(row) for row in trials], axis=0)
    sizes = np.arange(1, 9)
    assert means == pytest.approx(sizes / (sizes + 1), abs=0.01)


def test_expected_best_of_many_trials() -> None:
    scores = np.random.default_rng(5).random(500)
    found = expected_best(scores)
    assert found[0] == pytest.approx(scores.mean())
    assert found[-1] == pytest.approx(scores.max())
    assert (np.diff(found) >= -1e-9).all()


def test_rate_curve() -> None:
    scores = {1e-3: 0.8, 1e-4: 0.6, 1e-2: 0.3}
    found = rate_curve(scores)
    assert found.points == [(1e-4, 0.6), (1e-3, 0.8), (1e-2, 0.3)]
    assert (found.best, found.at_edge) == (1e-3, False)
    falling = rate_curve(scores, lower_is_better=True)
    assert (falling.best, falling.at_edge) == (1e-2, True)


def test_empty_sweeps() -> None:
    for call in (lambda: rate_curve({}), lambda: expected_best([])):
        with pytest.raises(StatsError, match="at least one"):
            call()
    with pytest.raises(StatsError, match="finite"):
        expected_best([1.0, float("nan")])


@pytest.mark.parametrize(("seeds", "size"), [(2, 11.5499), (3, 3.2640), (5, 1.6820), (30, 0.5292)])
def test_detectable_effect_is_that_of_power_analysis(seeds: int, size: float) -> None:
    """Effect sizes that statsmodels' TTestPower gives for 80 % power at 5 %, in standard deviations."""
    assert minimum_detectable_effect(1 / sqrt(2), seeds) == pytest.approx(size, abs=1e-4)
