"""How a trained model lies in a folder that others load: PEFT's layout, or one whole model of transformers';
and how it is loaded from there by them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rankbench.adapters.forms import PREFIX, PeftForm
from rankbench.bench import models
from rankbench.bench.export.manifest import Form
from rankbench.bench.export.restore import Restored, base_of
from rankbench.bench.models.build import auto_class
from rankbench.bench.models.known import RANDOM, REGISTERED
from rankbench.bench.models.loading import quiet
from rankbench.bench.run.saving import Trained
from rankbench.bench.suite import Model

BASE = "base"
"""The folder of the pretrained model within an export, where that has no address by which others find it."""

TASK_TYPES = {"sequence": "SEQ_CLS", "causal": "CAUSAL_LM"}
"""PEFT's names of what a task needs."""

PROBLEM_TYPES = {
    "squared error": "regression",
    "cross-entropy": "single_label_classification",
    "binary cross-entropy": "multi_label_classification",
}
"""transformers' names of what outputs are, by the loss that a record's protocol tells."""


def answering(run: Restored) -> dict[str, Any]:
    """Of a sequence head, the settings of a configuration by which transformers reads the outputs: how many,
    the classes by name, and the problem's type, of which each where it is known."""
    head = run.trained.head
    if head.kind != "sequence":
        return {}
    settings: dict[str, Any] = {"num_labels": head.outputs}
    if head.labels:
        settings["id2label"] = dict(enumerate(head.labels))
        settings["label2id"] = {label: i for i, label in enumerate(head.labels)}
    loss, _, _ = str(run.record.protocol.get("loss")).partition(" per item")
    if loss in PROBLEM_TYPES:
        settings["problem_type"] = PROBLEM_TYPES[loss]
    return settings


def save_whole(model: PreTrainedModel, run: Restored, place: Path) -> None:
    """A model that says what its outputs are, and its tokenizer."""
    model.config.update(answering(run))
    with quiet():
        model.save_pretrained(place)
    if tokenizer := models.load_tokenizer(run.trained.spec.model):
        tokenizer.save_pretrained(place)


def save_peft(form: PeftForm, run: Restored, place: Path, address: str) -> None:
    """PEFT's two files, with the heads among what they hold, and the tokenizer. `address` is where the
    pretrained model will be found; `BASE` is written where that is within the export."""
    config, model, trained = form.config, run.model, run.trained
    spec = trained.spec
    modules = whole_modules(model, run.adapter.heads)
    config.inference_mode, config.task_type = True, TASK_TYPES[trained.head.kind]
    config.modules_to_save = modules or None
    config.base_model_name_or_path, config.revision = address, spec.model.revision
    tensors: dict[str, Tensor] = dict(form.tensors)
    for name in modules:
        state = model.get_submodule(name).state_dict()
        tensors |= {f"{PREFIX}{name}.{key}": tensor for key, tensor in state.items()}
    config.save_pretrained(place)
    # A copy of each: PEFT's methods share some, and factors lie by columns.
    packed = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(packed, place / "adapter_model.safetensors", metadata={"format": "pt"})
    if tokenizer := models.load_tokenizer(spec.model):
        tokenizer.save_pretrained(place)
    if without_address(spec.model):
        save_whole(base_of(trained), run, place / BASE)


def without_address(model: Model) -> bool:
    """Whether a model is in no folder of the user's and on no hub: it comes with rankbench or is random."""
    return model.name in REGISTERED or model.name.startswith(RANDOM)


def whole_modules(model: nn.Module, heads: Sequence[str]) -> list[str]:
    """The outermost modules that consist of heads alone: what PEFT is to save whole."""
    inside = {id(p) for name in heads for p in model.get_submodule(name).parameters()}

    def is_whole(name: str) -> bool:
        return inside.issuperset(id(p) for p in model.get_submodule(name).parameters())

    found: dict[str, None] = {}
    for name in heads:
        while "." in name and is_whole(name.rpartition(".")[0]):
            name = name.rpartition(".")[0]
        found[name] = None
    return list(found)


def load(place: Path, trained: Trained, form: Form) -> PreTrainedModel:
    """By transformers, or by PEFT on the pretrained model, which may be anywhere. Raises what they do."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is loaded is compared with what was saved
        auto = auto_class(trained.head)
        if form == "merged":
            return auto.from_pretrained(place, dtype=torch.float32)
        inside = place / BASE
        base = auto.from_pretrained(inside, dtype=torch.float32) if inside.exists() else base_of(trained)
        adapted: Any = PeftModel.from_pretrained(base, place, torch_device="cpu").get_base_model()
        return adapted
