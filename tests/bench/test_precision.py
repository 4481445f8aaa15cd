"""What a model holds its frozen weights in: how it is loaded, what identifies it, what is refused."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import nn

from rankbench.adapters.quantised import in_four_bits, unpacked
from rankbench.bench import models
from rankbench.bench.models import precision
from rankbench.bench.records import differences
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import ConfigError, Model, load_suite, plan
from rankbench.tasks import Head
from tests.bench.tiny_suite import with_changes

bitsandbytes = pytest.importorskip("bitsandbytes")
SEQUENCE, CAUSAL = Head("sequence", 3), Head("causal")
KINDS = [
    ("tiny-bert", SEQUENCE),
    ("tiny-llama", SEQUENCE),
    ("tiny-llama", CAUSAL),
    ("random:tiny-llama", CAUSAL),
]


def head_values(loaded: nn.Module) -> dict[str, torch.Tensor]:
    names = models.heads(loaded)
    return {n: p for n, p in loaded.named_parameters() if n.rpartition(".")[0] in names}


@pytest.mark.parametrize(("name", "head"), KINDS)
def test_random_weights_are_the_float32_ones_rounded_and_heads_are_not(name, head):
    wide, narrow = (models.load_headed(Model(name=name, weights=w), head, 0) for w in ("float32", "bfloat16"))
    heads = head_values(narrow)
    assert bool(heads) is (head is SEQUENCE)
    for key, held in narrow.named_parameters():
        exact = wide.get_parameter(key)
        assert torch.equal(held, exact if key in heads else exact.bfloat16()), key
    assert [b.dtype for b in narrow.buffers()] == [b.dtype for b in wide.buffers()]


@pytest.mark.parametrize(("name", "head"), KINDS)
def test_four_bits_are_those_of_the_bfloat16_weights(name, head):
    """By the library's own function, layer by layer; what is no linear layer of the backbone stays."""
    narrow, packed = (models.load_headed(Model(name=name, weights=w), head, 0) for w in ("bfloat16", "nf4"))
    last, heads = narrow.get_output_embeddings(), models.heads(narrow)
    for key, layer in narrow.named_modules():
        other = packed.get_submodule(key)
        if type(layer) is nn.Linear and layer is not last and key not in heads:
            made, _ = bitsandbytes.functional.quantize_4bit(layer.weight, blocksize=64, quant_type="nf4")
            assert in_four_bits(other)
            assert torch.equal(other.weight, made), key
            assert unpacked(other.weight).dtype == torch.bfloat16
            assert not other.weight.quant_state.nested
        else:
            assert type(other) is type(layer)
            for one, same in zip(layer.parameters(False), other.parameters(False), strict=True):
                assert torch.equal(one, same)
                assert one.dtype == same.dtype


@pytest.mark.parametrize("weights", ["bfloat16", "nf4"])
def test_a_folder_is_read_as_the_same_values_and_its_head_drawn_as_ever(weights, tmp_path):
    source = models.load_headed(Model(name="tiny-bert"), SEQUENCE, 0)
    source.save_pretrained(tmp_path)
    drawn = models.load_headed(Model(name="tiny-bert", weights=weights), SEQUENCE, 0)
    loaded, wide = (
        models.load_headed(Model(name=str(tmp_path), weights=w), SEQUENCE, 7) for w in (weights, "float32")
    )
    heads = head_values(loaded)
    for key, held in loaded.named_parameters():
        assert torch.equal(held, wide.get_parameter(key) if key in heads else drawn.get_parameter(key)), key
    assert {p.dtype for p in heads.values()} == {torch.float32}
    assert models.heads(loaded, Model(name=str(tmp_path), weights=weights)) == models.heads(loaded)


@pytest.mark.parametrize("weights", ["bfloat16", "nf4"])
def test_a_head_that_is_kept_is_the_checkpoints_rounded_once(weights, tmp_path):
    source = models.load_headed(Model(name="tiny-bert"), SEQUENCE, 0)
    source.save_pretrained(tmp_path)
    loaded = models.load_headed(Model(name=str(tmp_path), weights=weights, head="keep"), SEQUENCE, 7)
    assert torch.equal(loaded.classifier.weight, source.classifier.weight.bfloat16().float())


@pytest.mark.parametrize("weights", ["bfloat16", "nf4"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_float32_head_takes_its_input_cast_and_its_weight_never(weights, autocast):
    loaded = models.load_headed(Model(name="tiny-bert", weights=weights), SEQUENCE, 0).eval()
    seen: list[torch.Tensor] = []
    loaded.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = loaded(input_ids=torch.randint(5, 99, (2, 6))).logits
    expected = nn.functional.linear(seen[0].float(), loaded.classifier.weight, loaded.classifier.bias)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("weights", ["bfloat16", "nf4"])
def test_a_widened_model_holds_the_same_numbers_in_float32(weights):
    held, wide = (models.load_headed(Model(name="tiny-bert", weights=weights), SEQUENCE, 0) for _ in range(2))
    models.widen(wide)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    for key, module in held.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            exact = unpacked(parameter) if hasattr(parameter, "quant_state") else parameter
            assert torch.equal(wide.get_submodule(key).get_parameter(name), exact.float()), (key, name)


def test_a_model_in_four_bits_is_moved_as_others_are_and_scores_and_trains_on():
    """Scoring must not pack the weights anew, as the library does on processors with bfloat16 products."""
    loaded = models.load_headed(Model(name="tiny-bert", weights="nf4"), SEQUENCE, 0)
    ids = torch.randint(5, 99, (2, 6))
    before = {name: parameter.clone() for name, parameter in loaded.named_parameters()}
    with torch.inference_mode():
        loaded.eval()(input_ids=ids)
    moved = loaded.cpu().to("cpu")
    assert all(torch.equal(before[name], parameter) for name, parameter in moved.named_parameters())
    moved.enable_input_require_grads()
    moved.train()(input_ids=ids).logits.sum().backward()
    assert moved.classifier.weight.grad is not None


def test_float32_weights_are_named_nowhere_and_others_are_another_run(suite):
    spec = next(plan(load_suite(str(suite))))
    before = resolve(spec)
    assert "weights" not in spec.model_dump()["model"]
    assert "weights" not in before.config["model"]
    assert "weights_held_in" not in before.identity
    narrow = spec.model_copy(update={"model": spec.model.model_copy(update={"weights": "bfloat16"})})
    assert differences(before.identity, resolve(narrow).identity) == ["weights_held_in nothing -> bfloat16"]
    packed = spec.model_copy(update={"model": spec.model.model_copy(update={"weights": "nf4"})})
    told = differences(before.identity, resolve(packed).identity)
    assert told == ["software.bitsandbytes nothing -> 0.50.2", "weights_held_in nothing -> nf4"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "tiny-bert", "weights": "int8"}}, "'float32', 'bfloat16' or 'nf4'"),
        ({"model": {"name": "tiny-bert", "wieghts": "nf4"}}, "'wieghts'; did you mean 'weights'?"),
        ({"model": {"name": "tiny-bert", "weights": "bfloat16"}, "adapters": {"full": {}}},
         "adapter full over `weights: bfloat16`: it trains every weight, and would lose small steps"),
        ({"model": {"name": "tiny-bert", "weights": "nf4"}, "adapters": {"scalora": {"rank": 2}}},
         "adapter scalora over `weights: nf4`: it folds into the frozen weights"),
        ({"model": {"name": "tiny-bert", "weights": "nf4"}, "adapters": {"pissa": {"rank": 2}}},
         "its start (pissa) factorises the frozen weights; take bfloat16"),
        ({"model": {"name": "tiny-bert", "weights": "nf4"}, "adapters": {"mine": {"name": "peft", "config":
          {"peft_type": "LOHA"}}}}, "adapter mine over `weights: nf4`: PEFT's LOHA does not train over"),
        ({"model": {"name": "tiny-bert", "weights": "bfloat16"}, "adapters": {"mine": {"name": "peft",
          "config": {"peft_type": "LORA", "bias": "lora_only"}}}},
         "adapter mine over `weights: bfloat16`: its biases are trained (bias: lora_only) in bfloat16"),
        ({"model": {"name": "tiny-bert", "weights": "bfloat16"}, "task": "linear-regression",
          "adapters": {"lora": {"rank": 2}}},
         "linear-regression has a model of its own, in float32; leave `weights` out"),
        ({"model": {"name": "tiny-bert", "weights": "nf4"}, "adapters": {"lora": {"rank": 2}},
          "training": {"steps": 2, "batch_size": 2, "accumulation": 2, "learning_rate": 1e-3, "processes": 2,
                       "shard": True}}, "four bits cannot be cut among processes; take bfloat16"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_as_the_suite_is_read(changes, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(with_changes(**changes)))
    with pytest.raises(ConfigError) as caught:
        load_suite(str(tmp_path / "mine.yaml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_missing_library_is_one_line_before_anything_runs(monkeypatch):
    def missing(_: str) -> str:
        raise precision.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(precision.importlib.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r"tiny-bert: `weights: nf4` needs bitsandbytes: pip install"):
        models.fetch(Model(name="tiny-bert", weights="nf4"))
    models.fetch(Model(name="tiny-bert", weights="bfloat16"))
