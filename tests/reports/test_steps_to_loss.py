"""Steps to one loss, on curves whose answer can be read off."""

from __future__ import annotations

import numpy as np
import pytest

from rankbench.reports.stats.summary import losses, steps_to_loss
from tests.made_records import curve, run_record


def test_both_are_counted_to_the_higher_of_the_final_losses() -> None:
    slow, fast = [9.0, 7.0, 5.0, 4.0, 3.0], [8.0, 4.0, 3.0, 2.0, 1.0]
    assert steps_to_loss({0: slow}, {0: fast}) == ({0: 5}, {0: 3})
    assert steps_to_loss({0: fast}, {0: slow}) == ({0: 3}, {0: 5})


def test_equal_curves_are_equally_fast_and_only_common_seeds_count() -> None:
    falling = list(np.linspace(1, 0, 7))
    assert steps_to_loss({0: falling, 1: falling}, {1: falling, 2: falling}) == ({1: 7}, {1: 7})


def test_a_curve_that_rises_again_counts_from_where_it_was_low_first() -> None:
    assert steps_to_loss({0: [3.0, 1.0, 2.0]}, {0: [3.0, 2.5, 2.0]}) == ({0: 2}, {0: 3})


def test_losses_start_with_a_whole_window() -> None:
    record = run_record("movie", "lora", 0, curve=curve([float(20 - step) for step in range(20)]))
    found = np.asarray(losses(record))
    assert (len(found), found[0], found[-1]) == (19, 19.5, 1.5)
    assert losses(run_record("movie", "lora", 0, curve=curve([]))) is None


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_half_the_speed_is_twice_the_steps(factor: float) -> None:
    steps = np.arange(1, 401)
    other = np.exp(-steps / 100)
    own = np.exp(-steps * factor / 100)
    mine, theirs = steps_to_loss({0: own}, {0: other})
    assert mine[0] / theirs[0] == pytest.approx(1 / factor, rel=0.02)
