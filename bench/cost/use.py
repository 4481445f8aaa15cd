"""What steps use up beside their time: memory at the peak, and a card's energy."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch

from rankbench.bench.run import usage

Result = TypeVar("Result")


class Peak(NamedTuple):
    """MiB."""

    used: float
    """Handed out by the card's allocator; where there is no card, resident."""
    reserved: float | None
    """What that allocator had taken of the card, its cache included; None where there is no card."""


def peak_of(steps: Callable[[], Result]) -> tuple[Result, Peak]:
    """What the steps return, and the peak meanwhile."""
    gc.collect()
    usage.reset_peak_memory()
    found, memory = steps(), usage.peak_memory()
    used = memory.peak_resident if memory.peak_allocated is None else memory.peak_allocated
    return found, Peak(used, memory.peak_reserved)


def joules() -> float | None:
    """What the current card has used since its driver was loaded, idle time and all; None without a card,
    without NVML's Python package, or where NVML does not tell.

    NVML renews the figure every 20 to 100 ms: a difference over less than seconds says little.
    """
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
        # By name: NVML numbers the machine's cards, CUDA those that it may see.
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000
    except pynvml.NVMLError:  # older than Volta, a part of a card, or a container without the library
        return None
