"""LoRA whose frozen weights take folds. A fold is often smaller than a bfloat16 weight's own step: such a
weight is kept as a pair (`adapters.pairs`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.base import Range
from rankbench.adapters.errors import AdapterError
from rankbench.adapters.layers import FOLDS_ARE_LOST, Linear, check_foldable, weight_of
from rankbench.adapters.lora import Lora, LowRankLinear
from rankbench.adapters.pairs import joined, write
from rankbench.adapters.shards import cut, own, part, whole

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class FoldedLinear(LowRankLinear):
    """A layer whose frozen weight takes folds. Of a bfloat16 one, a buffer holds the remainders: as bytes,
    (rows, 2 · columns) in the weight's own layout, since collectives know no int16."""

    remainder: Tensor | None

    def __init__(self, base: Linear, rank: int, scale: float, generator: Generator | None) -> None:
        super().__init__(base, rank, scale, generator)
        (rows, columns), device = base.weight.shape, base.weight.device
        half = base.weight.dtype == torch.bfloat16
        nothing = torch.zeros(rows, 2 * columns, dtype=torch.uint8, device=device) if half else None
        self.register_buffer("remainder", nothing)

    @override
    def frozen(self) -> Tensor:
        value = super().frozen()
        if self.remainder is None:
            return value
        return joined(whole(value), whole(self.remainder).view(torch.int16))

    @override
    def cut(self, mesh: DeviceMesh) -> None:
        if self.remainder is not None:
            self.remainder = cut(self.remainder, mesh)

    def check_held(self) -> None:
        """Raise AdapterError where the model was converted after it was adapted, and no remainder goes with
        the weight, or one too many."""
        dtype = self.base.weight.dtype
        if (self.remainder is None) is not (dtype in (torch.float32, torch.float64)):
            raise AdapterError(
                f"the model was converted to {dtype} after it was adapted, which folds do not survive; "
                "convert it before `attach`"
            )

    def pair(self) -> tuple[Tensor, Tensor]:
        """Value and remainder of a bfloat16 weight, what this process holds of them: the memory itself."""
        assert self.remainder is not None
        return own(self.base.weight), own(self.remainder).view(torch.int16)

    def take(self, change: Tensor) -> None:
        """Add (out, in) to a frozen weight that is whole, in place."""
        if self.remainder is None:
            weight_of(self.base).add_(change)
            return
        total = self.frozen() + (change.t() if isinstance(self.base, Conv1D) else change)
        write(total, *self.pair())


@dataclass(kw_only=True)
class FoldingLora(Lora):
    """LoRA of such layers, whose scales follow from an L, `smoothness`."""

    moves_base: ClassVar[bool] = True
    # Sweeps of L from 30 to 1000 chose 100 to 1000, with 5e-4 to 4e-3; the paper gives no range.
    space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": (2e-4, 5e-3, "log"),
        "smoothness": (30, 1000, "log"),
    }
    not_over: ClassVar[Mapping[str, str]] = {"nf4": FOLDS_ARE_LOST}

    @override
    def check(self, linear: Linear) -> None:
        super().check(linear)
        check_foldable(linear)

    @override
    def wrap(self, linear: Linear, generator: Generator | None) -> FoldedLinear:
        return FoldedLinear(linear, self.rank, self.scale, generator)

    @override
    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Also of pairs into weights that have been widened since, which get the sums."""
        tensors, left = dict(state["tensors"]), {}
        for name, layer in self.layers.items():
            assert isinstance(layer, FoldedLinear)
            rows, columns = layer.base.weight.shape
            found = tensors.pop(f"{name}.remainder", None) if layer.remainder is None else None
            if found is None:
                continue
            if (saved := tuple(found.shape)) != (rows, 2 * columns):
                raise AdapterError(f"the saved {name}.remainder is {saved}, not {(rows, 2 * columns)}")
            left[layer] = found.view(torch.int16)
        super().load_state_dict(state | {"tensors": tensors})
        for layer, remainder in left.items():
            value = own(layer.base.weight)
            value.copy_(joined(value, part(remainder, layer.base.weight)))
