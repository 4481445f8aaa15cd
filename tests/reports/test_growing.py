"""What makes the reports of very many runs quick changes nothing of what they say."""

from __future__ import annotations

import gc

import numpy as np
import pandas as pd
import pytest

from rankbench.reports.frames import flatten
from rankbench.reports.frames.collector import uncollected
from rankbench.reports.sections.convergence import to_baseline
from rankbench.reports.stats.summary import Series, by_step


@pytest.mark.parametrize(
    "columns",
    [
        {0: ([1, 2, 3], [4.0, 5.0, 6.0]), 7: ([1, 2, 3], [0.5, 0.25, 0.125])},
        {0: ([5, 10], [3, 4])},
        {0: ([1, 2], [4.0, 5.0]), 1: ([2, 3], [6.0, 7.0])},
    ],
)
def test_curves_lie_at_their_steps_whether_seeds_share_them_or_not(columns: dict[int, Series]) -> None:
    aligned = pd.DataFrame({seed: pd.Series(values, steps) for seed, (steps, values) in columns.items()})
    pd.testing.assert_frame_equal(by_step(columns), aligned, check_column_type=False)


@pytest.mark.parametrize("ratio", [False, True])
def test_losses_beside_the_baselines_are_those_of_the_steps_and_seeds_of_both(ratio: bool) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.random((40, 3)) + 1, range(1, 41), [0, 1, 2])
    baseline = pd.DataFrame(generator.random((40, 2)) + 1, range(3, 43), [1, 2])
    both = frame[[1, 2]] / baseline if ratio else frame[[1, 2]] - baseline
    pd.testing.assert_frame_equal(to_baseline(frame, baseline, ratio), both.iloc[3:].dropna())


def test_a_block_is_flattened_anew_for_each_that_changes_it() -> None:
    block = {"a": {"b": 1}, "c": 1.0}
    flatten(block)["a.b"] = "changed"
    assert flatten(block) == {"a.b": "1", "c": "1.0"}
    assert flatten({"a": {"b": True}, "c": 1}) == {"a.b": "true", "c": "1"}, "equal in Python, not as JSON"


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_read_is_not_looked_through_until_the_block_ends(enabled: bool) -> None:
    before = gc.isenabled()
    gc.enable() if enabled else gc.disable()
    gc.unfreeze()
    try:
        with uncollected(lambda: [gc.isenabled(), []]) as made:
            assert made[0] is False
            assert gc.isenabled() is enabled
            assert not any(one is made for one in gc.get_objects())
        assert gc.get_freeze_count() == 0
        gc.freeze()
        with uncollected(list):
            pass
        assert gc.get_freeze_count() > 0, "what others froze stays so"
        with pytest.raises(KeyError), uncollected(lambda: {}["no"]):
            pass
        assert gc.isenabled() is enabled
    finally:
        gc.enable() if before else gc.disable()
