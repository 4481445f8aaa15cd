"""What an export says of itself, beside what others read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rankbench.bench.records.block import Block

Form = Literal["peft", "merged", "low-rank"]

MANIFEST = "rankbench.json"


class Export(Block):
    """What lies in a folder: its MANIFEST."""

    form: Form
    suite: str
    run: str
    fingerprint: str
    """The run's."""
    about: dict[str, Any]
    """Its spec, and its task's head and data."""
    adapter: str
    """SHA-256 of its saved adapter."""
    weights: str
    """What the pretrained model's were."""
    rank: int | None = None
    """Of a low-rank form."""
    error: float | None = None
    """What that lacks of all that was trained, in relative Frobenius norms."""
    left_out: list[str] = Field(default=[])
    """Parameters that it leaves as they were pretrained."""
    difference: float
    """Between what was trained and what was written: of the outputs on a few random sequences the largest."""
    largest: float
    """Of these outputs."""
    readers: list[str] = Field(default=[])
    """What other programs make of it."""
