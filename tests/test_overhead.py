"""The overhead measurements: every contender in every round, memory and size of each, equal work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from bench.cli import main
from bench.config import Suite
from bench.loop_cost import ALL_LOGITS, OURS, TRAINER, OurLoop, TrainerLoop
from bench.overhead import identity, measure_overhead
from bench.record import fingerprint
from bench.rounds import WARM_UP, interleave
from bench.step_cost import FLOOR, STOCK_FLOOR
from bench.train import Interrupted, Work, batches, make_accelerator, train
from reports.load import load

ADAPTERS = {"lora": {"rank": 2}, "scalora": {"rank": 2}, "lora2": {"rank": 4, "width": 2}, "full": None}
LLAMA = {"model": "tiny-llama", "targets": ["q_proj", "v_proj"], "head": "causal"}
BERT = {"model": "tiny-bert", "targets": ["query", "value"], "head": "sequence"}


def suite(**entry) -> Suite:
    return Suite.model_validate({"name": "x", "experiments": {}, "overhead": {"tiny": entry}})


def steps(head: str) -> Suite:
    shape = {"batch": 2, "length": 8, "rounds": 3, "adapters": ADAPTERS}
    return suite(**(BERT if head == "sequence" else LLAMA), **shape)


def loop(**changes) -> Suite:
    return suite(
        **{"kind": "loop", **LLAMA, "rank": 2, "alpha": 4, "batch": 4, "length": 8, "rounds": 3} | changes
    )


GROWTH = {
    "kind": "growth",
    "adapters": ["lora", "scalora"],
    "tokens": 8,
    "base": {"rank": 2, "width": 16, "layers": 2},
    "rank": [2, 4],
    "width": [32],
    "layers": [3],
    "rounds": 2,
}


@pytest.mark.parametrize("entry", [steps("sequence"), loop(), suite(**GROWTH)])
def test_half_a_measurement_is_none(entry):
    with pytest.raises(Interrupted):
        measure_overhead(entry, "tiny", lambda text: None, stopped=lambda: True)


def test_each_round_has_every_contender_once_in_an_order_of_its_own():
    told: list[tuple[int, str]] = []
    contenders = {label: lambda turn, label=label: told.append((turn, label)) or 1.0 for label in "abc"}
    assert interleave(contenders, 9, lambda text: None) == {label: [1.0] * 9 for label in "abc"}
    orders = ["".join(label for at, label in told if at == turn) for turn in range(WARM_UP + 9)]
    assert {"".join(sorted(order)) for order in orders} == {"abc"}
    assert len(set(orders)) > 3


@pytest.mark.slow
@pytest.mark.parametrize(("head", "floors"), [("sequence", {FLOOR, STOCK_FLOOR}), ("causal", {FLOOR})])
def test_every_contender_is_measured_in_every_round(head, floors):
    """A BERT drops elements, a Llama does not."""
    record = measure_overhead(steps(head), "tiny", lambda text: None)
    labels = {*floors, *ADAPTERS}
    assert record.seconds.keys() == record.peak_resident.keys() == record.parameters.keys() == labels
    assert all(len(rounds) == 3 and min(rounds) > 0 for (rounds,) in record.seconds.values())
    assert all(peak > 50 for (peak,) in record.peak_resident.values())
    assert record.parameters[FLOOR] == 0
    assert record.parameters["lora"] == record.parameters["scalora"] == 2 * 2 * 2 * (32 + 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "labels"),
    [(BERT, [OURS, TRAINER]), ({}, [OURS, TRAINER]), ({"answer": 2}, [OURS, ALL_LOGITS, TRAINER])],
)
def test_the_trainer_is_measured_beside_our_loop(changes, labels):
    record = measure_overhead(loop(**changes), "tiny", lambda text: None)
    assert list(record.seconds) == labels
    assert record.peak_resident.keys() == record.parameters.keys() == set(labels)
    assert all(len(rounds) == 3 and min(rounds) > 0 for (rounds,) in record.seconds.values())
    assert set(record.parameters.values()) == {2 * 2 * 2 * (32 + 32)}


@pytest.mark.parametrize("answer", [None, 2])
def test_the_trainer_and_our_loop_take_the_same_steps(answer):
    settings = loop(answer=answer).overhead["tiny"]
    theirs, ours = TrainerLoop(settings), OurLoop(settings, OURS, make_accelerator())
    layers = {
        name: (theirs.model.get_submodule(f"base_model.model.{name}"), ours.adapter.layers[name])
        for name in ours.adapter.layers
    }
    with torch.no_grad():
        for peft, layer in layers.values():
            peft.lora_A.default.weight.copy_(layer.B.t())
    turns = []
    theirs.run(lambda seconds: turns.append(ours.step(len(turns))))
    assert len(turns) == len(ours.losses) == WARM_UP + 3
    for peft, layer in layers.values():
        assert layer.A.abs().max() > 1e-5, "it has not moved"
        torch.testing.assert_close(peft.lora_B.default.weight, layer.A, rtol=1e-3, atol=1e-7)


def test_our_loop_is_the_shared_one():
    settings = loop(answer=2).overhead["tiny"]
    stepped, shared = (OurLoop(settings, OURS, make_accelerator()) for _ in range(2))
    for turn in range(WARM_UP + 3):
        stepped.step(turn)
    # Laid out so that the shared loop's random order meets them as the measurement does.
    lengths = [8] * len(shared.examples)
    order = [index for batch in batches(lengths, 4, WARM_UP + 3, seed=0) for index in batch]
    examples = [
        example for _, example in sorted(zip(order, shared.examples, strict=True), key=lambda p: p[0])
    ]
    work = Work(examples, lengths, shared.work.collate, shared.work.loss)
    progress = train(shared.adapter.model, shared.adapter, work, shared.training, seed=0)
    assert stepped.losses == pytest.approx(progress.curve.loss, rel=1e-6)


def test_logits_of_the_answer_alone_give_the_same_losses():
    settings = loop(answer=2).overhead["tiny"]
    few, all_of_them = (OurLoop(settings, label, make_accelerator()) for label in (OURS, ALL_LOGITS))
    for turn in range(WARM_UP + 3):
        few.step(turn)
        all_of_them.step(turn)
    assert few.losses == pytest.approx(all_of_them.losses, rel=1e-6)
    few_logits, all_logits = (loop.work.collate(loop.examples[:4]) for loop in (few, all_of_them))
    assert (few_logits.inputs["labels"].shape, all_logits.inputs["labels"].shape) == ((4, 2), (4, 7))
    assert few_logits.weight == all_logits.weight == 8


def test_growth_varies_one_axis_at_a_time():
    record = measure_overhead(suite(**GROWTH), "tiny", lambda text: None)
    shapes = [(p.axis, p.rank, p.width, p.layers) for p in record.growth]
    assert shapes == [("rank", 2, 16, 2), ("rank", 4, 16, 2), ("width", 2, 32, 2), ("layers", 2, 16, 3)]
    for point in record.growth:
        assert point.seconds.keys() == {FLOOR, "lora", "scalora"}
        assert all(len(rounds) == 2 and min(rounds) > 0 for (rounds,) in point.seconds.values())
        (rescales,), (steps_of_it,) = point.rescale["scalora"], point.seconds["scalora"]
        assert len(rescales) == 2
        pairs = zip(rescales, steps_of_it, strict=True)
        assert all(0 < rescale < whole for rescale, whole in pairs)


def test_the_command_writes_the_record_and_the_report(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"experiments": {}, "overhead": {"growth": GROWTH, "other": GROWTH}}))
    words = ["overhead", str(path), "--results", str(tmp_path / "results"), "--only"]
    assert main([*words, "nothing"]) == 2
    assert "there are: growth, other" in capsys.readouterr().err
    assert main([*words, "g*"]) == 0
    written = Path(capsys.readouterr().out.splitlines()[-1])
    assert written == tmp_path / "results" / "mine" / "report.md"
    assert "### growth: stack of linear layers" in written.read_text()
    assert [record.name for record in load(written.parent).overhead] == ["growth"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "loops"}, "loops"),
        ({"kind": "loop", **BERT, "rank": 2, "alpha": 4, "batch": 4, "length": 8, "answer": 2}, "causal"),
        (GROWTH | {"rank": [2, 64]}, "rank 64 is above width 16"),
        (GROWTH | {"adapters": ["full"]}, "adapter full has no rank"),
        (GROWTH | {"adapters": ["scalor"]}, "did you mean 'scalora"),
    ],
)
def test_mistakes_are_named(entry, message):
    with pytest.raises(ValueError, match=message):
        suite(**entry)


def test_a_measurement_is_another_one_when_its_settings_change():
    prints = {fingerprint(identity(loop(length=length).overhead["tiny"])) for length in (8, 16)}
    assert len(prints) == 2
