"""What is no target: modules that compute more than a product, shared weights, models that are adapted."""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses import FakeTensor
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError
from rankbench.adapters.layers import AdapterLinear, Linear
from rankbench.adapters.quantised import in_four_bits

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_adapted(model: nn.Module) -> None:
    """Raise AdapterError if there is an adapter in the model: another one would freeze it."""
    for module in model.modules():
        if isinstance(module, AdapterLinear) or type(module).__module__.startswith("peft."):
            raise AdapterError("the model has an adapter already, which would be frozen; merge it first")


def refuse_tied(model: nn.Module, selected: dict[str, Linear]) -> None:
    """Raise AdapterError for one weight under two names: adapted in one place, it would move in both."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name, module in selected.items():
        if others := [other for other in owners[id(module.weight)] if other != f"{name}.weight"]:
            raise AdapterError(
                f"target {name} shares its weight with {', '.join(others)}; "
                "leave it out of the targets or untie the model"
            )


def unfit(model: nn.Module, name: str, module: nn.Module) -> str | None:
    """Why a module cannot be adapted, if it cannot."""
    kind = type(module)
    if not isinstance(module, Linear):
        shown = f"{kind.__module__}.{kind.__name__}" if kind.__name__ == "Linear" else kind.__name__
        return f"is a {shown}; only Linear and Conv1D can be adapted"
    weight = module.weight
    if in_four_bits(module):
        return None
    if type(weight) not in (nn.Parameter, FakeTensor) or weight.dtype not in FLOATS:  # fake: to be counted
        return f"is a {kind.__name__} with a quantised weight ({type(weight).__name__}, {weight.dtype})"
    if kind.forward not in (nn.Linear.forward, Conv1D.forward) and not _multiplies(kind):
        return f"is a {kind.__name__}, which computes more than a Linear's product"
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
        return "is a part of MultiheadAttention, which reads its weight without calling it"
    return None


def _multiplies(kind: type[nn.Module]) -> bool:
    """Whether a class made like Linear, as Falcon's is, computes its product: seen on a small layer, since
    a model of shapes computes nothing."""
    if not issubclass(kind, nn.Linear) or kind.__init__ is not nn.Linear.__init__:
        return False
    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]], device="cpu")
    small = kind(3, 2, device="meta").to_empty(device="cpu")
    for parameter in small.parameters():
        parameter.data = torch.linspace(0.1, 0.7, parameter.numel(), device="cpu").view_as(parameter)
    try:
        found = small(x)
    except Exception:  # it may ask for anything
        return False
    product = nn.functional.linear(x, small.weight, small.bias)
    return isinstance(found, torch.Tensor) and found.shape == product.shape and torch.allclose(found, product)
