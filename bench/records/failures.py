"""The record of what ended without a result."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rankbench.bench.records.block import SCHEMA_VERSION, Block

FailureKind = Literal["diverged", "error", "refused", "memory", "disk", "environment"]


class FailureRecord(Block):
    """A run or measurement that ended without a result: kept apart in `failed/`, shown, never counted."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    suite: str
    task: str
    adapter: str = ""
    """Empty for a measurement of overhead."""
    seed: int | None = None
    fingerprint: str
    """Empty where the data are missing that it is made from."""
    identity: dict[str, Any] = Field(default={})
    kind: FailureKind = "diverged"
    """What "diverged" or raised an "error" does so again under the same identity. The others depend on what
    is around it: "refused" before it started, out of "memory" or "disk", a missing package or network."""
    reason: str
    """One line."""
    traceback: str | None = None
    step: int | None = None
    config: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def comes_again(self) -> bool:
        """Whether the same run would end the same way."""
        return self.kind in ("diverged", "error")
