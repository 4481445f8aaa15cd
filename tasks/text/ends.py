"""Models that classify a text by what stands at its last end token, and refuse a batch of texts of more and
fewer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

READ_AT_THE_END = {"bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "t5", "umt5"}
"""Their types."""


def ended(ids: Tensor, config: Any) -> Tensor:
    """Token ids (texts, tokens) as such a model takes them: one end token in each text, at its end. Those for
    another model as they are."""
    if config.model_type not in READ_AT_THE_END:
        return ids
    end: int = config.eos_token_id
    ids = ids.masked_fill(ids == end, end - 1 if end else 1)
    ids[:, -1] = end
    return ids
