"""Logits that a model returns without having formed them, so that they can be read a few rows at a time.

Within the model's forward pass its output layer tells what it would multiply instead of doing so. Once that
pass is through, still within the model's call, what is wanted of the logits takes their place. Autocast, DDP
and FSDP2 wrap the call and find nothing changed: weights in parts are whole then, and gradients flow.

Scaling and soft-capping, which some models do to their logits, are noted and done to each chunk. Whatever
else is asked of the logits forms them, as the output layer would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

_TENSOR: Any = Tensor
_METADATA = {_TENSOR.dtype.__get__, _TENSOR.shape.__get__, _TENSOR.device.__get__, Tensor.size, Tensor.dim}
_BY_ENTRY = ("mul", "div", "tanh", "float", "to")
"""What makes of a logit the same whatever the others are."""


class Product(NamedTuple):
    """What logits are made of: `then(hidden @ weight.T + bias)`, factors and product in `dtype`."""

    hidden: Tensor
    """(…, width)"""
    weight: Tensor
    """(vocabulary, width)"""
    bias: Tensor | None
    """(vocabulary,)"""
    dtype: torch.dtype
    steps: tuple[Callable[[Tensor], Tensor], ...] = ()

    @classmethod
    def of(cls, head: nn.Linear, hidden: Tensor) -> Product:
        """In the precision that the layer has where it is called."""
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        return cls(hidden, head.weight, head.bias, dtype)

    def cast(self) -> Product:
        """With factors in the product's precision."""
        bias = None if self.bias is None else self.bias.to(self.dtype)
        return self._replace(hidden=self.hidden.to(self.dtype), weight=self.weight.to(self.dtype), bias=bias)

    def then(self, formed: Tensor) -> Tensor:
        """What the model does with the logits (…, vocabulary) after its output layer."""
        for step in self.steps:
            formed = step(formed)
        return formed

    def form(self) -> Tensor:
        """All logits, (…, vocabulary)."""
        cast = self.cast()
        return self.then(F.linear(cast.hidden, cast.weight, cast.bias))


class Unformed(Tensor):
    """Logits (…, vocabulary) as the model sees them: a tensor without memory, until something reads it."""

    product: Product
    formed: Tensor | None

    @staticmethod
    def of(product: Product) -> Unformed:
        """Their precision is that of the last step."""
        hidden, entry = product.hidden, torch.empty(0, dtype=product.dtype, device=product.hidden.device)
        made: Unformed = Tensor._make_wrapper_subclass(
            Unformed,
            (*hidden.shape[:-1], len(product.weight)),
            dtype=product.then(entry).dtype,
            device=hidden.device,
        )
        made.product, made.formed = product, None
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if args and isinstance(args[0], Unformed) and args[0].formed is None:
                product, others = args[0].product, (*args[1:], *kwargs.values())
                if func in _METADATA:
                    return func(*args, **kwargs)
                if func.__name__ in _BY_ENTRY and all(
                    isinstance(o, int | float | torch.dtype) for o in others
                ):

                    def step(formed: Tensor) -> Tensor:
                        changed: Tensor = func(formed, *args[1:], **kwargs)
                        return changed

                    return Unformed.of(product._replace(steps=(*product.steps, step)))
            args, kwargs = tree_map_only(Unformed, Unformed.form, (args, kwargs))
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # the stubs of PyTorch leave `func` out
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotImplementedError(f"{func} of logits that are not formed")  # `__torch_function__` forms them

    def form(self) -> Tensor:
        """Their values, formed once: what is changed in place stays changed."""
        if self.formed is None:
            self.formed = self.product.form()
        return self.formed


class Output(NamedTuple):
    """A model, unwrapped, and the layer that makes its logits."""

    model: PreTrainedModel
    layer: nn.Linear


def output_of(model: nn.Module) -> Output | None:
    """None where that layer does more than multiply, as an adapted one does, or is watched."""
    bare = next((each for each in model.modules() if isinstance(each, PreTrainedModel)), None)
    layer = bare.get_output_embeddings() if bare is not None else None
    if bare is None or type(layer) is not nn.Linear or "forward" in vars(layer) or layer._forward_hooks:
        return None
    return Output(bare, layer)


@contextmanager
def reading(output: Output, read: Callable[[Tensor], Any]) -> Iterator[None]:
    """Within, `read(logits)` stands in the place of the logits that a call of the model, or of what wraps it,
    returns: mostly `Unformed` ones."""

    def unformed(hidden: Tensor) -> Unformed:
        return Unformed.of(Product.of(output.layer, hidden))

    def take(_model: nn.Module, _inputs: Any, outputs: Any) -> None:
        outputs.logits = read(outputs.logits)

    # Before FSDP2's own hook, which parts the weights again.
    handle = output.model.register_forward_hook(take, prepend=True)
    vars(output.layer)["forward"] = unformed
    try:
        yield
    finally:
        del vars(output.layer)["forward"]
        handle.remove()
