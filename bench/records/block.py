"""What every record is: refused where it is not whole, and marked with the versions that wrote it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[2] = 2
"""2: `identity`, `legs`, and a failure's `kind` and `traceback`. Records of version 1 are read too."""

LOOP_VERSION = 3
"""Of the training loop: raised when the same inputs would give other numbers; part of every fingerprint.
It is kept here since reports name it too, and load no torch."""

DEFAULT_BASELINE = "lora"
"""Of suites that name none, and of records from before they could."""


class Block(BaseModel):
    """A part of a record: no unknown fields, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
