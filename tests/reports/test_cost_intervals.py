"""The interval of a cost against simulated processes: it covers what the next process would measure."""

from __future__ import annotations

import numpy as np
import pytest

from rankbench.reports.stats.costs import Estimate, estimate, mean_ratios, median_ratios

TRUE = 1.05
RUNS = 1500


def measured(rng: np.random.Generator, processes: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Two contenders: 3 % from process to process, which all rounds of one share, and 5 % from round to
    round."""
    process = np.exp(rng.normal(0, 0.03, (2, processes, 1)))
    noise = np.exp(rng.normal(0, 0.05, (2, processes, rounds)))
    own, other = process * noise
    return TRUE * own, other


@pytest.mark.parametrize("ratios", [median_ratios, mean_ratios])
@pytest.mark.parametrize("processes", [2, 5])
def test_it_covers_the_true_ratio_as_often_as_it_says(ratios, processes):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(RUNS):
        own, other = measured(rng, processes, 10)
        found = estimate(ratios(own.tolist(), other.tolist()))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= TRUE <= found.high
    # 95 % by four standard errors of a share of 1500.
    assert covered / RUNS == pytest.approx(0.95, abs=0.0225)


def test_more_rounds_of_one_process_do_not_make_it_sure():
    """What a t-test over the rounds of one process would claim is true in fewer than half of the cases."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        (own,), (other,) = measured(rng, 1, 100)
        over_rounds = estimate(own / other)
        assert over_rounds.low is not None
        assert over_rounds.high is not None
        covered += over_rounds.low <= TRUE <= over_rounds.high
        assert estimate(mean_ratios([own.tolist()], [other.tolist()]))[1:] == (None, None)
    assert covered / 200 < 0.5


def test_turned_round_it_is_the_inverse():
    ratios = [1.1, 1.2, 0.9, 1.3, 1.05]
    found, turned = estimate(ratios), estimate(1 / ratio for ratio in ratios)
    assert found.low is not None
    assert found.high is not None
    assert turned == pytest.approx(Estimate(1 / found.middle, 1 / found.high, 1 / found.low))
