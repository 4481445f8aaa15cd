"""What is wanted of answers' logits: of all at once or, where they are many, of some rows at a time.

4 answers of 2048 tokens over 128,256 words are 4 GB of logits in float32, and their loss holds several times
that. In chunks, each chunk's gradient is taken with its loss, so that its logits are formed once and let go,
as Liger Kernel does (Hsu et al. 2024, arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rankbench.tasks.causal.unformed import Product, Unformed

IGNORED = -100
"""The label of a column that is not learned."""

LARGE = 2**27
"""Logits of a batch above which they are not formed whole: 0.5 GiB in float32, 1.5 with loss and gradient."""

CHUNK = 2**26
"""Logits that are formed at a time: with loss and gradient 16 to 18 bytes each, 1.1 GiB."""


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of logits (batch, columns, vocabulary), summed over the labels (batch, columns)."""
    rows = _rows(logits)
    if rows is None:
        return cross_entropy(logits.float(), labels).sum()
    found: Tensor = _SummedLoss.apply(rows, labels.flatten(), rows.hidden, rows.weight, rows.bias)
    return found


def read(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each label its cross-entropy, zero where it is IGNORED, and whether it is the first choice: both
    (batch, columns). To score with, not to train: gradients would keep all chunks."""
    rows = _rows(logits)
    if rows is None:
        logits = logits.float()
        return cross_entropy(logits, labels), logits.argmax(-1) == labels
    cast, wanted = rows.cast(), labels.flatten()
    found = [
        read(cast._replace(hidden=cast.hidden[some]).form()[None], wanted[None, some])
        for some in _chunks(cast)
    ]
    losses, first = (torch.cat(each, dim=1).view_as(labels) for each in zip(*found, strict=True))
    return losses, first


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per token (batch, columns), zero where there is no label."""
    losses = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )  # over rows: the (batch, vocabulary, length) layout is four times slower
    return losses.view_as(labels)


def _rows(logits: Tensor) -> Product | None:
    """What logits (rows, vocabulary) are made of; None where they are formed."""
    if not isinstance(logits, Unformed) or logits.formed is not None:
        return None
    return logits.product._replace(hidden=logits.product.hidden.flatten(0, -2))


def _chunks(rows: Product) -> Iterator[slice]:
    size = max(1, CHUNK // len(rows.weight))
    return (slice(start, start + size) for start in range(0, len(rows.hidden), size))


def _with_slope(rows: Product, some: slice, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss of some rows, and its gradient by their product, (rows, vocabulary)."""
    formed = F.linear(rows.hidden[some], rows.weight, rows.bias).requires_grad_()
    with torch.enable_grad():
        logits = rows.then(formed).float()
        loss = F.cross_entropy(logits, labels[some], ignore_index=IGNORED, reduction="sum")
    (slope,) = torch.autograd.grad(loss, formed)
    return loss.detach(), slope


class _SummedLoss(torch.autograd.Function):
    """Of all rows, with the gradients by their hidden states, weight and bias, which are taken on the way."""

    @staticmethod
    def forward(ctx: Any, rows: Product, labels: Tensor, *factors: Tensor | None) -> Tensor:
        """`factors` are those of `rows`, given apart for autograd to see them."""
        by_hidden, by_weight, by_bias = slopes = [
            torch.zeros_like(factor) if factor is not None and needed else None
            for factor, needed in zip(factors, ctx.needs_input_grad[2:], strict=True)
        ]
        cast, total = rows.cast(), torch.zeros((), device=labels.device)
        for some in _chunks(cast):
            loss, slope = _with_slope(cast, some, labels)
            total += loss
            if by_hidden is not None:
                by_hidden[some] = slope @ cast.weight
            if by_weight is not None:
                by_weight += slope.T @ cast.hidden[some]
            if by_bias is not None:
                by_bias += slope.sum(0)
            del slope  # it would stand beside the next chunk
        ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """By the factors."""
        return None, None, *(slope if slope is None else slope * upstream for slope in ctx.saved_tensors)
