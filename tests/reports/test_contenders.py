"""Which runs a claim is judged on: by adapter, by who was tuned, at the largest rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rankbench.reports.claims.judge import Verdict, judge
from rankbench.reports.claims.schema import Claim, Outcome, load_claims
from rankbench.reports.frames import load
from tests.made_records import accuracy, curve, overhead_record, run_record, save

MADE: dict[str, Any] = {
    "id": "made", "paper": "2602.04998", "sentence": "s", "source": "s", "hand": "first",
    "measurement": "score", "method": "scalora", "against": "lora", "direction": "superior",
    "tolerance": 0, "unit": "points", "why": "w", "test": "paired seeds and items",
}  # fmt: skip


def made(**changes: Any) -> Claim:
    return Claim.model_validate(MADE | changes)


def runs(folder: Path, label: str, values: list[float], task: str = "movie", **changes: Any) -> Path:
    """A run a seed with these scores; `adapter` and other fields in `changes`."""
    config = {"adapter": {"name": label, "rank": 4} | changes.pop("adapter", {})}
    for seed, value in enumerate(values):
        save(folder, run_record(task, label, seed, config=config, metrics=accuracy(value), **changes))
    return folder


def verdicts(folder: Path, claim: Claim) -> list[tuple[str, Outcome, str]]:
    return [(each.methods, each.outcome, each.reason) for each in judge(load(folder), [claim])]


LOW, HIGH = [0.80, 0.81, 0.79], [0.85, 0.87, 0.83]


def test_a_method_may_be_any_of_several_adapters(tmp_path: Path) -> None:
    runs(tmp_path, "lora", LOW)
    runs(tmp_path, "rslora", HIGH)
    runs(tmp_path, "mine", HIGH, adapter={"name": "scalora"})
    runs(tmp_path, "full", HIGH)
    variant = {"name": "variant", "adapter": ["rslora", "scalora"]}
    found = verdicts(tmp_path, made(method=variant))
    assert [methods for methods, *_ in found] == ["mine against lora", "rslora against lora"]


def test_both_must_be_tuned_or_the_pair_is_left_out(tmp_path: Path) -> None:
    runs(tmp_path, "lora", LOW, tuned=True)
    runs(tmp_path, "scalora", HIGH, tuned=True)
    runs(tmp_path, "lora", LOW, task="other", tuned=True)
    runs(tmp_path, "scalora", HIGH, task="other")
    claim = made(only={"tuned": "both"})
    assert verdicts(tmp_path, claim) == [("scalora against lora", Outcome.REPRODUCED, "")]
    untuned = runs(runs(tmp_path / "none", "lora", LOW), "scalora", HIGH)
    ((_, outcome, reason),) = verdicts(untuned, claim)
    assert outcome is Outcome.NOT_RUN
    assert reason == "no score of scalora whose settings a sweep chose or lora whose settings a sweep chose"


def test_the_trial_of_a_grid_that_is_left_is_tuned(tmp_path: Path) -> None:
    for label, values in (("lora", LOW), ("scalora", HIGH)):
        runs(tmp_path, label, values, method=label, rank=4, point={"learning_rate": 1e-3})
    assert verdicts(tmp_path, made(only={"tuned": "both"}))[0][1] is Outcome.REPRODUCED


def test_the_points_of_a_grid_of_which_none_was_chosen_are_not_tuned(tmp_path: Path) -> None:
    """Without `select: best` nothing is scored that could choose, and all points stay."""
    for rate in (1e-3, 2e-3):
        for name, values in (("lora", LOW), ("scalora", HIGH)):
            point = {"method": name, "point": {"learning_rate": rate}}
            runs(tmp_path, f"{name}-{rate}", values, adapter={"name": name}, **point)
    ((_, outcome, reason),) = verdicts(tmp_path, made(only={"tuned": "both"}))
    assert outcome is Outcome.NOT_RUN
    assert reason == "no score of scalora whose settings a sweep chose or lora whose settings a sweep chose"


def test_a_tuned_method_is_not_set_beside_an_untuned_one(tmp_path: Path) -> None:
    claim = made(only={"tuned": "alike"})
    runs(tmp_path, "lora", LOW)
    runs(tmp_path, "scalora", HIGH)
    assert verdicts(tmp_path, claim)[0][1] is Outcome.REPRODUCED
    runs(tmp_path, "scalora", HIGH, tuned=True)
    ((_, outcome, reason),) = verdicts(tmp_path, claim)
    assert (outcome, reason) == (Outcome.PROTOCOL_DIFFERS, "only lora has settings that no sweep chose")
    runs(tmp_path, "scalora", HIGH, schema_version=1)
    ((_, outcome, reason),) = verdicts(tmp_path, claim)
    assert outcome is Outcome.PROTOCOL_DIFFERS
    assert reason == "records of before suites said whose settings a sweep chose"


def test_the_largest_rank_is_set_beside_the_tuned_smaller_one(tmp_path: Path) -> None:
    (claim,) = (each for each in load_claims() if each.id == "tuned-lora-behind-large-rslora")
    levels = {"lora": (0.50, 0.51, 0.52), "rslora": (0.40, 0.42, 0.41)}
    flat = {name: [curve([level] * 10) for level in each] for name, each in levels.items()}
    for seed in range(3):
        for rank in (4, 16, 64):
            config = {"adapter": {"name": "rslora", "rank": rank}}
            label, losses = f"rslora-r{rank}", flat["rslora"][seed]
            save(tmp_path, run_record("ranks", label, seed, config=config, curve=losses))
        for label, rank, tuned in (("lora", 4, True), ("lora-other", 4, False), ("lora-r16", 16, True)):
            config = {"adapter": {"name": "lora", "rank": rank}}
            save(
                tmp_path,
                run_record("ranks", label, seed, config=config, curve=flat["lora"][seed], tuned=tuned),
            )
    ((methods, outcome, _),) = verdicts(tmp_path, claim)
    assert (methods, outcome) == ("rslora-r64 against lora", Outcome.REPRODUCED)


def test_one_rank_is_no_largest(tmp_path: Path) -> None:
    (claim,) = (each for each in load_claims() if each.id == "tuned-lora-behind-large-rslora")
    for seed in range(3):
        for label in ("lora", "rslora"):
            config = {"adapter": {"name": label, "rank": 4}}
            save(tmp_path, run_record("movie", label, seed, config=config, tuned=True))
    ((_, outcome, reason),) = verdicts(tmp_path, claim)
    assert (outcome, reason) == (Outcome.PROTOCOL_DIFFERS, "rank: 4, the largest, is not above the other's")


def decided(folder: Path, name: str) -> Verdict:
    (claim,) = (each for each in load_claims() if each.id == name)
    (verdict,) = judge(load(folder), [claim])
    return verdict


@pytest.mark.parametrize(("speed", "outcome"), [(2.0, Outcome.REPRODUCED), (0.5, Outcome.NOT_REPRODUCED)])
def test_steps_to_loras_loss_are_judged_by_their_ratio(
    tmp_path: Path, speed: float, outcome: Outcome
) -> None:
    for seed in range(4):
        for label, rate in (("lora", 1.0), ("scalora", speed * (1 + 0.01 * seed))):
            losses = [2.0 ** (-rate * step / 100) for step in range(400)]
            config = {"adapter": {"name": label, "rank": 4}}
            save(tmp_path, run_record("movie", label, seed, config=config, curve=curve(losses)))
    verdict = decided(tmp_path, "scalora-steps-below-lora")
    assert verdict.outcome is outcome
    assert verdict.found is not None
    assert verdict.found.estimate == pytest.approx(1 / (speed * 1.015), rel=0.1)


def test_adaloras_parameters_are_those_that_its_budget_leaves(tmp_path: Path) -> None:
    """As the papers' tables count them: 4 values a matrix, of which it keeps 2."""
    whole = {"name": "lora2", "rank": 8, "target_rank": 3, "regularisers": ["uv", "UV", "PQ"]}
    counts = {"total": 10**6, "trainable": 1100, "adapter": 1000}
    runs(tmp_path, "lora2", HIGH, adapter=whole, parameters=counts)
    budget = {"rank": 4, "target_rank": 2}
    counts = {"total": 10**6, "trainable": 4100, "adapter": 4000}
    runs(tmp_path, "adalora", LOW, adapter=budget, parameters=counts)
    assert decided(tmp_path, "lora2-holds-beside-adalora").outcome is Outcome.REPRODUCED
    runs(tmp_path, "adalora", LOW, adapter=budget | {"target_rank": 4}, parameters=counts)
    assert decided(tmp_path, "lora2-holds-beside-adalora").reason.startswith("parameters: 1000 and 4000")


def test_lora2_with_fewer_regularisers_is_another_method(tmp_path: Path) -> None:
    terms = {"all": ["uv", "UV", "PQ"], "planes": ["PQ"], "factors": ["uv", "UV"]}
    for label, chosen in terms.items():
        given = {"name": "lora2", "rank": 8, "target_rank": 3, "regularisers": chosen}
        runs(tmp_path, label, HIGH if label == "all" else LOW, adapter=given)
    (claim,) = (each for each in load_claims() if each.id == "lora2-three-regularisers")
    assert [row[:2] for row in verdicts(tmp_path, claim)] == [
        ("all against factors", Outcome.REPRODUCED),
        ("all against planes", Outcome.REPRODUCED),
    ]


@pytest.mark.parametrize(
    ("claim", "ours", "outcome"),
    [
        ("lora2-step-beside-adalora", 1.15, Outcome.REPRODUCED),
        ("lora2-step-beside-adalora", 1.25, Outcome.NOT_REPRODUCED),
        ("every-step-slow", 1.30, Outcome.REPRODUCED),
        ("every-step-slow", 1.01, Outcome.NOT_REPRODUCED),
    ],
)
def test_costs_of_steps_are_judged_over_processes(
    tmp_path: Path, claim: str, ours: float, outcome: Outcome
) -> None:
    method, against = ("lora2", "adalora") if claim.startswith("lora2") else ("scalora", "lora")
    base = [0.100, 0.104, 0.098, 0.101, 0.099]
    seconds = {
        against: [[value] * 3 for value in base],
        method: [[value * ours * (1 + 0.002 * place)] * 3 for place, value in enumerate(base)],
    }
    peaks = {label: [800.0] * 5 for label in seconds}
    given = {label: {"name": label, "rank": 4} for label in seconds}
    save(tmp_path, overhead_record(seconds, config={"adapters": given}, peak_resident=peaks))
    assert decided(tmp_path, claim).outcome is outcome
