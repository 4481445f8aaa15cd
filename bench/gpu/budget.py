"""How long a machine is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Budget:
    """So many seconds from when it is made, unless the user asks to stop before."""

    seconds: float
    asked: Callable[[], bool] = lambda: False
    """Whether the user does."""
    _started: float = field(default_factory=time.monotonic)

    def up(self, share: float = 1.0) -> bool:
        """Whether that share of it is used up."""
        return self.asked() or time.monotonic() - self._started >= share * self.seconds
