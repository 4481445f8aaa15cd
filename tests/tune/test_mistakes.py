"""What a suite cannot say of tuning, each answered in one line."""

from __future__ import annotations

import math

import pytest
import yaml

from rankbench.bench.suite import ConfigError, load_suite
from tests.tune.made_trials import experiment, suite_of

BOTH = {"lora": {"rank": 2}, "scalora": {"rank": 2}}


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        (
            {"space": {"learning_rate": [1e-2, 1e-4, "log"]}},
            "ends at 0.0001, which is not above its",
        ),
        ({"space": {"learning_rate": [1e-3, 1.001e-3]}}, "which is not above its begin 0.001"),
        ({"space": {"smoothness": [0, 100, "log"]}}, "a range on the logarithm begins above 0, not at 0"),
        ({"space": {"smoothness": [1, 100, "lin"]}}, r"a range is \[low, high\] or \[low, high, log\], not"),
        ({"space": {"smoothness": [1]}}, r"a range is \[low, high\] or \[low, high, log\], not \[1\]"),
        ({"space": {"smoothness": 3}}, r"tune\.space\.smoothness: a range is \[low, high\]"),
        ({"space": {"smoothness": [1, math.inf]}}, r"smoothness\.high: Input should be a finite number"),
        (
            {"space": {"learning_rate": [-1, 1]}},
            "with {'learning_rate': -1.0}: learning_rate: Input should be greater",
        ),
        (
            {"space": {"learning_rat": [1e-3, 1e-2]}},
            "to be drawn; did you mean 'learning_rate'",
        ),
        ({"space": {"ratio": [2, 32]}}, "no entry leaves 'ratio' to be drawn"),
        ({"space": {"carry_moments": [0, 1]}}, "carry_moments must be true or false"),
        ({"space": {"alpha": [-2, 2]}}, "tune: lora with {.*'alpha': -2.0}: alpha must be a positive number"),
        ({"trials": 0}, r"tune\.trials: Input should be greater than 0"),
        ({"trials": 10**8}, r"tune\.trials: Input should be less than or equal to 1000"),
        ({"trails": 4}, "unknown key 'trails'; did you mean 'trials'"),
        ({"on": "test"}, r"tune\.on: Input should be 'selection'"),
        ({"seed": 1}, "one: tune: seed 1 is one of the final runs'; trials need one of their own"),
        ({"trials": True}, r"tune\.trials: give a number, not true"),
        ({"space": {"learning_rate": [False, 2]}}, r"learning_rate\.low: give a number, not false"),
        ({"widen": 10**9}, r"tune\.widen: Input should be less than or equal to 10"),
        ({"widen": -1}, r"tune\.widen: Input should be greater than or equal to 0"),
        ({"halving": {"rungs": 9}}, "tune: halving: 8 steps are too few for so many rungs"),
        ({"halving": {"rungs": 100_000}}, "less than or equal to 30"),
        ({"halving": {"factor": 1}}, r"halving\.factor: Input should be greater than 1"),
    ],
)
def test_a_mistake_is_answered_in_one_line(tmp_path, tune, message):
    with pytest.raises(ConfigError, match=message) as told:
        suite_of(tmp_path, one=experiment(tune=tune, adapters=BOTH))
    assert "\n" not in str(told.value)
    assert "mine.yaml" in str(told.value)


def test_an_experiment_called_as_the_trials_of_another_is_refused(tmp_path):
    plain = {key: value for key, value in experiment().items() if key != "tune"}
    message = r"one-trials is what the trials of one are called; rename it"
    with pytest.raises(ConfigError, match=message):
        suite_of(tmp_path, **{"one": experiment(), "one-trials": plain})
    suite_of(tmp_path, **{"other": experiment(), "one-trials": plain})


def test_a_block_that_leaves_nothing_to_be_drawn_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="tune: every entry sets all that could be drawn"):
        suite_of(tmp_path, one=experiment(adapters={"lora": {"learning_rate": 1e-3}}))


def test_an_entry_does_not_say_which_trials_chose_it(tmp_path):
    with pytest.raises(ConfigError, match="adapter lora: unknown key 'chosen_by'"):
        suite_of(tmp_path, one=experiment(adapters={"lora": {"chosen_by": ["0"]}}))


def test_seeds_of_the_experiment_count_where_it_has_its_own(tmp_path):
    suite_of(tmp_path, one=experiment(tune={"seed": 1}, seeds=[5, 6]))
    with pytest.raises(ConfigError, match="seed 5 is one of the final runs'"):
        suite_of(tmp_path, one=experiment(tune={"seed": 5}, seeds=[5, 6]))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"apha": (1.0, 2.0, "log")}, "space of mine: it has no hyperparameter 'apha'; did you mean 'alpha'"),
        ({"alpha": (2.0, 1.0, "log")}, "space of mine: alpha: the range ends at 1, which is not above"),
        (["alpha"], r"space of mine: it is {name: \(low, high, 'log'\)}, not \['alpha'\]"),
        ({"alpha": (1.0, 2.0, "cubic")}, r"space of mine: alpha: a range is \[low, high\] or"),
    ],
)
def test_a_plugged_adapters_space_is_read_as_carefully(tmp_path, space, message):
    method = f"""
from rankbench.adapters.lora import Lora
class Mine(Lora):
    name = "mine"
    space = {space!r}
ADAPTERS = {{"mine": Mine}}
"""
    (tmp_path / "mine.py").write_text(method)
    path = tmp_path / "suite.yaml"
    block = experiment(adapters={"mine": {"rank": 2}})
    path.write_text(yaml.safe_dump({"plugins": ["mine.py"], "experiments": {"one": block}}))
    with pytest.raises(ConfigError, match=message) as told:
        load_suite(str(path))
    assert "\n" not in str(told.value)
