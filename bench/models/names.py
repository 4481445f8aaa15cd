"""Which model a name stands for: its architecture, what its weights are, and how to have them here."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from rankbench.adapters.errors import nearest
from rankbench.bench.models.known import ARCHITECTURES, RANDOM, REGISTERED
from rankbench.bench.models.loading import plain_errors, refuse_quantised
from rankbench.bench.models.precision import libraries
from rankbench.bench.models.weights import fetch_hub, folder_hash, packaged
from rankbench.bench.suite import ConfigError, Model


def model_config(model: Model) -> Any:
    """The architecture, from our own tables, a folder, or the hub's files where they are cached.

    Raises ConfigError for an unknown name, and for quantised weights.
    """
    _refuse_unknown(model)
    if (known := _architecture(model)) is not None:
        values = copy.deepcopy(known)
        return AutoConfig.for_model(values.pop("model_type"), **values)
    return own_config(model, model.name)


def _architecture(model: Model) -> dict[str, Any] | None:
    """As data, of a model that is known here."""
    name = model.name.removeprefix(RANDOM)
    return REGISTERED[name].config if name in REGISTERED else ARCHITECTURES.get(name)


def own_config(model: Model, place: str) -> Any:
    """The configuration that lies beside the weights. Raises ConfigError where it cannot be used."""
    with plain_errors(model):
        config = AutoConfig.from_pretrained(place, revision=model.revision, trust_remote_code=False)
    refuse_quantised(model, config)
    return config


def identity(model: Model) -> str:
    """What the weights are, without a download: a package's hash, `owner/name@revision`, or the
    hash of a folder's files.

    Raises ConfigError for an unknown name, for a folder without weights, for a hub model without a revision,
    and for another model with one.
    """
    _refuse_unknown(model)
    if is_random(model):
        return f"random:{json.dumps(_architecture(model), sort_keys=True)}"
    if model.name in REGISTERED:
        pin = REGISTERED[model.name].pin
        assert pin is not None
        return f"sha256:{pin.sha256}"
    if Path(model.name).is_dir():
        return f"sha256:{folder_hash(Path(model.name))}"
    if model.revision is None:
        raise ConfigError(
            f"model {model.name}: give its hub commit as `revision`, so that the run can be repeated"
        )
    return f"{model.name}@{model.revision}"


def _refuse_unknown(model: Model) -> None:
    is_ours = model.name in REGISTERED or model.name.startswith(RANDOM)
    if model.revision is not None and (is_ours or Path(model.name).is_dir()):
        raise ConfigError(f"model {model.name} is not from the hub: leave its `revision` out")
    if model.name.startswith(RANDOM):
        if _architecture(model) is None:
            known = [RANDOM + name for name in (*REGISTERED, *ARCHITECTURES)]
            raise ConfigError(f"unknown model {model.name!r}{nearest(model.name, known)}")
        return
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", model.name) and not Path(model.name).is_dir():
        raise ConfigError(f"model {model.name}: there is no such folder, and it is no hub id (owner/name)")
    if model.name not in REGISTERED and "/" not in model.name and not Path(model.name).is_dir():
        raise ConfigError(
            f"unknown model {model.name!r}{nearest(model.name, list(REGISTERED))} "
            "(others: a hub id, owner/name, or a folder)"
        )


def folder_identity(model: Model) -> str | None:
    """`identity` of a model that is a folder, whose weights may be others under the same name; None of any
    other model. Raises as `identity` does."""
    is_folder = model.name not in REGISTERED and Path(model.name).is_dir()
    return identity(model) if is_folder else None


def fetch(model: Model) -> None:
    """Make the weights available offline. Raises ConfigError for a model that has no identity, and where
    what holds its weights is not installed."""
    identity(model)
    libraries(model)
    if is_random(model):
        return
    if model.name in REGISTERED:
        packaged(model.name)
    elif not Path(model.name).is_dir():
        fetch_hub(model)


def is_random(model: Model) -> bool:
    """Whether its weights are random, as a tiny model's are: it has no tokenizer, and its tasks bring ids."""
    is_tiny = model.name in REGISTERED and REGISTERED[model.name].pin is None
    return is_tiny or model.name.startswith(RANDOM)
