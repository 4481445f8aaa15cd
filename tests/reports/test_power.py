"""The seeds that an open claim would take: against simulation, and as a command is told them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rankbench.reports.claims.decide import decide
from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.power import _power as power_of
from rankbench.reports.claims.power import asked, power, seeds_needed
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.frames import load
from rankbench.reports.stats.decision import ALPHA
from rankbench.reports.stats.evidence import Evidence
from rankbench.reports.study import Study
from tests.reports.test_claims import claim
from tests.reports.test_stages import saved

PLAN = (3, 5, 8, 12, 20, 40)


def needed(values, plan=PLAN, rows=1, **changes):
    """Of one row, or of as many alike."""
    made = claim(**changes)
    found = decide(made, [np.asarray(values)] * rows, [plan] * rows)
    assert {one.outcome for one in found} == {Outcome.UNDERPOWERED}
    return seeds_of(made, found, plan)


def seeds_of(made, found, plan):
    """Of the first of these rows."""
    verdicts = [
        Verdict(
            made, one.outcome, evidence=one.evidence, plan=plan,
            p_if_untrue=one.p_if_untrue, p_if_true=one.p_if_true, p_if_apart=one.p_if_apart,
        )
        for one in found
    ]  # fmt: skip
    return seeds_needed(asked(verdicts[0], verdicts))


def spread(mean, sd, seeds=5):
    """Values of just this mean and standard deviation."""
    values = np.arange(seeds) - (seeds - 1) / 2
    return mean + sd * values / values.std(ddof=1)


def test_of_a_fixed_number_of_seeds_it_is_the_t_tests_power():
    (seeds, none) = needed(spread(0.5, 1.0), plan=())

    def known(n):
        return stats.nct.sf(stats.t.isf(ALPHA, n - 1), n - 1, 0.5 * np.sqrt(n))

    assert none is None
    assert known(seeds - 1) < 0.8 <= known(seeds)


def test_what_is_far_within_reach_has_all_of_the_power():
    """SciPy's noncentral t is no number for some of these distances."""
    found = Evidence(np.float64(0.0), np.float64(1.0), np.float64(0.0), seeds=8, items=1)
    assert {power_of(found, distance, 8, 0.01) for distance in np.arange(31.0, 60.0, 0.5)} == {1.0}


def simulated(gain, seeds, bound=0.0, margin=None):
    """How often stages until so many seeds decide differences of one standard deviation."""
    generator, right = np.random.default_rng(0), 0
    for _ in range(150):
        values = generator.standard_normal(seeds) + gain
        (found,) = decide(claim(tolerance=bound, margin=margin), [values], [PLAN])
        right += found.outcome is (Outcome.EQUIVALENT if margin else Outcome.REPRODUCED)
    return right / 150


def test_the_stage_that_it_would_take_has_the_power():
    """And the one before has not; the stages before count here too, so that it is a little more."""
    assert needed(spread(0.9, 1.0, 3))[0] == 20
    assert simulated(0.9, 12) < 0.8 <= simulated(0.9, 20)
    _, alike = needed(spread(0.0, 1.0, 3), margin=0.9)
    assert alike == 20
    assert simulated(0.0, 12, margin=0.9) < 0.8 <= simulated(0.0, 20, margin=0.9)


def test_more_rows_and_smaller_differences_take_more_seeds():
    assert needed(spread(0.6, 1.0))[0] <= needed(spread(0.6, 1.0), rows=8)[0]
    assert needed(spread(0.2, 1.0))[0] > 40
    assert needed(spread(0.01, 1.0))[0] is None
    assert needed(spread(-0.6, 1.0))[0] == needed(spread(0.6, 1.0))[0]


def test_rows_that_were_decided_the_other_way_count_still():
    """Holm's rule rejects each kind of p on its own: a row that fails is not one of those that hold."""
    values = spread(0.5, 1.0, seeds=8)

    def known(n, rows):
        return stats.nct.sf(stats.t.isf(ALPHA / rows, n - 1), n - 1, 0.5 * np.sqrt(n))

    for others, rows in ((-spread(9.0, 0.1, seeds=8), 12), (spread(9.0, 0.1, seeds=8), 1)):
        found = decide(claim(), [values, *[others] * 11])
        (seeds, _) = seeds_of(claim(), found, ())
        assert known(seeds - 1, rows) < 0.8 <= known(seeds, rows)


def test_that_a_value_lies_beyond_a_narrow_range_takes_a_test_of_two_sides():
    (seeds, _) = needed(spread(0.5, 1.0), plan=(), direction="equivalent", tolerance=1e-6)

    def known(n):
        return stats.nct.sf(stats.t.isf(ALPHA / 2, n - 1), n - 1, 0.5 * np.sqrt(n))

    assert known(seeds - 1) < 0.8 <= known(seeds)


def test_beyond_the_margin_no_number_of_seeds_shows_equivalence():
    assert needed(spread(0.6, 1.0), margin=0.5)[1] is None
    assert needed(spread(0.2, 1.0), margin=0.5)[1] > 40


def test_where_items_are_what_is_lacking_seeds_do_not_help():
    generator = np.random.default_rng(1)
    items = generator.standard_normal(30)
    table = 0.1 + items - items.mean() + 0.01 * generator.standard_normal((5, 30))
    assert needed(table) == (None, None)


def test_power_lists_what_is_open_with_the_hours_of_the_missing_runs(tmp_path):
    folder = saved(tmp_path, [4.0, 1.0, 2.5])
    saved(folder, [5.0, 5.1, 4.9], label="rslora")
    claims = [claim(id=name, method=name) for name in ("scalora", "rslora")]
    (found,) = power(Study(load(folder), claims=claims))
    assert (found.claim.id, found.methods, found.seeds) == ("scalora", "scalora against lora", 3)
    assert found.to_decide in (5, 8)
    # 12.5 seconds a run, of both methods.
    assert found.hours == pytest.approx((found.to_decide - 3) * 2 * 12.5 / 3600)


def test_a_baseline_that_went_on_longer_has_some_of_the_runs_already(tmp_path):
    folder = saved(tmp_path, [4.0, 1.0, 2.5])
    saved(folder, [0.0] * 5, label="other")
    claims = [claim(id="scalora", method="scalora")]
    (found,) = power(Study(load(folder), claims=claims))
    missing = (found.to_decide - 3) + (found.to_decide - 5)
    assert found.hours == pytest.approx(missing * 12.5 / 3600)
