"""Bytes that work needs at its peak, by counting: it is done on tensors that have shapes, a device and a
dtype, but no values (PyTorch's FakeTensor), and every storage is counted from the operation that makes it to
its last use.

What is counted is what PyTorch's allocator is asked for. Not seen are a kernel's own scratch memory (of
cuBLAS, of an SVD), and what an allocator adds by rounding up and by not finding room in what it holds.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

VALUES = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
)
"""What asks a tensor for its value."""
FAULTS = (torch.ops.aten.isinf.default, torch.ops.aten.isnan.default)
"""What asks where values are wrong."""
ANY = torch.ops.aten.any.default


class Place(NamedTuple):
    """Where in a run memory is held: in what it does, and where in that."""

    phase: str
    where: str = ""


class Counter(TorchDispatchMode):
    """Bytes that live on a device of this type now, and at the peak of each place of the work."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.now = device, 0
        self.peaks: dict[Place, int] = {}
        self._living: dict[int, tuple[weakref.ref[Any], int]] = {}

    def begin(self, phase: str) -> None:
        """What is done from now on belongs to it."""
        self._phase = phase
        self.at("")

    def at(self, *where: str) -> None:
        """Go to other places of the same phase: a layer may be the first and the last one."""
        self._places = [Place(self._phase, each) for each in where]
        self._note()

    def _note(self) -> None:
        for place in self._places:
            self.peaks[place] = max(self.now, self.peaks.get(place, 0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # asked for more than all else together
            return args[0].fake_device
        if func in VALUES:
            # True, finite and more than nothing, and no fault: what a run that goes well is told.
            return 0 if getattr(args[0], "is_fault", False) else 1
        if torch.is_inference_mode_enabled() and func.namespace == "aten":  # where operations come whole
            with self:
                found = func.decompose(*args, **kwargs or {})
            if found is not NotImplemented:
                return found
        found = _most(func, args)
        if found is NotImplemented:
            found = func(*args, **kwargs or {})
        if func in FAULTS or (func is ANY and getattr(args[0], "is_fault", False)):
            found.is_fault = True
        for made in found if isinstance(found, tuple | list) else (found,):
            if isinstance(made, FakeTensor) and made.fake_device.type == self.device:
                self._count(made.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._living:
            return
        size = storage.nbytes()
        self._living[key] = weakref.ref(storage, lambda _: self._forget(key)), size
        self.now += size
        self._note()

    def _forget(self, key: int) -> None:
        self.now -= self._living.pop(key)[1]


def _most(func: Any, args: Any) -> Any:
    """What has as many entries as values say, as large as it can be; NotImplemented for all else. (Bins are
    as many as are asked for: values beyond would be a mistake where they are indices.)"""
    if func is torch.ops.aten.bincount.default and len(args) == 3:  # with the least number of bins
        return args[0].new_empty(args[2])
    if func is torch.ops.aten.index.Tensor and len(args[1]) == 1 and args[1][0].dtype is torch.bool:
        whole, mask = args[0], args[1][0]
        return whole.new_empty(mask.numel(), *whole.shape[mask.dim() :])
    return NotImplemented


@contextmanager
def counting(device: str) -> Iterator[Counter]:
    """Tensors that are made meanwhile have no values; generators stay as they are. It begins with loading."""
    with (
        torch.random.fork_rng(),
        warnings.catch_warnings(action="ignore"),  # of values, which there are none of
        patch.object(nn.Module, "_apply", _apply),
        # A layer's copy would take one of the mode that its tensors are in, and the interpreter crash.
        patch.object(FakeTensorMode, "__deepcopy__", lambda mode, _: mode, create=True),
        FakeTensorMode(allow_non_fake_inputs=True),
        Counter(device) as counter,
    ):
        counter.begin("loading")
        yield counter


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """What `Module.to` does, by which parameters without values would be exchanged in a way that fails."""
    for child in module.children() if recurse else ():
        _apply(child, change)
    for key, parameter in module._parameters.items():
        if (
            parameter is not None
            and (made := change(parameter.detach())).untyped_storage()._cdata
            != parameter.untyped_storage()._cdata
        ):
            module._parameters[key] = nn.Parameter(made, parameter.requires_grad)
    for key, buffer in module._buffers.items():
        module._buffers[key] = None if buffer is None else change(buffer)
    return module
