"""On which machine a record was made, by its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def processor(provenance: Mapping[str, Any]) -> str:
    """What rounds: the GPU, or without one the processor; between two kinds of them scores can differ."""
    device: str = provenance.get("device", "cpu")
    return device if device != "cpu" else provenance.get("processor", "an unknown processor")


def machine(provenance: Mapping[str, Any]) -> str:
    """What decides how long a step takes; empty where nothing is known of it."""
    known = [provenance["processor"]] if "processor" in provenance else []
    if provenance.get("device", "cpu") != "cpu":
        known.insert(0, provenance["device"])
    for part in ("core", "thread"):
        if count := provenance.get(f"{part}s"):
            known.append(f"one {part}" if count == 1 else f"{count} {part}s")
    return ", ".join(known)
