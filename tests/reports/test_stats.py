"""Statistics against closed forms, brute force and simulation."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as formula
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from rankbench.reports.stats.decision import Range, holm, holm_of_both
from rankbench.reports.stats.evidence import (
    Evidence,
    StatsError,
    Unjudged,
    components,
    counted,
    evidence,
    gains,
    hierarchical_bootstraps,
)
from rankbench.reports.stats.standing import Against, Basis

Array = NDArray[np.float64]
EFFECTS = {
    # sd of the seed effect, item effect and residual
    "no seed effect": (0.0, 0.3, 1.0),
    "neither effect": (0.0, 0.0, 1.0),
    "seed effect": (0.1, 0.3, 1.0),
    "seeds and items alike": (0.05, 0.5, 0.5),
    "items above all": (0.02, 1.0, 0.5),
    "seeds above all": (0.5, 0.3, 0.5),
}


def tables(
    effects: tuple[float, float, float], seeds: int, items: int = 100, count: int = 4000, seed: int = 0
) -> Array:
    """Differences (count, seeds, items) around a true mean of 0."""
    rng = np.random.default_rng(seed)
    of_seeds, of_items, residual = effects
    table: Array = of_seeds * rng.standard_normal((count, seeds, 1))
    table = table + of_items * rng.standard_normal((count, 1, items))
    return table + residual * rng.standard_normal((count, seeds, items))


def right_or_wrong(seeds: int, items: int = 100, count: int = 4000) -> Array:
    """Differences in {-1, 0, 1} of two methods' right answers; the true mean is 0.05."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.2, 0.75, (count, 1, items))
    ahead = 0.05 + rng.uniform(-0.1, 0.1, (count, 1, items)) + rng.uniform(-0.05, 0.05, (count, seeds, 1))
    shape = (count, seeds, items)
    return (rng.random(shape) < hard + ahead).astype(float) - (rng.random(shape) < hard)


def judged(differences: Array) -> Evidence:
    found = evidence(differences)
    assert isinstance(found, Evidence)
    return found


def covered(found: Evidence, truth: float) -> float:
    low, high = found.interval()
    return float(np.mean((low <= truth) & (truth <= high)))


def test_seeds_alone_are_the_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 5))
    found, truth = judged(a - b), stats.ttest_rel(a, b)
    assert found.p_value() == pytest.approx(truth.pvalue)
    assert found.interval(0.9) == pytest.approx(tuple(truth.confidence_interval(0.9)))
    assert found.p_at_most() == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)
    assert found.p_at_least() == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)


def test_variance_parts_are_those_of_the_analysis_of_variance() -> None:
    table = tables((0.5, 2.0, 1.0), 4, 7, 1)[0]
    long = pd.DataFrame(table).stack().rename_axis(["seed", "item"]).reset_index(name="y")
    squares = anova_lm(formula.ols("y ~ C(seed) + C(item)", long).fit())
    mean = squares["sum_sq"] / squares["df"]
    found = judged(table)
    assert found.estimate == pytest.approx(table.mean())
    assert found.seed_variance == pytest.approx(mean["C(seed)"] / 28)
    assert found.item_variance == pytest.approx((mean["C(item)"] - mean["Residual"]) / 28)


def test_interval_ends_where_p_is_alpha() -> None:
    found = components(tables((0.1, 0.3, 1.0), 3, count=50))
    for level in (0.8, 0.95, 0.999):
        for end in found.interval(level):
            moved = Evidence(found.estimate - end, found.seed_variance, found.item_variance, 3, 100)
            assert moved.p_value() == pytest.approx([1 - level] * 50, rel=1e-6)


def test_one_comparison_is_a_batch_of_one() -> None:
    table = tables((0.1, 0.3, 1.0), 3, count=3)
    low, high = judged(table[1]).interval()
    lows, highs = components(table).interval()
    assert (low, high) == pytest.approx((lows[1], highs[1]))


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.92), (3, 0.94), (5, 0.94)])
@pytest.mark.parametrize("effects", EFFECTS.values(), ids=EFFECTS)
def test_intervals_cover(effects: tuple[float, float, float], seeds: int, least: float) -> None:
    assert least <= covered(components(tables(effects, seeds)), 0.0) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_accuracies_cover(seeds: int) -> None:
    differences = right_or_wrong(seeds)
    spread = np.ptp(differences.mean(axis=-1), axis=-1) > 0
    assert spread.mean() > 0.98
    assert 0.93 <= covered(components(differences[spread]), 0.05) <= 0.97


@pytest.mark.parametrize(("seeds", "most"), [(2, 0.07), (3, 0.055), (5, 0.055)])
@pytest.mark.parametrize("effects", EFFECTS.values(), ids=EFFECTS)
def test_false_positives_under_no_effect(
    effects: tuple[float, float, float], seeds: int, most: float
) -> None:
    p = components(tables(effects, seeds, count=5000, seed=3)).p_value()
    positives = int(np.count_nonzero(p < 0.05))
    assert stats.binomtest(positives, 5000, most, alternative="greater").pvalue > 0.01


def test_power_is_that_of_the_t_test() -> None:
    effects = (0.1, 0.0, 1.0)
    sd = sqrt(0.1**2 + 1 / 100)
    shift = 3 * sd
    found = components(tables(effects, 5) + shift).p_value() < 0.05
    truth = stats.nct.sf(stats.t.isf(0.025, 4), 4, 3 * sqrt(5))
    assert np.mean(found) == pytest.approx(truth, abs=0.03)
    assert np.mean(found) > 0.9


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("effects", EFFECTS.values(), ids=EFFECTS)
def test_bootstrap_covers(effects: tuple[float, float, float], seeds: int) -> None:
    """Not shown to be outside 93 to 97 %."""
    found = [
        hierarchical_bootstraps([table], draws=300, seed=index)[0]
        for index, table in enumerate(tables(effects, seeds, count=350, seed=4))
    ]
    hits = sum(one.low <= 0 <= one.high for one in found if not isinstance(one, Unjudged))
    assert stats.binomtest(hits, 350, 0.93, alternative="less").pvalue > 0.01
    assert stats.binomtest(hits, 350, 0.97, alternative="greater").pvalue > 0.01


def test_bootstrap_has_the_spread_of_the_variance_parts() -> None:
    table = tables((0.3, 0.5, 1.0), 30, 200, 1)[0]
    (found,), truth = hierarchical_bootstraps([table]), judged(table)
    assert not isinstance(found, Unjudged)
    assert (found.low, found.high) == pytest.approx(truth.interval(), abs=0.1 * float(truth.standard_error))
    assert hierarchical_bootstraps([table]) == [found]


def test_unjudged_says_why() -> None:
    for differences, reason in (
        ([], "no seed to compare by"),
        ([0.5], "one seed to compare by"),
        ([0.5, 0.5, 0.5], "same in all 3 seeds"),
        ([[1.0, 0.0], [0.0, 1.0]], "same in all 2 seeds"),
        ([0.5, float("inf")], "not a finite number"),
    ):
        found = evidence(differences)
        assert isinstance(found, Unjudged)
        assert reason in str(found)
        assert hierarchical_bootstraps([differences]) == [found]


def test_gains_pair_the_shared_seeds() -> None:
    ours, theirs = {2: [1, 0], 0: [1, 1], 7: [0, 0]}, {0: [0, 1], 2: [0, 0]}
    np.testing.assert_array_equal(gains(ours, theirs), [[1, 0], [1, 0]])
    np.testing.assert_array_equal(gains({0: 3.0}, {0: 1.0}, lower_is_better=True), [-2.0])
    assert gains({0: 1.0}, {1: 1.0}).shape == (0,)
    with pytest.raises(StatsError, match="2 and 3 items"):
        gains({0: [1, 1]}, {0: [1, 1, 1]})
    with pytest.raises(StatsError, match="3 axes"):
        evidence(np.zeros((2, 2, 2)))


def test_claims_are_pairs_of_one_sided_tests() -> None:
    clear, below = (judged(sign * np.array([1.0, 1.1, 0.9, 1.05])) for sign in (1, -1))
    tiny, wide = judged(np.array([0.01, -0.01, 0.02])), judged(np.array([-1.0, 1.1, -0.9]))
    superior, not_inferior, equivalent = Range(low=0.0), Range(low=-0.5), Range(-0.5, 0.5)
    for claim, found, wanted in (
        (superior, clear, "holds"),
        (superior, below, "fails"),
        (Range(low=0.5), tiny, "fails"),
        (superior, tiny, "open"),
        (not_inferior, tiny, "holds"),
        (not_inferior, below, "fails"),
        (not_inferior, wide, "open"),
        (equivalent, tiny, "holds"),
        (equivalent, clear, "fails"),
        (equivalent, wide, "open"),
        (Range(high=0.5), below, "holds"),
        (Range(high=0.5), clear, "fails"),
        (Range(high=0.5), wide, "open"),
    ):
        assert claim.test(found).decision == wanted


@pytest.mark.parametrize("ends", [(1.0, -1.0), (-np.inf, np.inf), (float("nan"), 1.0)])
def test_a_range_that_decides_nothing_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(StatsError, match="decides nothing"):
        Range(*ends)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    sample = np.array([0.1, -0.2, 0.15, 0.05])
    found = Range(-0.3, 0.3).test(judged(sample))
    above = [stats.ttest_1samp(sample, end, alternative="greater").pvalue for end in (-0.3, 0.3)]
    below = [stats.ttest_1samp(sample, end, alternative="less").pvalue for end in (-0.3, 0.3)]
    assert found == pytest.approx((max(above[0], below[1]), min(sum(below), sum(above))))
    low, high = judged(sample).interval(0.9)
    assert (found.decision == "holds") == (low > -0.3 and high < 0.3)


def test_both_kinds_of_p_value_are_adjusted_on_their_own() -> None:
    sample = np.array([0.2, 1.1, 0.5, 1.4, 0.3])
    one = Range(low=0.0).test(judged(sample))
    both = holm_of_both({"a": one, "b": one})
    assert both["a"] == both["b"] == (2 * one.p_if_untrue, 1.0)


def test_claims_hold_wrongly_in_at_most_alpha() -> None:
    """At the edge of its opposite: a true difference of exactly the tolerance is not equivalent."""
    for seeds in (3, 5):
        edge = components(tables((0.1, 0.2, 1.0), seeds) + 0.5)
        opposite = np.maximum(edge.p_at_most(-0.5), edge.p_at_least(0.5))
        assert np.mean(opposite < 0.05) <= 0.055
        # and the same difference against a wide tolerance is found equivalent
        assert np.mean(np.maximum(edge.p_at_most(-2), edge.p_at_least(2)) < 0.05) > 0.9


def test_holm_by_hand() -> None:
    """Sorted .01 .02 .03 .04 times 4 3 2 1, running maximum."""
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.02})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.06, "d": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_holm_is_statsmodels() -> None:
    generator = np.random.default_rng(0)
    for count in (1, 2, 7, 30):
        p = generator.uniform(size=count) ** 3
        p[: count // 2] = p[0]
        expected = multipletests(p, method="holm")[1]
        assert list(holm(dict(enumerate(p))).values()) == pytest.approx(list(expected))


def scores(rng: np.random.Generator, shifts: list[float], seeds: int, items: int = 60) -> dict[str, dict]:
    """Methods on the same seeds and items; sd over items 1, over seeds 0.05."""
    hard = rng.standard_normal(items)
    luck = 0.05 * rng.standard_normal(seeds)
    return {
        f"m{index}": {
            seed: shift + hard + luck[seed] + 0.05 * rng.standard_normal() + 0.4 * rng.standard_normal(items)
            for seed in range(seeds)
        }
        for index, shift in enumerate(shifts)
    }


def against(methods: dict[str, dict[int, Array]], baseline: str) -> dict[str, Against]:
    return Basis(methods, is_ratio=False, percent=False, lower_is_better=False).against(baseline)


@pytest.mark.parametrize("seeds", [3, 5])
def test_families_of_equals(seeds: int) -> None:
    """No difference anywhere: at most 5 % of the families show one."""
    rng = np.random.default_rng(5)
    false_gains = 0
    for _ in range(400):
        methods = scores(rng, [0.0] * 5, seeds)
        found = against(methods, "m0").values()
        false_gains += any(one.p is not None and one.p < 0.05 for one in found)
    assert stats.binomtest(false_gains, 400, 0.05, alternative="greater").pvalue > 0.01


def test_one_shared_seed_cannot_be_judged() -> None:
    lone = against({"lora": {0: np.array(1.0)}, "other": {0: np.array(2.0)}}, "lora")["other"]
    assert lone.p is None
    assert isinstance(lone.found, Unjudged)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e5])
def test_equal_differences_have_no_spread_however_the_scores_are_rounded(size: float) -> None:
    """Without a grid, 0.1 between scores of 1e5 differs by 1e-11 from seed to seed: no width."""
    base = {seed: size * (1 + seed / 3) for seed in range(4)}
    own = {seed: value + 0.1 * size for seed, value in base.items()}
    assert isinstance(evidence(gains(own, base)), Unjudged)
    assert gains(own, base) == pytest.approx(np.full(4, 0.1 * size))
    own[3] += 1e-9 * size
    assert not isinstance(evidence(gains(own, base)), Unjudged)


def test_numbers_of_things_as_text() -> None:
    assert [counted(n, "seed") for n in (0, 1, 2)] == ["no seed", "one seed", "2 seeds"]
