"""This machine's cores and GPUs, shared out between workers."""

from __future__ import annotations

import os
from dataclasses import dataclass

import joblib
import torch
from threadpoolctl import threadpool_limits

from rankbench.bench.suite import ConfigError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""Read when a library is loaded: PyTorch's, MKL's, NumPy's and SciPy's, the tokenizers'."""


@dataclass(frozen=True)
class Share:
    """What one worker has for itself."""

    threads: int
    gpus: tuple[str, ...] = ()
    """By the names that CUDA_VISIBLE_DEVICES knows; empty where there are none."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be started with to keep to it."""
        threads = dict.fromkeys(THREADS, str(self.threads))
        return threads | ({"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {})


def keep_to(share: Share) -> None:
    """Have this process take no more than its share, whatever it has imported by now."""
    os.environ.update(share.environment)
    torch.set_num_threads(share.threads)
    threadpool_limits(share.threads)


def cores() -> int:
    """Physical ones, or fewer where this process may use fewer: its affinity, its control group."""
    return int(joblib.cpu_count(only_physical_cores=True))


def gpus() -> list[str]:
    """Those that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return (named or [str(i) for i in range(torch.cuda.device_count())])[: torch.cuda.device_count()]


def shared_out(workers: int, threads: int | None = None, *, share_gpus: bool = False) -> list[Share]:
    """A share for each worker; without `threads`, no core is given twice.

    Raises ConfigError for more workers than cores or, unless they may share them, than GPUs.
    """
    if threads is None and workers > cores():
        raise ConfigError(
            f"--workers {workers}: only {cores()} cores here; choose fewer, or say --threads 1 all the same"
        )
    known = gpus()
    if known and workers > len(known) and not share_gpus:
        raise ConfigError(
            f"--workers {workers}: only {len(known)} GPUs here; choose fewer, or let them --share-gpus"
        )
    threads = threads or min(torch.get_num_threads(), cores() // workers)
    each = max(1, len(known) // workers)
    starts = [worker * each % len(known) if known else 0 for worker in range(workers)]
    return [Share(threads, tuple(known[start : start + each])) for start in starts]
