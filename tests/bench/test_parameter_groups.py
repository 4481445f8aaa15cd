"""Learning rates of an adapter's own, in the shared loop: LoRA+ against PEFT's optimizer, and bad groups."""

from __future__ import annotations

import peft
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from torch.optim import AdamW
from transformers import get_scheduler

from rankbench.adapters import Adapter, AdapterError
from rankbench.adapters.base import ParameterGroup
from rankbench.adapters.lora import Lora, LowRankLinear
from rankbench.bench.run.step import make_optimizer
from rankbench.bench.run.train import train
from rankbench.bench.seeds import batches
from tests.bench.test_train import Toy, attached, loss, settings, work
from tests.examples import example

pytestmark = pytest.mark.numerical


def pefts_lora(adapter: Adapter) -> nn.Module:
    """PEFT's layers with the same factors, in a model of their own."""
    config = peft.LoraConfig(r=2, lora_alpha=16, target_modules=["first", "second"])
    model: nn.Module = peft.inject_adapter_in_model(config, Toy())
    for name, layer in adapter.layers.items():
        assert isinstance(layer, LowRankLinear)
        other = model.get_submodule(name)
        other.lora_A["default"].weight.data = layer.B.detach().t().clone()
        other.lora_B["default"].weight.data = layer.A.detach().clone()
    return model


def test_lora_plus_trains_as_pefts_optimizer_does() -> None:
    """With a schedule and clipping; curve and weights."""
    model, adapter = attached("lora-plus", ratio=4.0)
    recipe, data = settings(schedule="cosine", weight_decay=0.1), work()
    theirs = pefts_lora(adapter)
    optimizer = create_loraplus_optimizer(
        theirs, AdamW, lr=recipe.learning_rate, loraplus_lr_ratio=4.0, loraplus_weight_decay=0.1
    )
    curve = train(model, adapter, data, recipe, 0).curve

    scheduler = get_scheduler("cosine", optimizer, round(recipe.warmup * recipe.steps), recipe.steps)
    for step, indices in enumerate(batches(data.lengths, recipe.batch_size, recipe.steps, 0)):
        batch = data.collate([data.examples[i] for i in indices])
        value = loss(theirs, batch.inputs) / batch.weight
        value.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        assert curve.learning_rate[step] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        assert curve.loss[step] == pytest.approx(value.item(), rel=1e-9), step
    for name, layer in adapter.layers.items():
        other = theirs.get_submodule(name)
        torch.testing.assert_close(layer.A, other.lora_B["default"].weight, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(layer.B, other.lora_A["default"].weight.t(), rtol=1e-7, atol=1e-10)


def test_each_group_has_its_own_peak_and_decays_as_it_should() -> None:
    """A head has the run's rate, its bias no decay."""
    net = nn.ModuleDict({"layer": nn.Linear(6, 5), "head": nn.Linear(5, 3)})
    adapter = example("lora-plus", steps=10, ratio=8.0)
    adapter.attach(net, ["layer"], heads=["head"])
    optimizer = make_optimizer(adapter, settings(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    stated = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert stated == {
        "layer.A": (pytest.approx(8e-2), 0.1),
        "layer.B": (1e-2, 0.1),
        "head.weight": (1e-2, 0.1),
        "head.bias": (1e-2, 0.0),
    }
    assert optimizer.param_groups[0]["lr"] == 1e-2  # the rate that a record's curve shows
    assert all(group["fused"] for group in optimizer.param_groups)


def test_one_group_is_what_it_was_before_there_were_any() -> None:
    """Two groups of the optimizer, by decay, at the run's rate, in the model's order."""
    _, adapter = attached()
    trained = [parameter for parameter in adapter.model.parameters() if parameter.requires_grad]
    (group,) = make_optimizer(adapter, settings()).param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-2, 0.0)
    assert all(one is other for one, other in zip(group["params"], trained, strict=True))


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda trained: [trained[1:]], r"lora has first\.A in 0 parameter groups, not in one"),
        (lambda trained: [trained, trained[:1]], r"lora has first\.A in 2 parameter groups, not in one"),
        (lambda trained: [[*trained, nn.Parameter(torch.ones(1))]], "lora has something .* not trained"),
        (lambda _: [], r"lora has first\.A in 0 parameter groups"),
    ],
)
def test_groups_that_are_not_all_that_is_trained_once(pick, message, monkeypatch) -> None:
    _, adapter = attached()
    groups = [ParameterGroup(parameters) for parameters in pick(adapter.trained())]
    monkeypatch.setattr(Lora, "parameter_groups", lambda _: groups)
    with pytest.raises(AdapterError, match=message) as caught:
        make_optimizer(adapter, settings())
    assert "\n" not in str(caught.value)
