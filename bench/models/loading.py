"""What the loaders of `transformers` are told and what they say, in one line."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from safetensors import SafetensorError

from rankbench.bench.suite import ConfigError, Model


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, and no report of the head that is meant to be new."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


@contextmanager
def plain_errors(model: Model) -> Iterator[None]:
    """Whatever a model's files make the loaders raise, as a ConfigError of one line: a damaged file can
    break them anywhere."""
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"model {model.name} cannot be loaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    if isinstance(error, (SafetensorError, pickle.UnpicklingError)):
        return f"a weight file is damaged or a Git-LFS pointer ({text or kind}); fetch it again"
    if isinstance(error, json.JSONDecodeError):
        return f"one of its JSON files is damaged or a Git-LFS pointer ({text}); fetch it again"
    if "trust_remote_code" in str(error):
        return "it needs Python code from its own repository, which is not run here"
    if text.startswith("Unrecognized configuration class"):
        return "transformers has no model of its architecture with the head that the task needs"
    if text and isinstance(error, (OSError, ValueError, ImportError)):
        return text
    return f"{kind}: {text}" if text else kind


def refuse_quantised(model: Model, config: Any) -> None:
    """Raise ConfigError for a checkpoint whose weights are quantised: increments are trained beside, and
    folded into, floating-point weights."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for key in ("quantization_config", "compression_config"):
            if (found := getattr(part, key, None)) is not None:
                values = found if isinstance(found, dict) else found.to_dict()
                method = values.get("quant_method") or "unknown method"
                raise ConfigError(
                    f"model {model.name} is quantised ({method}), which is not supported: name the "
                    "checkpoint with unquantised weights that it was made from"
                )
