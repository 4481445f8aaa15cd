"""What is adapted is what the user named: each entry names a layer, or is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from rankbench import adapters
from rankbench.adapters import AdapterError
from rankbench.adapters.targets import select, task_head
from tests.conftest import TARGETS, tiny_model

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "intermediate_size": 48, "num_key_value_heads": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "gpt_oss": {"num_local_experts": 4, "intermediate_size": 16, "head_dim": 8, "num_key_value_heads": 2},
    "olmoe": {"num_experts": 4, "intermediate_size": 16, "num_key_value_heads": 2},
}


def refusal(model: nn.Module, targets: Any) -> str:
    before = [id(parameter) for parameter in model.parameters()]
    with pytest.raises(AdapterError) as caught:
        adapters.create("lora", rank=2).attach(model, targets)
    assert [id(parameter) for parameter in model.parameters()] == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("architecture", TARGETS)
@pytest.mark.parametrize(
    "targets", ["own", r".*\.(0|1)\..*(dense|c_fc|up_proj)", ["dense", "c_fc", "up_proj"]]
)
def test_names_match_as_in_peft(architecture: str, targets: Any) -> None:
    model = tiny_model(architecture)
    targets = TARGETS[architecture] if targets == "own" else targets
    if isinstance(targets, list):
        targets = [
            entry for entry in targets if any(n.endswith(f".{entry}") for n, _ in model.named_modules())
        ]
    else:
        present = [
            e for e in ("dense", "c_fc", "up_proj") if any(n.endswith(e) for n, _ in model.named_modules())
        ]
        targets = targets.replace("dense|c_fc|up_proj", "|".join(present))
    config = LoraConfig(target_modules=targets)
    heads = task_head(model)
    theirs = [n for n, _ in model.named_modules() if n not in heads and check_target_module_exists(config, n)]
    assert list(select(model, targets, heads=heads)[0]) == theirs
    assert theirs


def test_layers_are_counted_for_each_entry() -> None:
    adapter = adapters.create("lora", rank=2)
    adapter.attach(tiny_model("bert"), ["query", "attention.output.dense", "layer.1.output.dense", "query"])
    assert adapter.matched == {"query": 2, "attention.output.dense": 2, "layer.1.output.dense": 1}
    whole = adapters.create("lora", rank=2)
    whole.attach(tiny_model("bert"), r".*\.(query|value)")
    assert whole.matched == {r".*\.(query|value)": 4}


@pytest.mark.parametrize(
    ("targets", "entry", "hint"),
    [
        (["query", "vallue"], "'vallue'", "did you mean 'value'?"),
        (["query", "q_proj"], "'q_proj'", "linear layers end in classifier, dense, key, query, value"),
        (["query", "Value"], "'Value'", "did you mean 'value'?"),
        (["query", "value "], "'value '", "did you mean 'value'?"),
        (["query", "layer.7.output.dense"], "'layer.7.output.dense'", "did you mean 'dense'?"),
        (["query", ".*value"], "'.*value'", "did you mean 'value'?"),
        (r".*\.(query|vallue)", "'vallue'", "did you mean 'value'?"),
        (r".*\.query|.*\.vallue", r"'.*\\.vallue'", "did you mean 'value'?"),
        (r".*layer\.(0|1|7)\.(?:attention\.self\.(?P<kind>query|value)|output\.dense)", "'7'", "end in"),
        (r".*(query|(key|vallue))", "'vallue'", "did you mean 'value'?"),
        (
            "query",
            "'query'",
            "a text is a regular expression over whole names, [query] names layers by their",
        ),
        (
            "query|vallue",
            "'query'",
            "[query] names layers by their endings; the model's linear layers end in",
        ),
        ("all-linear", "'all-linear'", "end in"),
    ],
)
def test_an_entry_that_names_nothing_is_refused(targets: Any, entry: str, hint: str) -> None:
    message = refusal(tiny_model("bert"), targets)
    assert message.startswith(f"target {entry} matches no layer;")
    assert hint in message


@pytest.mark.parametrize(
    "targets",
    [
        r".*[(|)]?\.query",
        r".*\|?\.query",
        r".*\.(query|)",
        r"(bert|encoder|layer|attention|self|other|\d|\.)*query",
        r"(?:(bert|encoder|layer|attention|self|other|\d)\.)+query",
        r"(?=bert|gpt).*query",
        r".*(?<!x|y)query",
    ],
)
def test_bars_that_are_no_alternatives_of_their_own_are_left_alone(targets: str) -> None:
    assert len(select(tiny_model("bert"), targets)[0]) == 2


@pytest.mark.parametrize("kind", EXPERTS)
@pytest.mark.parametrize("targets", [["q_proj", "gate_up_proj"], ["q_proj", "experts.down_proj"], "pattern"])
def test_experts_in_one_parameter_are_refused(kind: str, targets: Any) -> None:
    config = AutoConfig.for_model(kind, **SMALL, **EXPERTS[kind])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    message = refusal(model, r".*\.(q_proj|down_proj)" if targets == "pattern" else targets)
    assert "a parameter of" in message
    assert "the experts' weights in one" in message


def test_shared_experts_do_not_hide_the_others() -> None:
    """`down_proj` names the shared expert's layer and the parameter of all the others."""
    config = AutoConfig.for_model("qwen2_moe", **SMALL, **EXPERTS["qwen2_moe"])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert "experts.down_proj, a parameter" in refusal(model, ["down_proj"])
    assert len(select(model, ["shared_expert.down_proj"])[0]) == 2


def test_a_linear_layer_that_is_written_anew_is_one() -> None:
    config = AutoConfig.for_model("falcon", vocab_size=32, hidden_size=16, num_hidden_layers=2)
    config.num_attention_heads = 2
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config)
        assert len(select(model, ["query_key_value"])[0]) == 2


@pytest.mark.parametrize("targets", [None, 3, ["query", None], [["query"]]])
def test_targets_that_are_no_names_are_one_line(targets: Any) -> None:
    assert "targets must be names of layers" in refusal(tiny_model("bert"), targets)


class Own(nn.Linear):
    """Computes something else than a product."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


def odd() -> nn.Module:
    packed = nn.Linear(8, 8)
    packed.weight = nn.Parameter(torch.zeros(32, 1, dtype=torch.uint8), requires_grad=False)
    return nn.ModuleDict(
        {
            "fine": nn.Linear(8, 8),
            "embedding": nn.Embedding(8, 8),
            "norm": nn.LayerNorm(8),
            "convolution": nn.Conv1d(8, 8, 1),
            "packed": packed,
            "float8": nn.Linear(8, 8).to(torch.float8_e4m3fn),
            "own": Own(8, 8),
            "lazy": nn.LazyLinear(8),
            "attention": nn.MultiheadAttention(8, 2),
        }
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("embedding", "is a Embedding; only Linear and Conv1D"),
        ("norm", "is a LayerNorm; only Linear and Conv1D"),
        ("convolution", "is a Conv1d; only Linear and Conv1D"),
        ("packed", "is a Linear with a quantised weight (Parameter, torch.uint8)"),
        ("float8", "is a Linear with a quantised weight (Parameter, torch.float8_e4m3fn)"),
        ("own", "is a Own, which computes more than a Linear's product"),
        ("out_proj", "is a part of MultiheadAttention, which reads its weight without calling it"),
        ("in_proj_weight", "a parameter of MultiheadAttention of shape (24, 8) (no layer)"),
        ("fine.weight", "names fine.weight, a parameter of Linear"),
        ("lazy", "is a LazyLinear with a quantised weight (UninitializedParameter"),
    ],
)
def test_what_is_no_plain_linear_layer_is_refused(entry: str, reason: str) -> None:
    assert reason in refusal(odd(), ["fine", entry])


HEADS = {
    "bert": ["classifier"],
    "roberta": ["classifier.dense", "classifier.out_proj"],
    "electra": ["classifier.dense", "classifier.out_proj"],
    "deberta-v2": ["pooler.dense", "classifier"],
    "albert": ["classifier"],
    "mpnet": ["classifier.dense", "classifier.out_proj"],
    "distilbert": ["pre_classifier", "classifier"],
    "xlnet": ["sequence_summary.summary", "logits_proj"],
    "llama": ["score"],
    "gpt2": ["score"],
}


@pytest.mark.parametrize("kind", HEADS)
def test_the_head_is_what_lies_outside_the_backbone(kind: str) -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind))
    assert task_head(model) == HEADS[kind]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_a_language_models_output_layer_is_no_head(kind: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind))
    assert task_head(model) == []


def test_a_part_of_the_head_is_no_target() -> None:
    """RoBERTa's `dense` names layers of the encoder and one of the head."""
    config = AutoConfig.for_model("roberta", **SMALL, intermediate_size=48)
    model = AutoModelForSequenceClassification.from_config(config)
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["dense"])
    assert len(adapter.layers) == 6
    assert not any("classifier" in name for name in adapter.layers)
    assert all(p.requires_grad for p in model.classifier.parameters())
    assert "is trained whole" in refusal(
        AutoModelForSequenceClassification.from_config(config), ["query", "classifier"]
    )
