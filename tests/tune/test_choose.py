"""What trials choose, and what they are judged by; spaces that grow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankbench.bench.records import Metrics
from rankbench.bench.suite.tuning import Span
from rankbench.bench.tune.choose import Trial, best, score
from rankbench.bench.tune.widen import added, grown

RATE = Span(low=1e-4, high=1e-2, log=True)
POINTS = [{"rate": value} for value in (2e-4, 1e-3, 5e-3)]


def trial(loss: float) -> Trial:
    return Trial(None, loss, "f")  # type: ignore[arg-type]


def test_the_least_loss_is_chosen_and_of_two_the_first():
    trials = [trial(math.inf), trial(0.3), trial(0.2), trial(0.2)]
    assert best(trials) is trials[2]


def test_what_diverged_is_never_chosen():
    assert best([trial(math.inf), trial(math.inf)]) is None
    assert best([]) is None


def metrics(main: str, lower: bool, held_out: str = "", **values: float) -> Metrics:
    return Metrics(
        main=main,
        lower_is_better=lower,
        best=values,
        last=values,
        best_step=1,
        last_step=1,
        held_out=held_out,
    )


def test_a_trial_is_judged_by_the_loss_of_the_items_else_by_the_score():
    assert score(metrics("accuracy", False, "nll", accuracy=0.9, nll=0.4)) == ("nll", 0.4)
    assert score(metrics("mse", True, mse=0.4)) == ("mse", 0.4)
    assert score(metrics("accuracy", False, accuracy=0.9)) == ("accuracy", -0.9)


def widened(best: float, allows=lambda point: True, **changes) -> Span:
    span = RATE.model_copy(update=changes)
    return grown({"rate": span}, {"rate": best}, POINTS, allows)["rate"]


def test_a_space_grows_on_the_side_of_the_best_by_half_its_width():
    assert widened(1e-3) == RATE
    assert widened(5e-3) == Span(low=1e-4, high=1e-1, log=True)
    assert widened(2e-4) == Span(low=1e-5, high=1e-2, log=True)


def test_a_plain_range_grows_by_half_its_width_too():
    assert grown({"a": Span(low=1, high=3)}, {"a": 2.9}, [{"a": 2.9}, {"a": 1.1}], lambda _: True) == {
        "a": Span(low=1, high=4)
    }


def test_whole_numbers_grow_by_whole_numbers():
    span = Span(low=2, high=5, whole=True)
    points = [{"r": 2}, {"r": 5}]
    assert grown({"r": span}, {"r": 5}, points, lambda _: True)["r"] == Span(low=2, high=7, whole=True)


def test_whole_numbers_on_the_logarithm_grow_down_to_one():
    points = [{"r": 2}, {"r": 16}]
    span = Span(low=2, high=16, log=True, whole=True)
    assert grown({"r": span}, {"r": 2}, points, lambda _: True)["r"] == span.model_copy(update={"low": 1})
    least = span.model_copy(update={"low": 1})
    assert grown({"r": least}, {"r": 1}, [{"r": 1}, {"r": 9}], lambda _: True) == {"r": least}


def test_no_side_grows_beyond_what_the_adapter_takes():
    assert widened(5e-3, lambda point: point["rate"] <= 1e-2) == RATE
    assert widened(2e-4, lambda point: point["rate"] <= 1e-2).low == pytest.approx(1e-5)


def test_only_the_dimension_at_an_edge_grows():
    space = {"rate": RATE, "other": Span(low=0, high=1)}
    points = [{"rate": 2e-4, "other": 0.5}, {"rate": 1e-3, "other": 0.1}, {"rate": 5e-3, "other": 0.9}]
    wider = grown(space, points[0], points, lambda _: True)
    assert wider == {"rate": Span(low=1e-5, high=1e-2, log=True), "other": space["other"]}


def test_what_was_added_is_what_lies_outside_the_first_space():
    space = {"a": Span(low=0, high=1), "b": Span(low=0, high=1)}
    wider = {"a": Span(low=0, high=2), "b": Span(low=-1, high=1)}
    shares = np.random.default_rng(0).random((1000, 2))
    inside = (shares[:, 0] * 2 <= 1) & (shares[:, 1] * 2 - 1 >= 0)
    assert [added(space, wider, each) for each in shares] == list(~inside)
