"""All that training has changed, as increments of one rank: the nearest there are, and how far they are off.

Of a layer's whole increment, trained weight minus pretrained weight, the `rank` largest singular values are
kept (Eckart & Young 1936): no matrix of that rank is nearer in the Frobenius norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError
from rankbench.adapters.forms import Factors, PeftForm, lora_form
from rankbench.adapters.layers import Linear


@dataclass(frozen=True)
class Nearest:
    """A low-rank form of a trained model's increments."""

    form: PeftForm
    error: float
    """The Frobenius norm of what it lacks over that of all that was trained outside of heads."""
    left_out: Sequence[str]
    """Parameters that training has moved and that are no weight of a linear layer: they stay pretrained."""


@torch.no_grad()
def nearest(start: Mapping[str, Tensor], merged: nn.Module, heads: Sequence[str], rank: int) -> Nearest:
    """Of a merged model that began as `start`, but for its heads. Every layer is given that rank, with zeros
    where it has less. Raises AdapterError where nothing was moved, and for a rank that no layer can have."""
    most = max(min(layer.weight.shape) for layer in merged.modules() if isinstance(layer, Linear))
    if rank > most:
        raise AdapterError(f"--rank {rank}: no layer of this model has more than {most}; lower it")
    inside = tuple(f"{head}." for head in heads)
    layers: dict[str, Factors] = {}
    left_out: list[str] = []
    total = lacking = 0.0
    for name, parameter in merged.named_parameters():
        moved = (parameter - start[name]).double()
        square = float(moved.square().sum())
        if name.startswith(inside) or not square:
            continue
        total += square
        owner, _, key = name.rpartition(".")
        layer = merged.get_submodule(owner)
        if key != "weight" or not isinstance(layer, Linear):
            left_out.append(name)
            lacking += square
            continue
        exact = moved.t() if isinstance(layer, Conv1D) else moved
        layers[owner] = factors = _cut(exact, rank, parameter.dtype)
        lacking += float((exact - factors.a.double() @ factors.b.double().t()).square().sum())
    if not layers:
        raise AdapterError("training has moved no weight of a linear layer: there is nothing of a low rank")
    return Nearest(lora_form(merged, layers), math.sqrt(lacking / total), left_out)


def _cut(increment: Tensor, rank: int, dtype: torch.dtype) -> Factors:
    """(out, in) as a product of `rank` columns; both factors take the root of a singular value."""
    left, values, right = torch.linalg.svd(increment, full_matrices=False)
    roots = values[:rank].sqrt()
    missing = (0, rank - len(roots))
    a, b = left[:, :rank] * roots, right[:rank].t() * roots
    return Factors(F.pad(a, missing).to(dtype), F.pad(b, missing).to(dtype), 1.0)
