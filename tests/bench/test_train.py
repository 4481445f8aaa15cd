"""The shared loop: accumulation, order, schedule, resuming, divergence; on a toy model in float64."""

from __future__ import annotations

import ast
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import Trainer

from rankbench import adapters, tasks
from rankbench.bench.records import Observation, RecordError
from rankbench.bench.run.checkpoint import Checkpoint
from rankbench.bench.run.failures import Interrupted, RunFailed
from rankbench.bench.run.start import read_data
from rankbench.bench.run.step import make_optimizer
from rankbench.bench.run.train import Watch, Work, train
from rankbench.bench.seeds import batches, generator
from rankbench.bench.suite import ConfigError, Training
from rankbench.tasks import Batch
from tests.conftest import ARCHITECTURES, TARGETS, tiny_model
from tests.examples import example
from tests.peft_methods import NAMED, STARTS

pytestmark = pytest.mark.numerical

STEPS = 12


class Toy(nn.Module):
    """Two layers and dropout over means of a variable number of rows."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 10, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(10, 4, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.dropout(torch.tanh(self.first(x))))


def examples(count: int = 40) -> list[dict]:
    """Example i has i % 4 + 1 tokens, each a term of the loss."""
    draw = torch.Generator().manual_seed(1)
    made = []
    for i in range(count):
        rows = i % 4 + 1
        x = torch.randn(rows, 6, generator=draw, dtype=torch.float64)
        made.append({"x": x, "y": (x[:, 0] > 0).long() + (x[:, 1] > 0).long()})
    return made


def collate(chosen: list[dict]) -> Batch:
    x, y = (torch.cat([example[key] for example in chosen]) for key in ("x", "y"))
    return Batch({"x": x, "y": y}, len(y))


def loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(inputs["x"]), inputs["y"], reduction="sum")


def work(count: int = 40) -> Work:
    data = examples(count)
    return Work(data, [len(example["y"]) for example in data], collate, loss)


def settings(**changes) -> Training:
    return Training(**{"steps": STEPS, "batch_size": 8, "learning_rate": 1e-2, **changes})


def attached(name: str = "lora", dropout: float = 0.0, seed: int = 0, **values):
    model = Toy(dropout)
    adapter = example(name, steps=STEPS, **values)
    adapter.attach(model, ["first", "second"], generator=generator(seed, "adapter"))
    return model, adapter


def run(name: str = "lora", *, dropout: float = 0.0, seed: int = 0, data: Work | None = None, **changes):
    watch, checkpoint = changes.pop("watch", None), changes.pop("checkpoint", None)
    model, adapter = attached(name, dropout, seed, **changes.pop("adapter", {}))
    data, recipe = data or work(), settings(**changes)
    read_data(adapter, data, recipe, seed)
    progress = train(model, adapter, data, recipe, seed, watch=watch, checkpoint=checkpoint)
    return progress, adapter.state_dict()


def assert_same_state(one: dict, other: dict, **tolerance) -> None:
    assert one["tensors"].keys() == other["tensors"].keys()
    for name, tensor in one["tensors"].items():
        torch.testing.assert_close(tensor, other["tensors"][name], msg=name, **tolerance)


EXACT = {"rtol": 0, "atol": 0}


def test_accumulation_equals_a_larger_batch_although_lengths_differ():
    data = examples(8)
    together = Work(data, [1] * 8, collate, loss)
    one, one_state = run(data=together, batch_size=8, accumulation=1, steps=3)
    # All 8 examples are in every step, whatever the order: only the grouping differs.
    eight, eight_state = run(data=together, batch_size=1, accumulation=8, steps=3)
    assert one.curve.loss == pytest.approx(eight.curve.loss, rel=1e-12)
    assert_same_state(one_state, eight_state, rtol=1e-10, atol=1e-12)


def test_the_loss_is_the_mean_over_terms():
    model, adapter = attached()
    data = examples(8)
    expected = loss(model, collate(data).inputs).item() / sum(len(e["y"]) for e in data)
    progress = train(model, adapter, Work(data, [1] * 8, collate, loss), settings(steps=1), 0)
    assert progress.curve.loss == pytest.approx([expected], rel=1e-12)


def test_order_covers_each_epoch_once_and_follows_the_seed():
    lengths = [i % 7 + 1 for i in range(64)]
    plan = batches(lengths, 8, 16, seed=3)
    for epoch in (plan[:8], plan[8:]):
        assert sorted(i for batch in epoch for i in batch) == list(range(64))
    assert plan == batches(lengths, 8, 16, seed=3)
    assert plan != batches(lengths, 8, 16, seed=4)
    assert plan[:8] != plan[8:]


def test_short_examples_are_left_out_no_more_often_than_long_ones():
    """Three of 35 examples are left over in each epoch: with 800 epochs each about 69 times."""
    lengths = [*range(1, 36)]
    plan = batches(lengths, 8, 4 * 800, seed=0)
    left_out = [800 - count for _, count in sorted(Counter(i for batch in plan for i in batch).items())]
    assert sum(left_out) == 3 * 800
    # Binomial: 800 draws at 3/35 deviate by 7.9; five of them for the 35 counts, three for a mean of ten.
    assert all(abs(count - 800 * 3 / 35) < 5 * 7.92 for count in left_out)
    assert abs(sum(left_out[:10]) / 10 - 800 * 3 / 35) < 3 * 7.92 / 10**0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["full", "lora"])
def test_biases_and_norms_do_not_decay_as_in_the_trainer(architecture, name):
    model = tiny_model(architecture)
    adapter = example(name, steps=1)
    adapter.attach(model, TARGETS[architecture])
    names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}

    def decays(settings):
        groups = make_optimizer(adapter, settings).param_groups
        assert {id(p) for group in groups for p in group["params"]} == names.keys()
        return {names[id(p)] for group in groups if group["weight_decay"] == 0.1 for p in group["params"]}

    common = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3, "weight_decay": 0.1}
    theirs = set(Trainer.get_decay_parameter_names(None, model)) & set(names.values())
    assert decays(Training(**common)) == theirs
    assert theirs < set(names.values()) or name == "lora"
    assert decays(Training(**common, decay="all")) == set(names.values())


def test_bucketing_pads_less_than_a_random_order():
    lengths = torch.randint(1, 100, (512,), generator=torch.Generator().manual_seed(0)).tolist()

    def padded(plan):
        return sum(len(batch) * max(lengths[i] for i in batch) for batch in plan)

    shuffled = torch.randperm(512, generator=torch.Generator().manual_seed(0)).tolist()
    random_plan = [shuffled[i : i + 16] for i in range(0, 512, 16)]
    assert padded(batches(lengths, 16, 32, seed=0)) < 0.75 * padded(random_plan)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [("linear", 1 / 18), ("cosine", (1 + math.cos(math.pi * 17 / 18)) / 2), ("constant", 1.0)],
)
def test_schedule_rises_over_the_warm_up_then_decays(schedule, last):
    progress, _ = run(steps=20, warmup=0.1, schedule=schedule, learning_rate=2e-3)
    rates = progress.curve.learning_rate
    assert rates[0] == 0
    assert rates[1] == pytest.approx(1e-3)
    assert rates[2] == pytest.approx(2e-3)
    expected = 2e-3 if schedule == "constant" else 2e-3 * last
    assert rates[-1] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_clipping_bounds_what_the_optimizer_sees_and_logs_what_was_there():
    model, adapter = attached()
    seen = []
    adapter.before_step = lambda optimizer, step: seen.append(
        torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()
    )
    progress = train(model, adapter, work(), settings(clip=1e-2, steps=3), 0)
    assert max(seen) <= 1e-2 * (1 + 1e-6)
    assert min(progress.curve.gradient_norm) > 1e-2


def test_penalty_is_trained_on_but_logged_apart():
    plain, _ = run(steps=4)
    model, adapter = attached()
    adapter.penalty = lambda: 3.0 * adapter.layers["first"].B.square().sum()
    progress = train(model, adapter, work(), settings(steps=4), 0)
    assert progress.curve.loss[0] == plain.curve.loss[0]
    assert progress.curve.penalty[0] > 0
    assert progress.curve.penalty[-1] < progress.curve.penalty[0]
    assert plain.curve.penalty == [0.0] * 4


def test_same_seed_same_run_other_seed_other_order_dropout_and_start():
    one, one_state = run(dropout=0.3, seed=1)
    again, again_state = run(dropout=0.3, seed=1)
    other, _ = run(dropout=0.3, seed=2)
    assert one.curve.loss == again.curve.loss
    assert_same_state(one_state, again_state, **EXACT)
    assert one.curve.loss != other.curve.loss


class Killed(Exception):
    """The process dies."""


OWN_DROPOUT = {"config": {"peft_type": "LORA", "r": 2, "lora_dropout": 0.2}}


ONCE = {"lora-plus", "lora-fa", "reflora", *STARTS, *NAMED}
"""Adapters that are killed at one step alone: what is theirs in a state does not depend on the step.
After the last one no step is left, whatever was trained."""
LATER = ONCE - {"lora-plus", "lora-ga"}
"""Of these, tested among the slow ones: they have neither groups nor a state that is not LoRA's or PEFT's."""


@pytest.mark.parametrize(
    ("name", "values", "at"),
    [
        pytest.param(name, values, at, marks=[pytest.mark.slow] if name in LATER else [])
        for name, values in [*((name, {}) for name in adapters.BUILT_IN), ("peft", OWN_DROPOUT)]
        for at in (1, 7, STEPS)
        if at == 7 or (at == 1 and name not in ONCE) or name == "lora"
    ],
)
def test_a_killed_run_resumes_bit_for_bit(name, values, at, tmp_path):
    given = {"dropout": 0.3, "adapter": values, "observe": 3}
    whole, whole_state = run(name, **given, watch=_observer())

    def die(curve):
        if curve.step[-1] == at + 1:
            raise Killed

    def checkpoint():
        return Checkpoint(tmp_path / "run.pt", "f", every_seconds=0)

    if at < STEPS:
        with pytest.raises(Killed):
            run(name, **given, watch=_observer(die), checkpoint=checkpoint())
    else:
        run(name, **given, watch=_observer(), checkpoint=checkpoint())
    resumed, resumed_state = run(name, **given, watch=_observer(), checkpoint=checkpoint())
    for key in ("step", "loss", "penalty", "gradient_norm", "learning_rate"):
        assert getattr(resumed.curve, key) == getattr(whole.curve, key), key
    assert resumed.observations == whole.observations
    assert resumed.best["step"] == whole.best["step"]
    assert_same_state(resumed_state, whole_state, **EXACT)
    assert_same_state(resumed.best["state"], whole.best["state"], **EXACT)


def _observer(tick=lambda curve: None) -> Watch:
    # The global generator is used up on purpose: an observation must not disturb the run.
    return Watch(
        observe=lambda step: Observation(step=step, selection=-abs(step - 8) + 0 * torch.rand(1).item()),
        tick=tick,
    )


def test_best_is_the_first_best_observation():
    progress, _ = run(watch=_observer(), observe=3)
    assert [seen.step for seen in progress.observations] == [4, 8, 12]
    assert progress.best["step"] == 8
    lower = Watch(observe=lambda step: Observation(step=step, selection=float(step)), lower_is_better=True)
    assert run(watch=lower, observe=3)[0].best["step"] == 4


def test_asked_to_stop_it_saves_and_resumes(tmp_path):
    whole, _ = run()
    checkpoint = Checkpoint(tmp_path / "run.pt", "f", every_seconds=1e9)
    with pytest.raises(Interrupted):
        run(checkpoint=checkpoint, watch=Watch(stopped=lambda: True))
    assert checkpoint.path.exists()
    resumed, _ = run(checkpoint=checkpoint)
    assert resumed.curve.loss == whole.curve.loss


def test_a_checkpoint_of_another_run_is_not_used(tmp_path):
    run(steps=3, checkpoint=Checkpoint(tmp_path / "run.pt", "old"))
    progress, _ = run(steps=3, checkpoint=Checkpoint(tmp_path / "run.pt", "new"))
    assert progress.curve.step == [1, 2, 3]
    assert Checkpoint(tmp_path / "run.pt", "new").usage.legs == 1


@pytest.mark.parametrize("part", ["the end", "a weight"])
def test_a_corrupt_checkpoint_is_named(part, tmp_path):
    """A weight that is another would train on, unseen."""
    path = tmp_path / "run.pt"
    run(steps=3, checkpoint=Checkpoint(path, "f"))
    content = path.read_bytes()
    saved = torch.load(path)["adapter"]["tensors"].values()
    weight = bytes(max(saved, key=torch.numel).untyped_storage())
    assert weight in content
    spoilt = {"the end": content[:500], "a weight": content.replace(weight, bytes(len(weight)))}
    path.write_bytes(spoilt[part])
    with pytest.raises(RecordError, match=r"run\.pt is corrupt.*delete it"):
        run(steps=3, checkpoint=Checkpoint(path, "f"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_ends_the_run_with_step_and_cause(bad):
    calls = []

    def diverging(model, inputs):
        calls.append(1)
        return loss(model, inputs) * (bad if len(calls) == 5 else 1.0)

    with pytest.raises(RunFailed, match=rf"loss is {bad} at step 5"):
        run(data=Work(examples(), [1] * 40, collate, diverging))


def test_processes_must_divide_the_micro_batches(monkeypatch):
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 2))
    with pytest.raises(ConfigError, match="not divisible by 2 processes"):
        run()


LOOP = ("train", "step", "../seeds", "checkpoint", "start", "probes", "scores", "job", "runner")


@pytest.mark.parametrize("module", LOOP)
def test_the_loop_and_the_walk_around_it_name_no_adapter_and_no_task(module):
    folder = Path(train.__code__.co_filename).parent
    nodes = list(ast.walk(ast.parse((folder / f"{module}.py").read_text(encoding="utf-8"))))
    literals = {node.value for node in nodes if isinstance(node, ast.Constant)}
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    known = {*adapters.BUILT_IN, *tasks.names()}
    assert not known & literals
    assert not known & {name.lower() for name in names}
