"""From settings as data to PEFT's configuration object, or one line that says why not.

A setting by layer that fits none would change nothing, and no one would know: refused too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import get_pattern_key

from rankbench.adapters.errors import AdapterError, check_count, check_positive, nearest
from rankbench.adapters.layers import Linear, check_rank
from rankbench.adapters.peft.support import NEEDS, REASONS, REFUSED, RUNS, STARTS_REFUSED

_BY_LAYER = {
    "rank_pattern": check_count,
    "alpha_pattern": check_positive,
    "lambda_pattern": check_positive,
    "n_frequency_pattern": check_count,
}
"""Settings by layer -> what holds of each value."""

_MULTIPLIERS = (
    "alpha",
    "lora_alpha",
    "randlora_alpha",
    "scaling",
    "delora_lambda",
    "d_initial",
    "init_vector_bank_bound",
)
"""Each multiplies all that is trained, or all that it begins at: with 0 nothing would ever be learnt."""


def configuration(settings: Mapping[str, Any]) -> tuple[Any, type[BaseTuner]]:
    """PEFT's configuration object and tuner class for settings as data, `peft_type` among them. Raises
    AdapterError in one line for a method, a setting or a value that does not run here."""
    known = {kind.value: kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    method = str(settings.get("peft_type")).upper()
    values = {key: value for key, value in settings.items() if key != "peft_type"}
    if method not in known:
        asked = settings.get("peft_type")
        raise AdapterError(f"PEFT has no peft_type {asked!r}{nearest(method, list(known))}")
    if method in REFUSED:
        raise AdapterError(f"PEFT's {method} does not run here: {REFUSED[method]}")
    if method not in RUNS:
        raise AdapterError(
            f"PEFT's {method} has not been tried here yet; the methods that run are {', '.join(sorted(RUNS))}"
        )
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[known[method]]
    defaults = {field.name: field for field in fields(config_class) if field.init}
    kinds = get_type_hints(config_class)
    for key, value in values.items():
        if key not in defaults:
            raise AdapterError(f"PEFT's {method} has no setting {key!r}{nearest(str(key), list(defaults))}")
        if isinstance(value, float) and not math.isfinite(value):
            raise AdapterError(f"{key} must be a finite number, not {value}")
        default, make = defaults[key].default, defaults[key].default_factory
        if key not in RUNS[method] and value != (default if make is MISSING else make()):
            reason = REASONS.get(key, "it is not carried out")
            raise AdapterError(f"{key} cannot be set for PEFT's {method} here: {reason}; leave it out")
        _check_value(defaults[key], kinds[key], value)
        _check_needs(method, key, values)
    if method == "LORA":
        _check_start(values.get("init_lora_weights"))
    start = values.get("init_weights", True)
    if method == "TINYLORA" and start is not True and start != "uniform":
        raise AdapterError(
            f"init_weights: {start} leaves TINYLORA's vectors at whatever is in memory; leave it out"
        )
    try:
        config: Any = config_class(**values)
        if method == "ADALORA" and config.target_r >= config.init_r:
            raise ValueError(f"target_r {config.target_r} is not below init_r {config.init_r}")
        if method == "ADALORA" and config.deltaT < 1:
            raise ValueError(f"deltaT {config.deltaT} is no number of steps")
        if method == "ADALORA" and min(config.tinit, config.tfinal) < 0:
            raise ValueError(f"tinit {config.tinit} and tfinal {config.tfinal} are no numbers of steps")
    except Exception as error:  # PEFT's own checks raise whatever they like
        raise refusal(method, error) from error
    return config, PEFT_TYPE_TO_TUNER_MAPPING[known[method]]


def refusal(method: str, error: Exception) -> AdapterError:
    """An error of PEFT's as one line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return AdapterError(f"PEFT refuses this {method} configuration: {reason}")


def _check_value(field: Field[Any], kind: Any, value: Any) -> None:
    """What PEFT would take for another value than was meant, or for none, without a word."""
    key, default = field.name, field.default
    if isinstance(default, bool):
        words = [word for part in get_args(kind) if get_origin(part) is Literal for word in get_args(part)]
        if kind is bool and not isinstance(value, bool):  # "no" would be a yes
            raise AdapterError(f"{key} must be true or false, not {value!r}")
        if words and key != "init_lora_weights" and isinstance(value, str) and value not in words:
            raise AdapterError(f"{key} {value!r} is none of PEFT's{nearest(value, words)}")
    elif isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise AdapterError(f"{key} must be a number, not {value!r}")
        if kind is int and key not in _MULTIPLIERS and value != int(value):
            raise AdapterError(f"{key} must be a whole number, not {value!r}")
        if key.endswith("dropout") and not 0 <= value < 1:
            raise AdapterError(f"{key} must be at least 0 and below 1, not {value}")
        if key in ("r", "target_r") and default and value < 1:
            raise AdapterError(f"{key} must be at least 1, not {value}")
        if key == "num_cayley_neumann_terms" and value < 2:
            raise AdapterError(f"{key} must be at least 2, not {value}: the first one turns nothing")
    if key in _MULTIPLIERS and value is not None:
        check_positive(**{key: value})


def _check_needs(method: str, key: str, values: Mapping[str, Any]) -> None:
    needed, value = NEEDS.get((method, key), ("", None))
    if needed and not (values.get(needed) == value if value is not None else values.get(needed)):
        shown = needed if value is None else f"{needed}: {value}"
        raise AdapterError(f"{method}'s {key} has no effect without {shown}; set that too, or leave it out")


def _check_start(value: Any) -> None:
    for start, reason in STARTS_REFUSED.items():
        if str(value).lower().startswith(start):
            raise AdapterError(f"init_lora_weights {value!r} does not run here: it {reason}")
    if str(value).startswith("pissa") and not re.fullmatch(r"pissa(_niter_\d+)?", value):
        raise AdapterError(f"init_lora_weights must be pissa or pissa_niter_N, not {value!r}")


def check_patterns(config: Any, layers: Mapping[str, Linear]) -> None:
    """Raise AdapterError for an entry that decides no layer, or a rank that is above a layer's; re.error for
    one that is no regular expression."""
    selected = list(layers)
    for key, check in _BY_LAYER.items():
        given = getattr(config, key, None) or {}
        if not isinstance(given, dict):
            raise AdapterError(f"{key} must be `layer: value`, not {given!r}")
        used = {get_pattern_key(list(given), name) for name in selected}
        for entry, value in given.items():
            if entry not in used:
                raise AdapterError(f"{key} names {entry!r}, which decides no layer{nearest(entry, selected)}")
            check(**{f"{key} of {entry}": value})
            if key == "rank_pattern" and config.peft_type == PeftType.LORA:
                for name in selected:
                    if get_pattern_key(list(given), name) == entry:
                        check_rank(value, layers[name])
    entries = getattr(config, "feedforward_modules", None) or []
    if isinstance(entries, str) and not any(re.fullmatch(entries, name) for name in selected):
        raise AdapterError(f"feedforward_modules {entries!r} fits no adapted layer")
    for entry in entries if not isinstance(entries, str) else []:
        if not any(name.endswith(entry) for name in selected):
            raise AdapterError(f"feedforward_modules names {entry!r}, which fits no adapted layer")
