"""Whether a model can learn answers in batches that are padded on the left: tried on a few tokens, since no
configuration tells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rankbench.tasks.causal.loss import answer_logits, collate_left
from rankbench.tasks.scoring import evaluating, on

SHORT, LONG, KEPT = 5, 9, 3
"""Tokens of a text, of a longer one, and of its end that logits are asked for."""

SEEN = 1e-3
"""Two texts of one length in one batch are computed alike, in any precision: what differs more has been seen.
All differences of logits are shares of their deviation over the vocabulary."""
MOVED = {True: 1e-2, False: 0.25}
"""By padding, at the median token, where all weights are in float32, and where some are in less: rounding
alone makes 1e-6 and a few hundredths of tiny models, positions that begin in the padding 1 and more. The
median, since in less a router may choose another expert for a token."""


def unfit(model: PreTrainedModel) -> str:
    """Why a causal model cannot be trained and scored by `collate_left` and `answer_logits`; empty where
    nothing speaks against it. Leaves mode and generators as they were."""
    count = model.config.get_text_config().vocab_size
    # A quarter into the vocabulary: special tokens are at its ends.
    ids = [(count // 4 + i) % count for i in range(SHORT + 1 + LONG)]
    text, longer = ids[:SHORT], ids[SHORT + 1 :]
    alone, otherwise = _logits(model, [text, [*text[:-1], ids[SHORT]]])
    if len(alone) != KEPT:
        return f"of a text it returns the logits of {len(alone)} tokens where {KEPT} are asked for"
    if (_difference(alone, otherwise)[:-1] > SEEN).any():
        return "each token sees those after it, the answer's too"
    padded = _logits(model, [text, longer])[0]
    if _difference(alone, padded).median() > MOVED[_all_float32(model)]:
        return "it reads a text otherwise where padding stands before it, beside a longer one in a batch"
    return ""


def _logits(model: PreTrainedModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """(texts, KEPT, vocabulary), in float32."""
    batch = collate_left([{"input_ids": text, "answer": text[-KEPT:]} for text in texts])
    with evaluating(model) as device:
        found: Tensor = answer_logits(model, on(device, batch.inputs), KEPT)
        return found.float()


def _difference(one: Tensor, other: Tensor) -> Tensor:
    """Of each token (tokens,)."""
    return (one - other).abs().amax(-1) / one.std(-1)


def _all_float32(model: PreTrainedModel) -> bool:
    return all(parameter.dtype == torch.float32 for parameter in model.parameters())
