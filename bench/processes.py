"""How processes of our own are started."""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess


def start(process: BaseProcess) -> None:
    """Start it deaf to Ctrl-C, which reaches every process of a terminal: ours decides what it means."""
    resource_tracker.ensure_running()  # it would be started with the process, and leave SIGINT unblocked
    kept = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)
