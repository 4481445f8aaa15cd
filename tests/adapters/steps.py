"""Steps of training on the tiny models, as the shared loop makes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from rankbench.adapters import Adapter
from tests.conftest import tiny_batch


def optimizer_for(model: nn.Module) -> AdamW:
    """Of what is trainable."""
    return AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def train(
    adapter: Adapter,
    model: nn.Module,
    optimizer: AdamW,
    steps: range,
    *,
    batches: int | None = None,
    bfloat16: bool = False,
) -> list[float]:
    """The losses of these steps, each on a batch of its own or on so many in turn, in float32 or under
    autocast. The last gradients stay."""
    losses = []
    for step in steps:
        optimizer.zero_grad()
        with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16, enabled=bfloat16):
            loss = model(**tiny_batch(model, step % batches if batches else step)).loss
        (loss + adapter.penalty()).backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
        adapter.after_step(optimizer, step)
        losses.append(loss.item())
    return losses


@torch.no_grad()
def outputs(model: nn.Module) -> Tensor:
    """Logits of one batch."""
    logits: Tensor = model(**tiny_batch(model)).logits
    return logits
