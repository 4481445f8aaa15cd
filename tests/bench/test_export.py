"""What is exported answers as what was trained, loaded by PEFT and transformers alone, for every adapter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from rankbench import adapters
from rankbench.adapters import AdapterError
from rankbench.bench.export.layout import whole_modules
from rankbench.bench.export.manifest import Form
from rankbench.bench.export.readers import remarks
from rankbench.bench.export.restore import Restored, base_of
from rankbench.bench.export.write import write
from rankbench.bench.models import identity
from rankbench.bench.run.saving import Trained
from rankbench.bench.suite import Model, RunSpec
from rankbench.bench.suite.described import adapter_of
from rankbench.tasks import Head
from tests.adapters.steps import optimizer_for, train
from tests.conftest import seeded, tiny_batch
from tests.made_records import run_record
from tests.peft_methods import METHODS
from tests.tiny_text import bert, encoder_tokenizer, write_end_reader

STEPS = 8
TARGETS = {
    "tiny-bert": ["query", "value", "output.dense"],
    "tiny-llama": r".*\.(q_proj|v_proj|down_proj)",
}
HEADS = {"tiny-bert": Head("sequence", 3, ("no", "perhaps", "yes")), "tiny-llama": Head("causal")}
MODELS = list(TARGETS)
ONE_FORM = {"full", *(name for name in adapters.names() if adapters.kind(name).moves_base)}
"""Adapters that no method of PEFT's can hold."""
STARTS = ("pissa", "olora", "lora-ga")
"""Adapters that begin by changing the pretrained weights."""
FAST = {(name, "tiny-bert") for name in ("lora", "rslora", "lora2", "scalora", "full", "lora-fa", "dora")} | {
    ("lora", "tiny-llama")
}
CELL = "made--run--s0"


def trained_run(name: str, model: str = "tiny-bert", **values: Any) -> Restored:
    """A few steps of an adapter at its own example, on a batch of the tests' own."""
    settings = adapters.kind(name).example | values
    spec = RunSpec(
        suite="made", experiment="made", label="run", seed=0, task={"name": "made"}, model=Model(name=model),
        targets=TARGETS[model], adapter={"name": name, **settings},
        training={"steps": STEPS, "batch_size": 8, "learning_rate": 1e-2},
    )  # fmt: skip
    trained = Trained(spec, HEADS[model], "made up", "none", {})
    built, adapter = base_of(trained), adapter_of(spec)
    torch.manual_seed(0)  # dropout
    adapter.attach(built, spec.targets, generator=seeded())
    train(adapter, built, optimizer_for(built), range(STEPS))
    rank = settings.get("rank")
    record = run_record("made", "run", 0, rank=rank, config={"adapter": {"name": name, **settings}})
    record = record.model_copy(update={"identity": {"weights": identity(spec.model)}})
    return Restored(record, trained, built.eval(), adapter)


@torch.no_grad()
def outputs(model: nn.Module) -> Tensor:
    """Logits of one batch. PEFT's AdaLoRA cannot be given labels once it is loaded."""
    batch = tiny_batch(model)
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits


def loaded(folder: Path, model: str, form: str) -> PreTrainedModel:
    """As the model card says."""
    auto = AutoModelForCausalLM if model == "tiny-llama" else AutoModelForSequenceClassification
    if form == "merged":
        return auto.from_pretrained(folder)
    return PeftModel.from_pretrained(auto.from_pretrained(folder / "base"), folder)


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param(name, model, marks=[] if (name, model) in FAST else [pytest.mark.slow])
        for name in adapters.names()
        for model in MODELS
    ],
)
def test_every_adapter_answers_as_it_was_trained_loaded_by_others(name, model, tmp_path):
    run = trained_run(name, model)
    expected = outputs(run.model)
    assert not torch.equal(outputs(base_of(run.trained)), expected), "it has learnt something"
    forms: list[Form] = ["merged"] if name in {*ONE_FORM, *STARTS} else ["peft", "merged"]
    for form in forms:
        write(run, CELL, tmp_path / form, form)
        found = outputs(loaded(tmp_path / form, model, form).eval())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert all(path.stat().st_mode & 0o044 for path in (tmp_path / form).rglob("*"))


def untrained_run(folder: Path, targets: list[str], head: Head) -> Restored:
    """LoRA with factors of some size on a user's own model."""
    spec = RunSpec(
        suite="made", experiment="made", label="run", seed=0, task={"name": "made"}, targets=targets,
        model=Model(name=str(folder)), adapter={"name": "lora", "rank": 2},
        training={"steps": STEPS, "batch_size": 8, "learning_rate": 1e-2},
    )  # fmt: skip
    trained = Trained(spec, head, "made up", "none", {})
    built, adapter = base_of(trained), adapter_of(spec)
    adapter.attach(built, spec.targets, generator=seeded())
    for layer in adapter.layers.values():
        torch.nn.init.normal_(layer.get_parameter("A"))
    record = run_record("made", "run", 0, rank=2, config={"adapter": {"name": "lora", "rank": 2}})
    record = record.model_copy(update={"identity": {"weights": identity(spec.model)}})
    return Restored(record, trained, built.eval(), adapter)


@pytest.mark.numerical
@pytest.mark.parametrize(("kind", "target"), [("bart", "q_proj"), ("t5", "q")])
def test_a_model_that_reads_at_the_end_token_is_exported(kind, target, tmp_path):
    """It refuses random tokens, in which there is none, or another number in each text."""
    write_end_reader(kind, tmp_path / "model")
    for form in ("peft", "merged", "low-rank"):
        run = untrained_run(tmp_path / "model", [target], Head("sequence", 2, ("no", "yes")))
        export = write(run, CELL, tmp_path / form, form)
        assert export.difference <= 1e-5 * max(1.0, export.largest)
        assert export.largest > 1e-3


@pytest.mark.numerical
@pytest.mark.parametrize("outputs_there", [2, 3])
def test_the_cards_lines_load_what_was_compared(outputs_there, tmp_path):
    """Of a checkpoint in bfloat16, which transformers loads as it is unless it is told otherwise, with a head
    of the task's size or of another."""
    checkpoint = bert(outputs_there).to(torch.bfloat16)
    checkpoint.save_pretrained(tmp_path / "model")
    encoder_tokenizer().save_pretrained(tmp_path / "model")
    run = untrained_run(tmp_path / "model", ["query", "value"], Head("sequence", 3))
    expected = outputs(run.model)
    write(run, CELL, tmp_path / "out", "peft")
    lines = (tmp_path / "out/README.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(lines.replace("FOLDER", str(tmp_path / "out")), scope)
    torch.testing.assert_close(outputs(scope["model"].eval()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["scalora", "full"])
def test_what_no_lora_holds_is_refused_as_one(name, tmp_path):
    with pytest.raises(AdapterError, match=f"holds what {name} has trained; export it --as merged, or --as"):
        write(trained_run(name), CELL, tmp_path / "out", "peft")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.numerical
@pytest.mark.parametrize("name", STARTS)
def test_a_start_that_changes_the_pretrained_weights_is_held_by_twice_the_rank(name, tmp_path):
    with pytest.raises(AdapterError, match=f"{name} has begun by changing the pretrained weights.*twice its"):
        write(trained_run(name), CELL, tmp_path / "out", "peft")
    run = trained_run(name)
    expected = outputs(run.model)
    export = write(run, CELL, tmp_path / "out", "low-rank", 2 * int(run.record.rank or 0))
    found = outputs(loaded(tmp_path / "out", "tiny-bert", "low-rank").eval())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert export.error is not None
    assert export.error < 1e-4


def increments(folder: Path) -> dict[str, Tensor]:
    """Layer -> what llama.cpp adds to its weight: it knows lora_alpha and the two tensors."""
    alpha = config(folder)["lora_alpha"]
    tensors = load_file(folder / "adapter_model.safetensors")
    layers = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")]
    found = {}
    for layer in layers:
        left, right = tensors[f"{layer}.lora_B.weight"], tensors[f"{layer}.lora_A.weight"]
        found[layer.removeprefix("base_model.model.")] = alpha / left.shape[1] * left @ right
    return found


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())


def moved(run: Restored) -> dict[str, Tensor]:
    """Parameter -> trained minus pretrained, heads left out; the adapter is merged by it."""
    start = dict(base_of(run.trained).named_parameters())
    run.adapter.merge(run.model)
    found = {name: (p - start[name]).detach() for name, p in run.model.named_parameters()}
    return {name: delta for name, delta in found.items() if delta.any() and "classifier" not in name}


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["lora", "rslora", "lora2"])
def test_a_reader_of_two_tensors_and_one_alpha_adds_what_was_trained(name, tmp_path):
    values = {"rank": 3} if name == "lora2" else {"rank": 3, "alpha": 5.0}
    write(trained_run(name, **values), CELL, tmp_path / "out", "peft")
    expected, found = moved(trained_run(name, **values)), increments(tmp_path / "out")
    assert {f"{layer}.weight" for layer in found} == set(expected)
    for layer, increment in found.items():
        torch.testing.assert_close(increment, expected[f"{layer}.weight"], rtol=1e-4, atol=1e-6)
    said = config(tmp_path / "out")
    assert said["alpha_pattern"] == {}
    assert not said["use_rslora"]
    if name == "rslora":
        assert said["lora_alpha"] / said["r"] == pytest.approx(5.0 / math.sqrt(3))


@pytest.mark.numerical
def test_a_pruned_layer_has_the_rank_that_is_left_and_an_empty_one_none(tmp_path):
    run = trained_run("lora2", rank=4, width=4, target_rank=2)
    layers: list[Any] = list(run.adapter.layers.values())
    left = {0: 0, 1: 1}
    for place, layer in enumerate(layers):
        layer.e.data.fill_(0.5)
        layer.e.data[left.get(place, 3) :] = 0.0
    names = list(run.adapter.layers)
    expected = outputs(run.model)
    write(run, CELL, tmp_path / "out", "peft")
    said = config(tmp_path / "out")
    assert (said["r"], said["rank_pattern"]) == (3, {names[1]: 1})
    assert names[0] not in said["target_modules"]
    assert names[1] in said["target_modules"]
    found = outputs(loaded(tmp_path / "out", "tiny-bert", "peft").eval())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["scalora", "full"])
@pytest.mark.parametrize("rank", [1, 32])
def test_the_nearest_of_a_rank_is_as_far_off_as_it_says(name, rank, tmp_path):
    """By what is in the file against what was trained; at a full rank it lacks what no layer's weight is."""
    export = write(trained_run(name), CELL, tmp_path / "out", "low-rank", rank)
    run = trained_run(name)
    expected = outputs(run.model)
    changes, found = moved(run), increments(tmp_path / "out")
    total = math.sqrt(sum(float(delta.double().square().sum()) for delta in changes.values()))
    lacking = dict(changes)
    for layer, increment in found.items():
        assert config(tmp_path / "out")["r"] == rank
        lacking[f"{layer}.weight"] = changes[f"{layer}.weight"] - increment
    norm = math.sqrt(sum(float(delta.double().square().sum()) for delta in lacking.values()))
    assert export.error == pytest.approx(norm / total, abs=1e-5)
    assert set(export.left_out) == changes.keys() - {f"{layer}.weight" for layer in found}
    assert bool(export.left_out) == (name == "full")
    if rank == 32 and name != "full":
        assert export.error < 1e-5
        got = outputs(loaded(tmp_path / "out", "tiny-bert", "low-rank").eval())
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    else:
        assert 1e-3 < export.error < 1
        assert export.difference > 1e-5


@pytest.mark.numerical
def test_no_matrix_of_that_rank_is_nearer(tmp_path):
    """Eckart and Young: the error is the norm of the singular values that are left out."""
    export = write(trained_run("scalora"), CELL, tmp_path / "out", "low-rank", 3)
    values = [torch.linalg.svdvals(delta.double()) for delta in moved(trained_run("scalora")).values()]
    lacking = sum(float(each[3:].square().sum()) for each in values)
    assert export.error == pytest.approx(math.sqrt(lacking / sum(float(v.square().sum()) for v in values)))


def test_targets_have_short_names_where_these_are_nobody_elses(tmp_path):
    write(trained_run("lora", "tiny-llama"), CELL, tmp_path / "llama", "peft")
    assert config(tmp_path / "llama")["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    write(trained_run("lora"), CELL, tmp_path / "bert", "peft")
    said = config(tmp_path / "bert")
    assert "bert.encoder.layer.0.attention.output.dense" in said["target_modules"]
    assert (said["task_type"], said["modules_to_save"]) == ("SEQ_CLS", ["classifier"])
    assert said["base_model_name_or_path"] == str(tmp_path / "bert" / "base")


def test_a_head_of_several_layers_is_one_module_to_save():
    model = nn.ModuleDict({"pooler": nn.ModuleDict({"dense": nn.Linear(2, 2)}), "backbone": nn.Linear(2, 2)})
    model["classifier"] = nn.ModuleDict({"dense": nn.Linear(2, 2), "out_proj": nn.Linear(2, 2)})
    assert whole_modules(model, ["classifier.dense", "classifier.out_proj"]) == ["classifier"]
    assert whole_modules(model, ["classifier.out_proj"]) == ["classifier.out_proj"]
    assert whole_modules(model, []) == []


LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}


@pytest.mark.parametrize(
    ("changes", "vllm", "llama_cpp"),
    [
        ({}, "vLLM: takes it", "llama.cpp: takes it"),
        ({"r": 17}, "vLLM: takes it; start it with --max-lora-rank 32", "llama.cpp: takes it"),
        ({"rank_pattern": {"q": 99}}, "--max-lora-rank 128", "llama.cpp: takes it"),
        ({"rank_pattern": {"q": 2}}, "releases that do not read rank_pattern", "llama.cpp: takes it"),
        ({"r": 513}, "vLLM: would refuse it (rank 513 is above 512)", "llama.cpp: takes it"),
        ({"use_dora": True}, "vLLM: would refuse it (use_dora)", "llama.cpp: would refuse it (use_dora)"),
        ({"bias": "all"}, "would refuse it (trained biases)", "would refuse it (trained biases)"),
        ({"lora_bias": True}, "would refuse it (lora_bias)", "would refuse it (lora_bias)"),
        ({"modules_to_save": ["classifier"]}, "vLLM: takes it; releases without", "would refuse it (modules"),
        ({"modules_to_save": ["pooler"]}, "would refuse it (modules_to_save: pooler)", "would refuse it"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa, which changes", "pissa, which changes"),
        ({"init_lora_weights": "gaussian"}, "vLLM: takes it", "llama.cpp: takes it"),
        ({"use_rslora": True}, "vLLM: takes it", "passes over use_rslora, and would scale wrongly"),
        ({"peft_type": "VERA"}, "it reads LoRA alone, not VERA", "it reads LoRA alone, not VERA"),
    ],
)
def test_what_other_programs_make_of_it(changes, vllm, llama_cpp):
    by_vllm, by_llama_cpp = remarks(LORA | changes)
    assert vllm in by_vllm
    assert llama_cpp in by_llama_cpp
    assert ("--as merged" in by_vllm) == ("refuse" in by_vllm.split(";")[0])


@pytest.mark.slow
@pytest.mark.numerical
@pytest.mark.parametrize("method", ["BOFT", "IA3", "LOHA", "VBLORA"])
def test_methods_of_pefts_without_a_name_here_come_back(method, tmp_path):
    run = trained_run("peft", config=METHODS[method])
    expected = outputs(run.model)
    write(run, CELL, tmp_path / "out", "peft")
    found = outputs(loaded(tmp_path / "out", "tiny-bert", "peft").eval())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
