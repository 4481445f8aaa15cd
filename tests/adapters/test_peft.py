"""The bridge to PEFT: any configuration as data, AdaLoRA's extras, refusals."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.optim import AdamW
from transformers.pytorch_utils import Conv1D

from rankbench import adapters
from rankbench.adapters.peft.bridge import PeftBridge
from tests.adapters.steps import optimizer_for, outputs, train
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model
from tests.examples import example
from tests.peft_methods import METHODS

pytestmark = pytest.mark.numerical

CONFIGURATIONS: list[dict[str, Any]] = [
    {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "init_lora_weights": "pissa"},
    {"peft_type": "LORA", "r": 4, "init_lora_weights": "olora"},
    {"peft_type": "lora", "r": 4, "bias": "lora_only"},
    {"peft_type": "LOHA", "r": 4},
    {"peft_type": "LOKR", "r": 4},
    {"peft_type": "MISS", "r": 4},
    {"peft_type": "OFT", "r": 0, "oft_block_size": 4},
    {"peft_type": "VERA", "r": 4},
    {"peft_type": "FOURIERFT", "n_frequency": 20},
    {"peft_type": "HRA", "r": 4},
]


def bridged(seed: int = 0, architecture: str = "bert", **config: Any) -> tuple[PeftBridge, nn.Module]:
    model = tiny_model(architecture)
    adapter = adapters.create("peft", config=config)
    assert isinstance(adapter, PeftBridge)
    adapter.attach(model, TARGETS[architecture], generator=seeded(seed))
    return adapter, model


def adalora(**values: Any) -> tuple[PeftBridge, nn.Module]:
    model = tiny_model("bert", dtype=torch.float64)
    adapter = adapters.create("adalora", **{"rank": 4, "target_rank": 2, "total_steps": 30} | values)
    assert isinstance(adapter, PeftBridge)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    return adapter, model


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_any_configuration_attaches_trains_loads_and_merges(config: dict[str, Any]) -> None:
    adapter, model = bridged(**config)
    if config["peft_type"] not in ("FOURIERFT", "LOHA"):
        torch.testing.assert_close(outputs(model), outputs(tiny_model("bert")), rtol=1e-4, atol=1e-5)
    train(adapter, model, optimizer_for(model), range(3), batches=2)
    other, fresh = bridged(seed=1, **config)
    other.load_state_dict(adapter.state_dict())
    assert torch.equal(outputs(fresh), outputs(model))
    weights = {name: adapter.weight(name) for name in adapter.layers}
    unmerged = outputs(model)
    assert adapter.merge(model) is model
    torch.testing.assert_close(outputs(model), unmerged, rtol=1e-3, atol=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(model.get_submodule(name).weight, weight, rtol=1e-5, atol=1e-6)
    assert not hasattr(model, "peft_config")


def test_a_start_taken_out_of_the_frozen_weight_is_part_of_the_state() -> None:
    adapter, _ = bridged(peft_type="LORA", r=4, init_lora_weights="pissa")
    plain, _ = bridged(peft_type="LORA", r=4)
    moved = [key for key in adapter.state_dict()["tensors"] if key.endswith("base_layer.weight")]
    assert len(moved) == len(adapter.layers)
    assert not any(key.endswith("base_layer.weight") for key in plain.state_dict()["tensors"])


def test_adaloras_penalty_is_pefts() -> None:
    adapter, model = adalora(orthogonality=0.3)
    train(adapter, model, optimizer_for(model), range(3), batches=2)
    batch = tiny_batch(model)
    with torch.no_grad():
        inside = adapter.tuner(**batch).loss - model(**batch).loss
    assert float(adapter.penalty()) == pytest.approx(float(inside), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_adalora_trains_its_three_factors_alone_whatever_the_weights_are_held_in(dtype) -> None:
    """r (in + out + 1) a layer. Over another precision, and on a GPU, PEFT has the rank trained that it
    divides by; and what was trained so was of another adapter where it was exported."""
    made = [example("adalora", steps=30) for _ in range(2)]
    for adapter, kind in zip(made, (dtype, torch.float32), strict=True):
        adapter.attach(tiny_model("bert", dtype=kind), TARGETS["bert"], generator=seeded())
    trained, restored = made
    sizes = [sum(trained.plain(name).weight.shape) + 1 for name in trained.layers]
    assert trained.parameter_counts()["adapter"] == trained.settings()["rank"] * sum(sizes)
    restored.load_state_dict(trained.state_dict())


def test_adalora_trains_as_pefts_own_loop_does() -> None:
    adapter, ours = adalora(
        rank=4, target_rank=2, total_steps=12, init_warmup=2, final_warmup=3, mask_interval=2
    )
    start = {n: p.detach().clone() for n, p in ours.named_parameters()}
    train(adapter, ours, optimizer_for(ours), range(12), batches=2)

    config = peft.AdaLoraConfig(
        init_r=4,
        target_r=2,
        lora_alpha=16,
        orth_reg_weight=0.1,
        tinit=2,
        tfinal=3,
        deltaT=2,
        total_step=12,
        target_modules=list(TARGETS["bert"]),
    )
    theirs = peft.get_peft_model(tiny_model("bert", dtype=torch.float64), config)
    inner = theirs.base_model.model
    with torch.no_grad():
        for name, parameter in inner.named_parameters():
            parameter.copy_(start[name])
    inner.get_submodule("classifier").requires_grad_(True)
    for name, parameter in inner.named_parameters():
        if "ranknum" in name:  # in float64 PEFT trains it, in float32 on the CPU it does not
            parameter.requires_grad_(False)
    optimizer = AdamW([p for p in theirs.parameters() if p.requires_grad], lr=1e-2)
    for step in range(12):
        optimizer.zero_grad()
        theirs.base_model(**tiny_batch(inner, step % 2)).loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step + 1)
    torch.testing.assert_close(outputs(ours), outputs(inner), rtol=1e-6, atol=1e-9)
    ranks = adapter.diagnostics()["rank"]
    assert sum(ranks.values()) == 2 * len(adapter.layers)
    assert ranks == {n: int(inner.get_submodule(n).lora_E["default"].count_nonzero()) for n in adapter.layers}


def test_presets_are_pefts_methods() -> None:
    for name, marker in (("dora", "lora_magnitude_vector"), ("hira", "hira_A"), ("adalora", "lora_E")):
        adapter = example(name, steps=10)
        model = adapter.attach(tiny_model("bert"), ["query"], generator=seeded())
        assert any(marker in key for key, _ in model.named_parameters())


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = tiny_model("gpt2")
    before = dict(model.named_modules())
    adapter = adapters.create("peft", config={"peft_type": "LOHA", "r": 4})
    with pytest.raises(
        adapters.AdapterError, match=r"PEFT refuses this LOHA configuration: .*Conv1D"
    ) as caught:
        adapter.attach(model, TARGETS["gpt2"])
    assert "\n" not in str(caught.value)
    assert dict(model.named_modules()) == before
    assert all(p.requires_grad for p in model.parameters())


def test_only_the_selected_layers_are_replaced() -> None:
    """A top-level name that is also another layer's ending."""
    model = nn.ModuleDict({"fc": nn.Linear(8, 8), "block": nn.ModuleDict({"fc": nn.Linear(8, 8)})})
    adapter = adapters.create("dora", rank=2)
    adapter.attach(model, "fc", generator=seeded())
    assert list(adapter.layers) == ["fc"]
    assert isinstance(model["block"]["fc"], nn.Linear)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rank_pattern": {"quary": 2}}, "rank_pattern names 'quary', which decides no layer"),
        (
            {"rank_pattern": {"query": 2, ".*query": 3}},
            r"names '.\*query', which decides no layer",
        ),
        ({"alpha_pattern": {"(": 2}}, "PEFT refuses this LORA configuration: missing"),
        ({"r": "4"}, "r must be a number, not '4'"),
        ({"r": 4.5}, "r must be a whole number, not 4.5"),
        ({"rank_pattern": {"query": 64}}, "rank 64 is not between 1 and 32"),
        ({"rank_pattern": {"query": 2.5}}, "rank_pattern of query must be a positive whole number"),
        ({"rank_pattern": ["query"]}, "rank_pattern must be `layer: value`"),
        ({"lora_dropout": -0.1}, "lora_dropout must be at least 0 and below 1, not -0.1"),
        ({"lora_dropout": 1.0}, "lora_dropout must be at least 0 and below 1, not 1.0"),
        ({"lora_alpha": 0}, "lora_alpha must be a positive number, not 0"),
        ({"lora_alpha": None}, "lora_alpha must be a number, not None"),
        ({"use_dora": "no"}, "use_dora must be true or false, not 'no'"),
        ({"init_lora_weights": "pissa_16"}, "must be pissa or pissa_niter_N, not 'pissa_16'"),
        ({"peft_type": "OFT", "oft_block_size": 5}, r"Invalid `oft_block_size` \(5\)"),
        ({"r": 64}, "rank 64 is not between 1 and 32"),
        ({"bias": "lora-only"}, "PEFT refuses this LORA configuration: Requested bias: lora-only"),
        ({"peft_type": "IA3", "feedforward_modules": ["nope"]}, "feedforward_modules names 'nope'"),
        ({"peft_type": "IA3", "feedforward_modules": ".*nope"}, "feedforward_modules '.*nope' fits no"),
        (
            {"peft_type": "GLORA", "config_A_B": "none", "config_C": "none", "config_D_E": "none"},
            "nothing of .*query would be trained",
        ),
        ({"peft_type": "OFT", "oft_block_size": 1}, "nothing of .*query would be trained"),
        ({"peft_type": "OSF", "effective_rank": 32}, "nothing of .*query would be trained"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(config: dict[str, Any], message: str) -> None:
    model = tiny_model("bert")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(adapters.AdapterError, match=message) as caught:
        adapters.create("peft", config={"peft_type": "LORA", **config}).attach(model, TARGETS["bert"])
    assert "\n" not in str(caught.value)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) and after[key].requires_grad for key in before)


@pytest.mark.parametrize(
    ("method", "setting", "value", "message"),
    [
        ("LORA", "alpha_pattern", {"query": 0}, "alpha_pattern of query must be a positive number, not 0"),
        ("LORA", "alpha_pattern", {"query": float("nan")}, "must be a positive number, not nan"),
        ("LORA", "alpha_pattern", {"query": True}, "must be a positive number, not True"),
        ("LOHA", "rank_pattern", {"query": True}, "rank_pattern of query must be a positive whole number"),
        ("DELORA", "lambda_pattern", {"query": 0}, "lambda_pattern of query must be a positive number"),
        ("DELORA", "delora_lambda", 0, "delora_lambda must be a positive number, not 0"),
        ("FOURIERFT", "scaling", 0, "scaling must be a positive number, not 0"),
        ("WAVEFT", "scaling", 0.0, "scaling must be a positive number, not 0.0"),
        ("PEANUT", "scaling", 0, "scaling must be a positive number, not 0"),
        ("VERA", "d_initial", 0, "d_initial must be a positive number, not 0"),
        ("VBLORA", "init_vector_bank_bound", 0, "init_vector_bank_bound must be a positive number"),
        ("DEFT", "alpha", 0, "alpha must be a positive number, not 0"),
        ("GLORA", "r", 0, "r must be at least 1, not 0"),
        ("OFT", "num_cayley_neumann_terms", 1, "num_cayley_neumann_terms must be at least 2, not 1"),
        ("ADALORA", "target_r", 0, "target_r must be at least 1, not 0"),
        ("ADALORA", "deltaT", 2.5, "deltaT must be a whole number, not 2.5"),
        ("ADALORA", "tfinal", -1, "tinit 0 and tfinal -1 are no numbers of steps"),
        ("MISS", "init_weights", "minni", "init_weights 'minni' is none of PEFT's; did you mean 'mini'"),
        ("LOKR", "init_weights", "no", "init_weights 'no' is none of PEFT's; known: lycoris"),
        ("TINYLORA", "init_weights", "no", "init_weights: no leaves TINYLORA's vectors at whatever"),
    ],
)
def test_what_would_learn_nothing_or_something_else_is_refused(
    method: str, setting: str, value: object, message: str
) -> None:
    """PEFT takes each of these: nothing is trained then, all is pruned, or the method's default runs."""
    config = {**METHODS[method], setting: value}
    with pytest.raises(adapters.AdapterError, match=message) as caught:
        adapters.create("peft", config=config, total_steps=20).attach(tiny_model("bert"), TARGETS["bert"])
    assert "\n" not in str(caught.value)


def test_a_bias_needs_a_layer_that_has_one() -> None:
    adapter = adapters.create("peft", config={"peft_type": "LORA", "lora_bias": True})
    with pytest.raises(adapters.AdapterError, match="base layer has no bias"):
        adapter.attach(tiny_model("llama"), TARGETS["llama"])


@pytest.mark.parametrize(
    "given",
    [{"name": "olora"}, {"name": "peft", "config": {"peft_type": "LORA", "init_lora_weights": "OLoRA"}}],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_olora_of_a_transposed_weight_is_refused(given: dict[str, Any], device: str) -> None:
    """GPT-2's `c_proj` is square: PEFT factorises its transpose, and the model began as another one."""
    model = nn.Sequential(Conv1D(16, 16)).to(device)
    with pytest.raises(adapters.AdapterError, match="OLoRA factorises a Conv1D the wrong way round"):
        adapters.create(**given).attach(model, ["0"], heads=())
    assert isinstance(model[0], Conv1D)


def test_attaching_keeps_the_models_mode() -> None:
    """A new layer with dropout in a model that is set to evaluate would draw at every call."""
    _, model = bridged(peft_type="LORA", lora_dropout=0.5, init_lora_weights=False)
    assert torch.equal(outputs(model), outputs(model))
    assert not any(module.training for module in model.modules())
