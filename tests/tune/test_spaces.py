"""What adapters declare as worth trying."""

from __future__ import annotations

import pytest

from rankbench import adapters
from rankbench.bench.conformance.space import has_a_space_that_it_takes
from rankbench.bench.suite import AdapterSpec
from rankbench.bench.suite.tuning import Tune, space_of


@pytest.mark.parametrize("name", adapters.names())
def test_every_adapter_takes_what_it_declares(name):
    has_a_space_that_it_takes(name)


@pytest.mark.parametrize("name", adapters.names())
def test_every_adapter_has_its_learning_rate_drawn_first(name):
    spec = AdapterSpec(name=name, **adapters.kind(name).example)
    assert next(iter(space_of(spec, Tune()))) == "learning_rate"


def test_whole_hyperparameters_are_drawn_whole():
    tune = Tune.model_validate({"space": {"rank": [2, 16, "log"], "alpha": [2, 32]}})
    space = space_of(AdapterSpec(name="lora"), tune)
    assert (space["rank"].whole, space["alpha"].whole, space["learning_rate"].whole) == (True, False, False)
    assert list(space) == ["learning_rate", "alpha", "rank"]
