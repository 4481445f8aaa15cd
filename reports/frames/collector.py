"""Records kept from the garbage collector: nothing of them is garbage while a report is made, and looking
through those of ten thousand runs again and again takes longer than reading them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Made = TypeVar("Made")


@contextmanager
def uncollected(read: Callable[[], Made]) -> Iterator[Made]:
    """What `read` makes, without a look at it for garbage until the block ends."""
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        made = read()
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
    try:
        yield made
    finally:
        if not frozen:  # what others froze stays so
            gc.unfreeze()
