"""What is drawn: Sobol's sequence, the same for ever, over ranges as they are written."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from rankbench.bench.suite.tuning import Span
from rankbench.bench.tune.draw import point, sequence

DRAWN = [
    {"learning_rate": 0.000704, "smoothness": 429.0},
    {"learning_rate": 0.00119, "smoothness": 534.0},
    {"learning_rate": 0.0045, "smoothness": 208.0},
]


def first(count: int, dimensions: int, *names: str | int) -> np.ndarray:
    return np.array(list(itertools.islice(sequence(dimensions, *names), count)))


def test_it_is_the_scrambled_sobol_sequence_of_scipy():
    import hashlib

    seed = int.from_bytes(hashlib.sha256(b"movie\nlora\n1000").digest())
    engine = qmc.Sobol(3, scramble=True, rng=np.random.default_rng(seed))
    assert np.array_equal(first(16, 3, "movie", "lora", 1000), engine.random_base2(4))


def test_a_longer_draw_begins_as_the_shorter_one():
    assert np.array_equal(first(21, 2, "movie", "lora", 1000)[:8], first(8, 2, "movie", "lora", 1000))


@pytest.mark.parametrize("other", [("movie", "lora", 1001), ("movie", "dora", 1000), ("cola", "lora", 1000)])
def test_method_experiment_and_seed_have_draws_of_their_own(other):
    assert not np.array_equal(first(4, 2, "movie", "lora", 1000), first(4, 2, *other))


def test_eight_trials_cover_every_eighth_of_every_range():
    for column in first(8, 3, "movie", "lora", 1000).T:
        assert sorted((column * 8).astype(int)) == list(range(8))


def test_nothing_is_ever_drawn_otherwise():
    """Trials of a suite that is gone on with, in another process, must be those it was begun with."""
    space = {"learning_rate": Span(low=1e-4, high=1e-2, log=True), "smoothness": Span(low=10, high=1000)}
    drawn = [point(space, shares) for shares in itertools.islice(sequence(2, "movie", "lora", 1000), 3)]
    assert drawn == DRAWN


def test_a_logarithm_is_drawn_evenly_and_a_plain_range_too():
    assert [Span(low=1e-4, high=1e-2, log=True).at(share) for share in (0, 0.25, 0.5, 1)] == [
        1e-4, 0.000316, 1e-3, 1e-2,
    ]  # fmt: skip
    assert [Span(low=1, high=3).at(share) for share in (0, 0.25, 1)] == [1, 1.5, 3]


@given(st.floats(1e-6, 1e3), st.floats(1.02, 1e4), st.floats(0, 1), st.booleans())
def test_what_is_drawn_has_three_digits_and_lies_in_the_range(low, ratio, share, log):
    span = Span(low=low, high=low * ratio, log=log)
    value = span.at(share)
    assert span.low <= value <= span.high
    assert value in (span.low, span.high) or float(f"{value:.3g}") == value
    assert math.isclose(span.share(value), share, abs_tol=0.006 / math.log(ratio) if log else 0.5)


def test_whole_numbers_are_whole():
    span = Span(low=2, high=64, log=True, whole=True)
    drawn = [span.at(share / 100) for share in range(101)]
    assert all(type(value) is int for value in drawn)
    assert drawn == sorted(drawn)
    assert (drawn[0], drawn[50], drawn[-1]) == (2, 11, 64)


def test_a_point_names_its_hyperparameters():
    space = {"learning_rate": Span(low=1e-4, high=1e-2, log=True), "smoothness": Span(low=0, high=10)}
    assert point(space, np.array([0.5, 0.25])) == {"learning_rate": 1e-3, "smoothness": 2.5}
