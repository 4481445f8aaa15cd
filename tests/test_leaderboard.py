"""The board of everything: each method is on it or named as left out, and of LoRA's size where it can be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pytest

from rankbench import adapters
from rankbench.adapters.peft.presets import Peft
from rankbench.adapters.peft.rates import LARGE_FACTORS, RATES
from rankbench.adapters.peft.support import REFUSED, RUNS, STARTS_REFUSED
from rankbench.bench import models
from rankbench.bench.suite import AdapterSpec, Experiment, load_suite, make_adapter
from rankbench.bench.suite.costs import Overhead
from rankbench.tasks import Head
from tests.peft_methods import NAMED, STARTS

PAGE = (Path(__file__).parents[1] / "docs" / "leaderboard.md").read_text(encoding="utf-8")

OWN_SIZE = {"full", "beft", "ia3", "pvera", "road", "tinylora", "vera"}
PRUNED = {"adalora"}
"""From twice LoRA's size down to it."""
FROM_VALUES = {"adamss", "shira", "supertuning", "tinylora"}
"""Whose sizes a model of shapes does not tell."""

KINDS = NAMED | {
    "dora": "LORA", "adalora": "ADALORA", "hira": "HIRA", **dict.fromkeys(STARTS, "LORA"), "lora": "LORA",
}  # fmt: skip
"""Adapter with a name of its own -> the method of PEFT's that it is."""


def experiments() -> Mapping[str, Experiment]:
    return load_suite("leaderboard").experiments


def rows(heading: str) -> dict[str, str]:
    """Of the page's table under a heading: first cell, each of its words, -> last cell."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]
    return {name: last for first, *_, last in cells[2:] for name in re.findall(r"[\w-]+", first)}


def kind(spec: AdapterSpec) -> str:
    """Its adapter, or of PEFT's own configurations the method."""
    return str(spec.hyperparameters["config"]["peft_type"]) if spec.name == "peft" else spec.name


def test_every_method_is_on_the_board_or_named_as_left_out() -> None:
    entries = [kind(spec) for spec in experiments()["movie"].adapters.values()]
    assert len(set(entries)) == len(entries)
    left_out = set(rows("Left out"))
    assert not left_out & {*entries, *(name.lower() for name in entries)}
    named = {*entries, *left_out} | {method.upper() for method in left_out}
    assert not set(adapters.BUILT_IN) - named - {"peft"}
    assert not set(RUNS) - named - {KINDS[name] for name in named & set(KINDS)}
    assert left_out <= set(adapters.BUILT_IN) | {method.lower() for method in RUNS}
    assert set(experiments()["movie"].adapters) - set(experiments()["cola"].adapters) == set(
        rows("On movie only")
    )


def test_what_does_not_run_is_told_as_it_is_refused() -> None:
    refused = REFUSED | STARTS_REFUSED
    table = ["| PEFT's | why not |", "| --- | --- |"] + [
        f"| {', '.join(name for name, why in refused.items() if why == reason)} | {reason} |"
        for reason in dict.fromkeys(refused.values())
        if "which the adapter" not in reason  # EVA and LoRA-GA have names of their own here
    ]
    assert "\n".join(table) in PAGE, "\n".join(table)


def test_all_that_is_on_the_board_is_measured_and_has_equal_trials() -> None:
    suite = load_suite("leaderboard")
    cost = suite.overhead["minilm-l6-16x32"]
    assert isinstance(cost, Overhead)
    on_it = set(chain(*(each.adapters for each in suite.experiments.values())))
    assert on_it < set(cost.adapters)
    for experiment in suite.experiments.values():
        assert experiment.tune
        assert (experiment.tune.trials, experiment.tune.widen) == (6, 0)
        assert all(spec.learning_rate is None for spec in experiment.adapters.values())


@pytest.mark.parametrize("label", sorted(set(experiments()["movie"].adapters) - FROM_VALUES - {"full"}))
def test_it_is_of_loras_size_where_it_has_a_size(label: str) -> None:
    experiment = experiments()["movie"]
    ratio = size(experiment, label) / size(experiment, "lora")
    if label in OWN_SIZE:
        assert not 0.85 < ratio < 1.15, "it could be called matched"
    else:
        assert 0.85 < ratio / (2 if label in PRUNED else 1) < 1.15


def size(experiment: Experiment, label: str) -> int:
    """Parameters that the entry trains, without the head's."""
    model = models.empty_model(experiment.model, Head("sequence", 2))
    adapter = make_adapter(experiment.adapters[label], learning_rate=1e-3, steps=experiment.training.steps)
    adapter.attach(model, experiment.targets)
    head = {id(p) for name in adapter.heads for p in model.get_submodule(name).parameters()}
    return sum(p.numel() for p in adapter.trained() if id(p) not in head)


def test_every_method_of_peft_has_a_range_of_rates_and_its_own_name_the_same() -> None:
    assert set(RATES) == set(RUNS)
    for name, method in KINDS.items():
        expected = LARGE_FACTORS if name in STARTS else RATES[method]
        assert adapters.kind(name).space.items() >= expected.items()
    for method, space in RATES.items():
        assert Peft.space_of({"config": {"peft_type": method.lower()}}) == space
