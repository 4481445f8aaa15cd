"""A model with its task's head: pretrained and ready for the shared loop, or its shapes alone."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from rankbench.adapters.targets import task_head
from rankbench.bench.models.fresh import fresh_modules, redraw, refuse_other_classes
from rankbench.bench.models.known import RANDOM
from rankbench.bench.models.loading import plain_errors, quiet
from rankbench.bench.models.names import is_random, model_config, own_config
from rankbench.bench.models.precision import dtype_of, keep_apart, narrow, quantisation, unmark
from rankbench.bench.models.tokenizer import agree_with_tokenizer
from rankbench.bench.models.weights import local_folder, location
from rankbench.bench.seeds import stream
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head
from rankbench.tasks.causal.fit import unfit


class Loaded(NamedTuple):
    """A model, and which of its modules follow a run's seed."""

    model: PreTrainedModel
    fresh: list[str]


def load_headed(model: Model, head: Head, seed: int, device: torch.device | str = "cpu") -> PreTrainedModel:
    """A pretrained model with a head: frozen weights as `model.weights` says, heads in float32. Files are
    read straight to the device, tensor by tensor.

    What is fresh is drawn from the run's own stream; random weights, head included, stand for
    pretrained ones and are the same for every seed. Raises ConfigError for a model that cannot be
    loaded, that does not fit its tokenizer or its configuration, or that no answers can be taught.
    """
    return load(model, head, seed, device).model


def load(model: Model, head: Head, seed: int, device: torch.device | str = "cpu") -> Loaded:
    """As `load_headed`, which modules are fresh with it."""
    with torch.random.fork_rng(), quiet():
        loaded = _drawn(model, head) if is_random(model) else _read(model, head, seed, device)
    agree_with_tokenizer(loaded.model, model)
    loaded.model.to(device)  # type: ignore[arg-type]
    _refuse_unfit(loaded.model, model, head)
    return loaded


def draw(loaded: Loaded, seed: int) -> None:
    """What is fresh, from the run's stream."""
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, "head"))
        redraw(*loaded)


def _read(model: Model, head: Head, seed: int, device: torch.device | str) -> Loaded:
    """From the model's files. A head that is kept is rounded as the rest is, once."""
    config = own_config(model, location(model))
    if model.head == "keep":
        refuse_other_classes(model, config, head)
    config = _with_labels(config, head)
    whole = _left_whole(model, head, config) if model.weights == "nf4" else []
    with plain_errors(model):
        built: PreTrainedModel = auto_class(head).from_pretrained(
            str(local_folder(model) or location(model)),  # of a hub's name it would ask the hub again
            revision=model.revision,
            config=config,
            device_map={"": torch.device(device)},
            dtype=dtype_of(model),
            quantization_config=quantisation(model, whole),
            ignore_mismatched_sizes=True,  # told by `fresh_modules`
            trust_remote_code=False,
        )
    unmark(built)
    new = heads(built, model)
    if model.weights != "float32":
        keep_apart(built, new)
    kept = task_head(built) if model.head == "keep" else []
    loaded = Loaded(built, [name for name in new if name not in kept])
    draw(loaded, seed)
    return loaded


def _drawn(model: Model, head: Head) -> Loaded:
    """Random weights: float32 ones, rounded; billions are drawn as they are held, where they are used."""
    torch.manual_seed(0)
    config, place = _with_labels(model_config(model), head), _where_drawn(model)
    dtype = None if place.type == "cpu" else dtype_of(model)
    with place:
        drawn: PreTrainedModel = auto_class(head).from_config(config, dtype=dtype)
    if model.weights == "float32":
        return Loaded(drawn, [])
    new = heads(drawn)
    narrow(drawn, dtype_of(model), new)
    loaded = drawn
    if model.weights == "nf4":
        loaded = type(drawn).from_pretrained(
            None,
            config=drawn.config,
            state_dict=drawn.state_dict(),
            dtype=dtype_of(model),
            quantization_config=quantisation(model, _left_whole(model, head, config)),
        )
        unmark(loaded)
    keep_apart(loaded, new)
    for name in new:
        loaded.get_submodule(name).load_state_dict(drawn.get_submodule(name).state_dict())
    return Loaded(loaded, [])


def _left_whole(model: Model, head: Head, config: Any) -> list[str]:
    """The modules that are not held in four bits: heads, and a language model's output layer."""
    with torch.device("meta"), plain_errors(model):
        shapes = auto_class(head).from_config(copy.deepcopy(config), trust_remote_code=False)
    last = shapes.get_output_embeddings()
    return [*heads(shapes, model), *(name for name, module in shapes.named_modules() if module is last)]


def _where_drawn(model: Model) -> torch.device:
    """A tiny model's weights do not depend on the device; billions would take minutes on the CPU."""
    large = model.name.startswith(RANDOM) and torch.cuda.is_available()
    return torch.device("cuda" if large else "cpu")


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
        built: PreTrainedModel = auto_class(head).from_config(config, trust_remote_code=False)
    _refuse_looking_ahead(built, model, head)
    if local_folder(model) is not None:
        agree_with_tokenizer(built, model)
    return built


def _refuse_unfit(built: PreTrainedModel, model: Model, head: Head) -> None:
    """Raise ConfigError for one that answers cannot be taught here."""
    if head.kind != "causal" or (model.weights == "nf4" and built.device.type == "cpu"):
        return  # bitsandbytes lays weights in main memory out anew where it multiplies them
    with quiet():
        why = unfit(built)
    if why:
        raise _no_decoder(built, model, why)


def _refuse_looking_ahead(built: PreTrainedModel, model: Model, head: Head) -> None:
    """Raise ConfigError for an encoder where answers are predicted, before there are weights to try it on."""
    if (
        head.kind == "causal"
        and built.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        and not getattr(built.config, "is_decoder", False)
    ):
        raise _no_decoder(built, model, "each token sees those after it, the answer's too")


def _no_decoder(built: PreTrainedModel, model: Model, why: str) -> ConfigError:
    kind = built.config.model_type
    return ConfigError(f"model {model.name} ({kind}): {why}; name another decoder for this task")


def _with_labels(config: Any, head: Head) -> Any:
    if head.kind == "sequence":
        config.num_labels = head.outputs
    return config


def auto_class(head: Head) -> Any:
    """The class of transformers that loads a model with such a head."""
    if head.kind == "sequence":
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForCausalLM
