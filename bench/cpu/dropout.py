"""Dropout whose masks cost a fifth of PyTorch's on the CPU, where drawing them is most of the work.

`nn.Dropout` asks its generator for a float64 per element. Here one 64-bit draw serves four elements: each
compares 16 of its bits with the probability, which is thereby rounded to a multiple of 2⁻¹⁶ (0.1 to
0.1000061); kept elements are divided by the rounded probability of being kept. Elsewhere than on the CPU
everything stays as it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "sdpa-with-cheap-dropout"
LEVELS = 2**16
"""Values of the bits that decide on one element."""


def use_cheap_dropout(model: nn.Module) -> None:
    """Let a model's dropout, its attention's included, draw its masks cheaply; in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, CheapDropout(child.p))
    if isinstance(model, PreTrainedModel) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(ATTENTION)


def has_dropout(model: nn.Module) -> bool:
    """Whether any of its layers drops elements in training."""
    return any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in model.modules())


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with the masks of `masked`."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return masked(x, self.p) if self.training else x


def masked(x: Tensor, p: float) -> Tensor:
    """Zero each element of x with probability p, scale the others so that the mean stays."""
    dropped = round(p * LEVELS)
    if x.device.type != "cpu" or dropped in (0, LEVELS):
        return nn.functional.dropout(x, p)
    # From -2⁶³ without an upper end: all 64 bits are random.
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    mask = torch.empty(x.shape, dtype=x.dtype)
    torch.ge(bits, dropped - LEVELS // 2, out=mask)
    return x * mask.mul_(LEVELS / (LEVELS - dropped))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, (batch, heads, length, width) → (batch, length, heads, width).

    With dropout PyTorch computes it in these same single operations on the CPU; what has none, or
    masks by position alone, or shares keys between heads, is left to it.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    shared = getattr(module, "num_key_value_groups", 1) > 1
    plain = not (attention_mask is None and causal) and not shared and kwargs.get("position_bias") is None
    if not (dropout and plain and query.device.type == "cpu"):
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal,
            **kwargs,
        )  # fmt: skip
        return found
    scores = (query * (scaling if scaling is not None else query.shape[-1] ** -0.5)) @ key.mT
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    shares = masked(scores.softmax(-1), dropout)
    return (shares @ value).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
