"""How every task runs a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rankbench.tasks.options import TaskError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients, on the model's own device, which is yielded. Mode and generators
    are put back: scoring in the middle of a run must not change it."""
    from torch.distributed.fsdp import FSDPModule  # takes a second, and listing tasks needs none of it

    # FSDP2 uses its buffers again in training, which those of inference mode cannot be.
    without_gradients = torch.no_grad if isinstance(model, FSDPModule) else torch.inference_mode
    training = model.training
    device = next(model.parameters()).device
    model.eval()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), without_gradients():
            yield device
    finally:
        model.train(training)


@contextmanager
def until(deadline: float | None, model: nn.Module, task: str) -> Iterator[None]:
    """Within, a call of the model raises TaskError once `deadline` seconds are over; None: it never does. A
    generated text takes a call a token."""
    if deadline is None:
        yield
        return
    end = time.monotonic() + deadline

    def look(*_: Any) -> None:
        if time.monotonic() > end:
            raise TaskError(
                f"{task}: scoring takes longer than its deadline, {deadline:g} seconds; raise `deadline`, or "
                "score fewer items"
            )

    handle = model.register_forward_pre_hook(look, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def logits(model: nn.Module, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    """What a model of `transformers` makes of a batch whose labels it does not see, in float32."""
    features = {key: tensor for key, tensor in inputs.items() if key != "labels"}
    found: Tensor = model(**features, **options).logits
    return found.float()


def on(device: torch.device, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch's tensors there."""
    return {key: tensor.to(device) for key, tensor in inputs.items()}
