"""PEFT's settings by layer: an entry that fits none would change nothing, and no one would know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peft import PeftType
from peft.utils.other import get_pattern_key

from rankbench.adapters.errors import AdapterError, check_count, nearest
from rankbench.adapters.layers import Linear, check_rank

BY_LAYER = ("rank_pattern", "alpha_pattern", "lambda_pattern", "n_frequency_pattern")


def check_patterns(config: Any, layers: Mapping[str, Linear]) -> None:
    """Raise AdapterError for an entry that decides no layer, or a rank that is above a layer's; re.error for
    one that is no regular expression."""
    selected = list(layers)
    for key in BY_LAYER:
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
