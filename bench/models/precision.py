"""What a model holds its frozen weights in: float32, bfloat16, or four bits (NF4, Dettmers et al. 2023, arXiv
2305.14314, by bitsandbytes). What is trained beside an adapter stays in float32."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from rankbench.adapters.quantised import in_four_bits, unpack
from rankbench.bench.suite import ConfigError, Model

LIBRARY = "bitsandbytes"


def dtype_of(model: Model) -> torch.dtype:
    """Of the frozen weights that are not in four bits, and of products with those that are."""
    return torch.float32 if model.weights == "float32" else torch.bfloat16


def libraries(model: Model) -> dict[str, str]:
    """Package -> version, of what its weights need beside the packages of every run. Raises ConfigError
    where that is not installed."""
    if model.weights != "nf4":
        return {}
    try:
        return {LIBRARY: importlib.metadata.version(LIBRARY)}
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"model {model.name}: `weights: nf4` needs {LIBRARY}: pip install 'rankbench[nf4]', or say "
            "bfloat16"
        ) from None


def quantisation(model: Model, whole: Collection[str]) -> BitsAndBytesConfig | None:
    """What the loaders are told; `whole`: modules that are left as they are."""
    if model.weights != "nf4":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(whole),
    )


def unmark(loaded: PreTrainedModel) -> None:
    """Take a loader's marks of a quantised model off: it is moved, attached to and read as others are, by its
    layers alone. What only PEFT asks for stays."""
    for layer in loaded.modules():
        if in_four_bits(layer):
            # On some processors it would pack its weight anew when it first scores, and train no more.
            layer.support_avx512bf16_for_cpu = False
    for mark in ("hf_quantizer", "quantization_method", "is_quantized", "hf_device_map"):
        vars(loaded).pop(mark, None)
    vars(loaded.config).pop("quantization_config", None)


def keep_apart(loaded: PreTrainedModel, heads: Collection[str]) -> None:
    """Have heads in float32 behind a model that is not: what comes in is cast, their weights never."""
    for name in heads:
        head = loaded.get_submodule(name).float()
        head.forward = MethodType(_in_its_own_precision, head)


def narrow(drawn: PreTrainedModel, dtype: torch.dtype, whole: Collection[str]) -> None:
    """Round all weights but those of some modules, in place; buffers stay, as they do in loading."""
    kept = {id(p) for name in whole for p in drawn.get_submodule(name).parameters()}
    for parameter in drawn.parameters():
        if id(parameter) not in kept:
            parameter.data = parameter.data.to(dtype)
    drawn.config.dtype = dtype


def widen(loaded: PreTrainedModel) -> PreTrainedModel:
    """In place: the same numbers, all of them in float32."""
    if loaded.dtype == torch.float32:
        return loaded
    unpack(loaded)
    vars(loaded).pop("is_loaded_in_4bit", None)
    loaded.config.dtype = torch.float32
    return loaded.float()


def _in_its_own_precision(head: nn.Module, *inputs: Any, **named: Any) -> Any:
    """Its class's forward pass, without autocast."""
    dtype = next(head.parameters()).dtype

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    device = next(head.parameters()).device.type
    with torch.autocast(device, enabled=False):
        return type(head).forward(
            head, *map(cast, inputs), **{key: cast(value) for key, value in named.items()}
        )
