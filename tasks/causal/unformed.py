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
_METADATA = {_TENSOR.dtype.__get__, _TENSOR.shape.__get__, Tensor.size, Tensor.dim}
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
    """Logits (…, vocabulary) as the model sees them, on "meta" until something needs their values."""

    product: Product
    formed: Tensor | None

    @staticmethod
    def of(product: Product, like: Tensor) -> Unformed:
        """`like` has the logits' shape and precision, and no values."""
        made = like.as_subclass(Unformed)
        made.product, made.formed = product, None
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if args and isinstance(args[0], Unformed) and args[0].formed is None:
                this, others = args[0], (*args[1:], *kwargs.values())
                if func in _METADATA:
                    return func(*args, **kwargs)
                if func.__name__ in _BY_ENTRY and all(
                    isinstance(o, int | float | torch.dtype) for o in others
                ):
                    return this._after(lambda formed: func(formed, *args[1:], **kwargs))
            args, kwargs = tree_map_only(Unformed, Unformed.form, (args, kwargs))
            return func(*args, **kwargs)

    def _after(self, step: Callable[[Tensor], Tensor]) -> Unformed:
        product = self.product
        return Unformed.of(product._replace(steps=(*product.steps, step)), step(self))

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
        product = Product.of(output.layer, hidden)
        shape = (*hidden.shape[:-1], output.layer.out_features)
        return Unformed.of(product, torch.empty(shape, dtype=product.dtype, device="meta"))

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
