"""From settings as data to PEFT's configuration object, or one line that says why not.

A setting by layer that fits none would change nothing, and no one would know: refused too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import get_pattern_key

from rankbench.adapters.errors import AdapterError, check_count, nearest
from rankbench.adapters.layers import Linear, check_rank
from rankbench.adapters.peft.support import NEEDS, REASONS, REFUSED, RUNS, STARTS_REFUSED

_BY_LAYER = ("rank_pattern", "alpha_pattern", "lambda_pattern", "n_frequency_pattern")


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
    for key, value in values.items():
        if key not in defaults:
            raise AdapterError(f"PEFT's {method} has no setting {key!r}{nearest(str(key), list(defaults))}")
        if isinstance(value, float) and not math.isfinite(value):
            raise AdapterError(f"{key} must be a finite number, not {value}")
        default, make = defaults[key].default, defaults[key].default_factory
        if key not in RUNS[method] and value != (default if make is MISSING else make()):
            reason = REASONS.get(key, "it is not carried out")
            raise AdapterError(f"{key} cannot be set for PEFT's {method} here: {reason}; leave it out")
        _check_value(defaults[key], value)
        _check_needs(method, key, values)
    if method == "LORA":
        _check_start(values.get("init_lora_weights"))
    if method == "TINYLORA" and values.get("init_weights", True) is False:
        raise AdapterError(
            "init_weights: false leaves TINYLORA's vectors at whatever is in memory; leave it out"
        )
    try:
        config: Any = config_class(**values)
        if method == "ADALORA" and config.target_r >= config.init_r:
            raise ValueError(f"target_r {config.target_r} is not below init_r {config.init_r}")
        if method == "ADALORA" and config.deltaT < 1:
            raise ValueError(f"deltaT {config.deltaT} is no number of steps")
    except Exception as error:  # PEFT's own checks raise whatever they like
        raise refusal(method, error) from error
    return config, PEFT_TYPE_TO_TUNER_MAPPING[known[method]]


def refusal(method: str, error: Exception) -> AdapterError:
    """An error of PEFT's as one line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return AdapterError(f"PEFT refuses this {method} configuration: {reason}")


def _check_value(field: Field[Any], value: Any) -> None:
    """What PEFT would take for another value than was meant, or for none, without a word."""
    key, default = field.name, field.default
    if isinstance(default, bool):
        if field.type in (bool, "bool") and not isinstance(value, bool):  # "no" would be a yes
            raise AdapterError(f"{key} must be true or false, not {value!r}")
    elif isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise AdapterError(f"{key} must be a number, not {value!r}")
        if key.endswith("dropout") and not 0 <= value < 1:
            raise AdapterError(f"{key} must be at least 0 and below 1, not {value}")
        if key in ("alpha", "lora_alpha", "randlora_alpha") and value <= 0:
            raise AdapterError(f"{key} must be above 0, not {value}")


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
    for key in _BY_LAYER:
        given = getattr(config, key, None) or {}
        if not isinstance(given, dict):
            raise AdapterError(f"{key} must be `layer: value`, not {given!r}")
        used = {get_pattern_key(list(given), name) for name in selected}
        for entry in given:
            if entry not in used:
                raise AdapterError(f"{key} names {entry!r}, which decides no layer{nearest(entry, selected)}")
            if key == "rank_pattern" and config.peft_type == PeftType.LORA:
                check_count(**{f"{key} of {entry}": given[entry]})
                for name in selected:
                    if get_pattern_key(list(given), name) == entry:
                        check_rank(given[entry], layers[name])
    entries = getattr(config, "feedforward_modules", None) or []
    if isinstance(entries, str) and not any(re.fullmatch(entries, name) for name in selected):
        raise AdapterError(f"feedforward_modules {entries!r} fits no adapted layer")
    for entry in entries if not isinstance(entries, str) else []:
        if not any(name.endswith(entry) for name in selected):
            raise AdapterError(f"feedforward_modules names {entry!r}, which fits no adapted layer")
