"""The far end of a backend: a process that does one order after the other and tells how it goes."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue

from rankbench.bench.backends.seam import Result
from rankbench.bench.backends.workers.shares import Share, keep_to
from rankbench.bench.records import Curve
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.runner import Listener, Order, run

GONE = (EOFError, OSError)
"""What one end of a connection sees of the other's death, which may come in the middle of a message."""

TELL_SECONDS = 0.2
"""Between two ticks that leave a worker: a display shows no more of them."""

GRACE_SECONDS = 30.0
"""A worker whose driver is gone has to save its state in; a longer step is lost."""


def sparsely(tell: Callable[[Curve], None]) -> Callable[[Curve], None]:
    """A listener's tick that tells now and then what is new of the curve, be it given all of it or its last
    step alone."""
    told_at, heard, new = -TELL_SECONDS, 0, Curve()

    def tick(curve: Curve) -> None:
        nonlocal told_at, heard, new
        new.extend(curve.after(heard))
        heard = curve.step[-1]
        if time.monotonic() - told_at >= TELL_SECONDS:
            told_at = time.monotonic()
            tell(new)
            new = Curve()

    return tick


def work(channel: Connection, voice: Connection, share: Share) -> None:
    """A worker's life: orders come through `channel`; steps (as parts of the curve) and results go back.

    It ends when it is sent None, when the other end is gone, and by SIGTERM: after its step, with its state
    saved. What libraries print goes to `voice`.
    """
    for printed in (1, 2):
        os.dup2(voice.fileno(), printed)
    keep_to(share)
    orders: SimpleQueue[Order | None] = SimpleQueue()
    asked = threading.Event()
    terminated = False

    def stop() -> None:
        asked.set()
        orders.put(None)

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True
        stop()

    def tell(told: Curve | Result) -> None:
        with suppress(*GONE):  # `_hear` sees it as well
            channel.send(told)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # with its terminal the driver ends, which is seen
    threading.Thread(target=_hear, args=(channel, orders, stop), daemon=True).start()
    while (order := orders.get()) is not None:
        with suppress(Interrupted):
            tell(run(order, Listener(sparsely(tell), asked.is_set)))
    gc.freeze()  # all there is goes with the process: looking through it would take seconds
    if terminated:  # so that its end has that name
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _hear(channel: Connection, orders: SimpleQueue[Order | None], stop: Callable[[], None]) -> None:
    try:
        while (order := channel.recv()) is not None:
            orders.put(order)
        stop()
        channel.recv()  # nothing more is sent: this ends with the driver
    except GONE:
        stop()
        time.sleep(GRACE_SECONDS)
        os._exit(1)
