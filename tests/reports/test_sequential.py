"""Group-sequential tests: levels against closed forms, and by simulation the errors of what they decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rankbench.bench.suite.staged import STAGES
from rankbench.reports.stats.decision import ALPHA
from rankbench.reports.stats.evidence import Evidence, Unjudged, evidence
from rankbench.reports.stats.sequential import Staged, by_stage, information, judged, level_of, overall
from tests import sequential_error as simulated
from tests.sequential_error import KINDS, Suite, errors, ever, normal, seeds_until

ROUNDS = 3000
SHARES = np.diff([0, *STAGES]) / STAGES[-1]


def limit(rounds, share=ALPHA):
    """Three standard deviations of a simulated share above it."""
    return share + 3 * math.sqrt(share * (1 - share) / rounds)


def test_one_stage_is_an_ordinary_test():
    for p in (1e-9, 1e-4, 0.013, 0.2, 0.49):
        assert overall([p], (7,)) == pytest.approx(p, rel=1e-3)
    assert level_of(ALPHA, (7,), 0) == pytest.approx(ALPHA)


def test_two_stages_have_the_levels_of_the_bivariate_normal_distribution():
    likeness = math.sqrt(information(3) / information(5))
    together = stats.multivariate_normal([0, 0], [[1, likeness], [likeness, 1]])
    bounds = [stats.norm.isf(level_of(ALPHA, (3, 5), stage)) for stage in (0, 1)]
    assert level_of(ALPHA, (3, 5), 0) == pytest.approx(ALPHA * 3 / 5)
    assert 1 - together.cdf(bounds) == pytest.approx(ALPHA, rel=1e-3)


@pytest.mark.parametrize("alpha", [ALPHA, 0.004])
def test_each_stage_spends_its_share_of_a_normal_process(alpha):
    rounds, generator = 400_000, np.random.default_rng(0)
    sums, before, first = np.zeros(rounds), 0.0, np.full(rounds, len(STAGES))
    for stage, now in enumerate(map(information, STAGES)):
        sums += math.sqrt(now - before) * generator.standard_normal(rounds)
        over = sums / math.sqrt(now) > stats.norm.isf(level_of(alpha, STAGES, stage))
        first[over & (first == len(STAGES))], before = stage, now
    found = np.bincount(first, minlength=len(STAGES))[: len(STAGES)] / rounds
    assert found == pytest.approx(alpha * SHARES, abs=4 * math.sqrt(alpha / rounds))


def test_a_stages_level_is_where_the_overall_p_is_alpha():
    for stage in range(len(STAGES)):
        p = [1.0] * stage + [level_of(ALPHA, STAGES, stage)]
        assert overall(p, STAGES) == pytest.approx(ALPHA, rel=1e-3)
    assert overall([], STAGES) == 1.0


def test_overall_never_rises_with_stages_nor_falls_with_p():
    generator = np.random.default_rng(1)
    p = generator.random((200, len(STAGES))) ** 4
    each = by_stage(p, STAGES)
    so_far = np.array([overall(p[:, : count + 1], STAGES) for count in range(len(STAGES))])
    assert np.array_equal(so_far, np.minimum.accumulate(each.T, axis=0))
    assert (by_stage(p + 1e-3, STAGES) >= each).all()


def test_staged_evidence_is_that_of_its_looks():
    values = np.random.default_rng(2).standard_normal(13) + 0.4
    found = judged(values, STAGES)
    assert isinstance(found, Staged)
    looks = [evidence(values[:seeds]) for seeds in (3, 5, 8, 12)]
    assert (found.seeds, found.estimate, found.looks) == (12, looks[-1].estimate, tuple(looks))
    for bound in (-0.3, 0.0, 0.8):
        above, below = ([getattr(one, name)(bound) for one in looks] for name in ("p_at_most", "p_at_least"))
        assert found.p_at_most(bound) == overall(above, STAGES)
        assert found.p_at_least(bound) == overall(below, STAGES)
        assert found.p_value(bound) == min(1, 2 * min(overall(above, STAGES), overall(below, STAGES)))
    assert type(judged(values, ())) is Evidence
    assert str(judged(values[:2], STAGES)) == "2 seeds: judged after 3"
    assert isinstance(judged(np.ones(5), STAGES), Unjudged)


def test_alike_at_first_is_judged_when_seeds_differ():
    found = judged([1.0, 1.0, 1.0, 2.0, 1.5], STAGES)
    assert found.looks[0] is None
    assert found.p_at_most(0.0) == overall([1.0, evidence([1.0, 1.0, 1.0, 2.0, 1.5]).p_at_most(0.0)], STAGES)


def test_repeated_intervals_hold_the_truth_at_all_stages_at_once():
    """Those of fixed numbers of seeds do not, looked at as often."""
    generator, missed, careless = np.random.default_rng(3), 0, 0
    for _ in range(ROUNDS // 5):
        values = generator.standard_normal(20)
        plan = (3, 5, 8, 12, 20)
        ends = [judged(values[:seeds], plan).interval(0.9) for seeds in plan]
        fixed = [evidence(values[:seeds]).interval(0.9) for seeds in plan]
        missed += any(low > 0 or high < 0 for low, high in ends)
        careless += any(low > 0 or high < 0 for low, high in fixed)
    assert missed <= limit(ROUNDS // 5, 0.1) * ROUNDS // 5 < careless


SOUND = [name for name in KINDS if name.startswith(("normal", "t with", "exponential, ", "50 items"))]
"""Differences that are spread alike to both sides, as those of methods that do not differ are."""


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", SOUND)
def test_few_claims_are_wrongly_decided_at_any_stage(name, rows):
    assert max(errors(KINDS[name], rows, ROUNDS)) <= limit(simulated.fewer(KINDS[name], ROUNDS))


@pytest.mark.parametrize("plan", [(3, 5), (3, 5, 8), (3, 5, 8, 12), (2, 3, 5), (4, 5, 8, 10)])
def test_other_plans_keep_to_the_level_too(plan):
    rounds = 20 * ROUNDS
    assert max(errors(Suite(normal, normal, plan=plan), 1, rounds)) <= limit(rounds, 0.0505)


@pytest.mark.slow
@pytest.mark.parametrize("rows", simulated.ROWS)
@pytest.mark.parametrize("name", SOUND)
def test_few_claims_are_wrongly_decided_or_equivalent_at_any_stage(name, rows):
    kind, rounds = KINDS[name], 5 * ROUNDS // rows
    found = *errors(kind, rows, rounds), simulated.error_of_equivalence(kind, rows, 2.0, rounds)
    assert max(found) <= limit(simulated.fewer(kind, rounds))


def test_few_claims_are_wrongly_equivalent_at_the_margin():
    found = [simulated.error_of_equivalence(KINDS["normal"], rows, 2.0, ROUNDS) for rows in (1, 4)]
    assert max(found) <= limit(ROUNDS)
    assert found[0] > ALPHA / 2


def test_looking_as_often_without_stages_would_err_far_more():
    generator = np.random.default_rng(4)
    values = generator.standard_normal((ROUNDS, STAGES[-1]))
    looks = [
        stats.ttest_1samp(values[:, :seeds], 0, axis=1, alternative="greater").pvalue for seeds in STAGES
    ]
    assert (np.min(looks, axis=0) < ALPHA).mean() > 2 * limit(ROUNDS)


def test_a_lopsided_difference_errs_more_as_the_t_test_itself_does():
    """What docs/deciding.md says of them: most of the error is there without looking more than once."""
    kind = KINDS["difference itself exponential"]
    staged, once = max(errors(kind, 1, ROUNDS)), simulated.fixed(kind, 3, rounds=ROUNDS)
    assert staged > limit(ROUNDS)
    assert once > limit(ROUNDS)
    assert staged - once < ALPHA


def test_large_gains_are_found_early_and_the_same_is_equivalent():
    large, same = Suite(normal, normal, gain=5.0), Suite(normal, normal)
    found, alike = simulated.judged(large, rounds=500), simulated.judged(same, rounds=500)
    assert ever(found.above) > 0.99
    assert seeds_until(large, found.above) < 5
    assert ever(alike.alike) > 0.9
    assert seeds_until(same, alike.alike) < 20
