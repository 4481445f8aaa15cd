"""Claims tested on measured values, against SciPy's tests and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rankbench.bench.records import Metrics
from rankbench.reports.claims.decide import decide, effects, measured
from rankbench.reports.claims.judge import judge
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.frames import load
from rankbench.reports.sections.verdicts import beside, summary_table
from rankbench.reports.stats.decision import Test
from tests.made_items import answers, save_answers
from tests.made_records import accuracy, curve, run_record, save
from tests.reports.test_claims import claim

VALUES = np.array([0.2, 1.1, 0.5, 1.4, 0.3])
OWN = {"measurement": "nonnegative_share", "against": None, "value": 0.5, "test": "seeds", "tolerance": 0.1}


@pytest.mark.parametrize(
    ("changes", "bound", "alternative"),
    [
        ({"direction": "superior", "tolerance": 0.1}, 0.1, "greater"),
        ({"direction": "not inferior", "tolerance": 0.1}, -0.1, "greater"),
        ({"direction": "superior", "measurement": "final_loss", "tolerance": 0.1}, -math.log(1.1), "less"),
        ({"direction": "not inferior", "measurement": "final_loss", "tolerance": 0.1}, math.log(1.1), "less"),
        (OWN | {"direction": "above"}, 0.6, "greater"),
        (OWN | {"direction": "at least"}, 0.4, "greater"),
        (OWN | {"direction": "below"}, 0.4, "less"),
        (OWN | {"direction": "at most"}, 0.6, "less"),
    ],
)
def test_over_seeds_alone_each_direction_is_scipys_one_sided_t_test(changes, bound, alternative):
    (found,) = decide(claim(**changes), [VALUES])
    expected = stats.ttest_1samp(VALUES, bound, alternative=alternative).pvalue
    assert found.p_if_untrue == pytest.approx(expected)
    assert found.p_if_true == pytest.approx(1 - expected)


def test_equivalence_is_two_one_sided_tests():
    (found,) = decide(claim(direction="equivalent", tolerance=1.5), [VALUES])
    above = stats.ttest_1samp(VALUES, -1.5, alternative="greater").pvalue
    below = stats.ttest_1samp(VALUES, 1.5, alternative="less").pvalue
    assert found.p_if_untrue == pytest.approx(max(above, below))
    assert found.outcome is Outcome.REPRODUCED
    (narrow,) = decide(claim(direction="equivalent", tolerance=0.01), [VALUES])
    both = [stats.ttest_1samp(VALUES, end, alternative="greater").pvalue for end in (-0.01, 0.01)]
    assert narrow.p_if_true == pytest.approx(sum(both))
    assert narrow.outcome is Outcome.NOT_REPRODUCED


@pytest.mark.parametrize("width", [0.0001, 0.3, 3.0])
def test_a_value_at_the_end_of_a_range_is_as_seldom_called_beyond_it_however_narrow_that_is(width):
    generator = np.random.default_rng(1)
    within = claim(direction="equivalent", tolerance=width)
    drawn = generator.standard_normal((2000, 5)) + width
    fails = sum(decide(within, [values])[0].outcome is Outcome.NOT_REPRODUCED for values in drawn)
    assert fails / 2000 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


def test_holm_corrects_over_the_rows_of_a_claim():
    raw = stats.ttest_1samp(VALUES, 0.0, alternative="greater").pvalue
    assert 0.025 > raw > 0.05 / 3
    (alone,) = decide(claim(), [VALUES])
    assert (alone.outcome, alone.p_if_untrue) == (Outcome.REPRODUCED, pytest.approx(raw))
    two = decide(claim(), [VALUES, 10 * VALUES])
    assert [one.p_if_untrue for one in two] == pytest.approx([2 * raw] * 2)
    three = decide(claim(), [VALUES, VALUES, VALUES - 0.7])
    assert [one.outcome for one in three] == [Outcome.UNDERPOWERED] * 3
    assert three[0].p_if_untrue == pytest.approx(3 * raw)


def test_what_has_no_spread_does_not_count_in_the_correction():
    exact = decide(claim(**(OWN | {"direction": "at least", "value": 3})), [np.full(3, 4.0), VALUES + 2.5])
    assert (exact[0].outcome, exact[0].p_if_untrue) == (Outcome.REPRODUCED, None)
    alone = stats.ttest_1samp(VALUES + 2.5, 2.9, alternative="greater").pvalue
    assert exact[1].p_if_untrue == pytest.approx(alone)
    (unknown,) = decide(claim(), [np.array([0.5])])
    assert (unknown.outcome, unknown.p_if_untrue) == (Outcome.UNDERPOWERED, None)
    assert math.isinf(unknown.found.low)


def differences(generator, gain, seeds=3, items=150):
    """Points that one method gains over another on items that suit either: (seeds, items)."""
    easiness = generator.standard_normal(items)
    suited = 0.7 * generator.standard_normal(items)
    own, other = (answers(generator, easiness + shift, seeds, luck=0.1) for shift in (suited + gain, 0.0))
    return 100.0 * own - 100.0 * other


def test_without_an_effect_few_claims_are_reproduced_and_with_one_most_are():
    """5 %, give or take three standard deviations of 200 rounds; over seeds alone, far more."""
    generator = np.random.default_rng(0)
    # An easiness of variance 1, or 1.49 where some items suit: P(z < 0) is 1/2 for both.
    null = [differences(generator, 0.0) for _ in range(200)]
    made = claim()
    wrong = sum(decide(made, [table])[0].outcome is Outcome.REPRODUCED for table in null) / 200
    careless = (
        sum(decide(made, [table.mean(axis=1)])[0].outcome is Outcome.REPRODUCED for table in null) / 200
    )
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert careless > wrong
    planted = [differences(generator, 1.2) for _ in range(50)]
    right = sum(decide(made, [table])[0].outcome is Outcome.REPRODUCED for table in planted) / 50
    assert right > 0.8
    inferior = claim(direction="not inferior", tolerance=1)
    lost = sum(decide(inferior, [-table])[0].outcome is Outcome.NOT_REPRODUCED for table in planted) / 50
    assert lost > 0.8


def test_scores_are_judged_item_by_item_where_the_predictions_are(tmp_path):
    generator = np.random.default_rng(1)
    easiness = generator.standard_normal(200)
    for adapter, gain in (("lora", 0.0), ("scalora", 1.2)):
        config = {"adapter": {"name": adapter, "rank": 4}}
        save_answers(tmp_path, adapter, answers(generator, easiness + gain, 3, luck=0.1), config=config)
    (verdict,) = judge(load(tmp_path), [claim()])
    assert (verdict.outcome, verdict.found.n, verdict.found.items) == (Outcome.REPRODUCED, 3, 200)
    assert str(verdict.found).endswith("(3 × 200)")
    assert verdict.p_if_untrue < 0.05
    scores = load(tmp_path).groups[0].scores
    table = 100 * (np.array(list(scores["scalora"].values())) - np.array(list(scores["lora"].values())))
    assert verdict.found.estimate == pytest.approx(table.mean())


def test_the_summary_counts_settings(tmp_path):
    for task, gain in (("bbc", 0.05), ("movie", -0.05), ("tweets", 0.05)):
        for seed, noise in enumerate((0.0, 0.002, 0.004)):
            save(tmp_path, run_record(task, "lora", seed, metrics=accuracy(0.8)))
            save(tmp_path, run_record(task, "scalora", seed, metrics=accuracy(0.8 + gain + noise)))
    made = [claim(), claim(id="other", against="none"), claim(id="same", tolerance=90)]
    verdicts = judge(load(tmp_path), made)
    by_claim = [[one for one in verdicts if one.claim is claimed] for claimed in made]
    summary = summary_table(by_claim)
    shown = [outcome.value for outcome in Outcome if outcome is not Outcome.EQUIVALENT]
    assert summary.header == ["claim", "over the settings", *shown]
    assert summary.rows == [
        ["[s](#claim-made)", "REPRODUCED in 2, NOT REPRODUCED in 1 of 3", "2", "1", "–", "–", "–"],
        ["[s](#claim-other)", "NOT RUN", "–", "–", "–", "–", "1"],
        ["[s](#claim-same)", "NOT REPRODUCED", "–", "3", "–", "–", "–"],
    ]


def test_effects_are_paired_by_seed():
    own, other = {0: 2.0, 1: 3.0, 5: 9.0}, {1: 6.0, 0: 1.0}
    assert effects(own, other, ratio=False).tolist() == [1.0, -3.0]
    assert effects(own, other, ratio=True).tolist() == pytest.approx([math.log(2.0), math.log(0.5)])
    assert effects(own, None, ratio=False).tolist() == [2.0, 3.0, 9.0]
    assert effects({0: 1.0}, {1: 1.0}, ratio=False).size == 0
    assert Test.PAIRED_SEEDS_AND_ITEMS == "paired seeds and items"


LOSSES = st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6)


@given(LOSSES, LOSSES, st.sampled_from(["superior", "not inferior", "equivalent"]))
def test_swapping_two_methods_turns_the_interval_of_their_ratio_into_its_reciprocal(first, second, direction):
    own, other = dict(enumerate(first)), dict(enumerate(second))
    made = claim(measurement="final_loss", direction=direction, tolerance=0.1)
    there, back = (measured(made, effects(*pair, ratio=True)) for pair in ((own, other), (other, own)))
    assert there.estimate == pytest.approx(1 / back.estimate)
    if not math.isinf(there.high):
        assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_a_mean_of_ratios_would_put_both_above_one(tmp_path):
    """Ours on BBC once: scalora/lora 1.22 and lora/scalora 1.03 as means of ratios."""
    losses = {"lora": [0.1, 0.2, 0.3], "scalora": [0.2, 0.2, 0.15]}
    for adapter, values in losses.items():
        for seed, value in enumerate(values):
            save(tmp_path, run_record("movie", adapter, seed, curve=curve([value] * 10)))
    pairs = (("scalora", "lora"), ("lora", "scalora"))
    made = [
        claim(id=f"c{i}", measurement="final_loss", method=a, against=b) for i, (a, b) in enumerate(pairs)
    ]
    ahead, behind = (verdict.found for verdict in judge(load(tmp_path), made))
    assert (ahead.estimate, behind.estimate) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("loss", [0.0, -0.1])
def test_what_is_not_above_zero_has_no_ratio(tmp_path, loss):
    for adapter, value in (("lora", 0.5), ("scalora", loss)):
        for seed in range(3):
            save(tmp_path, run_record("movie", adapter, seed, curve=curve([value] * 10)))
    (verdict,) = judge(load(tmp_path), [claim(measurement="final_loss")])
    assert (verdict.outcome, verdict.found) == (Outcome.UNDERPOWERED, None)
    assert verdict.reason == "a value that is not above 0 has no ratio"


def test_a_seed_without_an_error_is_not_passed_over(tmp_path):
    """By the two others the method would be the worse one, and it has made no mistake in the best."""
    for adapter, errors in (("lora", [0.10, 0.11, 0.10]), ("scalora", [0.12, 0.13, 0.0])):
        for seed, value in enumerate(errors):
            found = {"sklearn/zero_one_loss": value}
            metrics = Metrics(main=next(iter(found)), best=found, last=found, best_step=5, last_step=10)
            save(tmp_path, run_record("movie", adapter, seed, metrics=metrics))
    (verdict,) = judge(load(tmp_path), [claim(measurement="error", direction="not inferior")])
    assert (verdict.outcome, verdict.found) == (Outcome.UNDERPOWERED, None)
    assert verdict.reason == "an error of 0 has no logarithm"


@pytest.mark.parametrize("worst", [0.03, 15.0])
def test_means_that_contradict_the_logarithms_are_told_beside_them(tmp_path, worst):
    """Nine errors of ten are a fiftieth of the baseline's; the tenth makes their mean the larger one."""
    errors = [0.02, 0.021, 0.019, 0.02, 0.022, 0.02, 0.018, 0.02, 0.021]
    for adapter, values in (("lora", [1.0] * 10), ("scalora", [*errors, worst])):
        for seed, value in enumerate(values):
            found = {"mse": value * (1 + seed / 1000)}
            metrics = Metrics(main="mse", best=found, last=found, best_step=5, last_step=10)
            config = {"adapter": {"name": adapter, "rank": 4}}
            save(tmp_path, run_record("movie", adapter, seed, config=config, metrics=metrics))
    asked = claim(measurement="error", direction="not inferior", tolerance=0.07, test="paired seeds")
    (verdict,) = judge(load(tmp_path), [asked])
    assert verdict.outcome is Outcome.REPRODUCED
    factors = 1 + np.arange(10) / 1000
    means = (np.array([*errors, worst]) * factors).mean() / factors.mean()
    assert verdict.by_means == pytest.approx(math.log2(means))
    assert verdict.is_contradicted == (means > 2**0.07)
    assert ("by the plain means" in beside(verdict)) == (worst == 15.0)


def test_two_that_learned_nothing_are_not_compared(tmp_path):
    """Both answer as often right as the commonest class is common: neither is the better learner."""
    generator = np.random.default_rng(2)
    for adapter in ("lora", "scalora"):
        config = {"adapter": {"name": adapter, "rank": 4}}
        save_answers(tmp_path, adapter, generator.random((4, 200)) < 0.5, config=config)
    (verdict,) = judge(load(tmp_path), [claim(direction="not inferior", tolerance=50)])
    assert verdict.outcome is Outcome.UNDERPOWERED
    assert verdict.reason == "no method is shown to beat a constant answer (50)"
    assert verdict.p_if_untrue is None


def test_of_answers_that_are_all_right_something_was_learned(tmp_path):
    for adapter in ("lora", "scalora"):
        config = {"adapter": {"name": adapter, "rank": 4}}
        save_answers(tmp_path, adapter, np.ones((3, 200), bool), config=config)
    (verdict,) = judge(load(tmp_path), [claim(direction="not inferior", tolerance=1)])
    assert "constant answer" not in verdict.reason


def test_settings_of_their_own_are_named(tmp_path):
    for adapter, rate in (("lora", 0.002), ("scalora", 0.004)):
        config = {"adapter": {"name": adapter, "rank": 4}, "learning_rate": rate}
        for seed in range(3):
            save(
                tmp_path, run_record("movie", adapter, seed, config=config, metrics=accuracy(0.8 + seed / 50))
            )
    (verdict,) = judge(load(tmp_path), [claim()])
    assert verdict.reason == "own settings: learning_rate 0.004 and 0.002"
