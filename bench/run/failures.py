"""The boundary of a run: whatever goes wrong inside becomes a failure with its cause; the suite goes on."""

from __future__ import annotations

import errno
import gc
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from rankbench.adapters import AdapterError
from rankbench.bench.records import FailureKind, RecordError
from rankbench.bench.run.provenance import provenance
from rankbench.bench.suite import ConfigError
from rankbench.tasks import TaskError

LONGEST = 300
"""Characters of a library's message; the traceback holds all of it."""

ADVICE: dict[FailureKind, str] = {
    "memory": "lower batch_size and raise accumulation, or set gradient_checkpointing",
    "disk": "free space, or choose another folder",
}

Result = TypeVar("Result")


class RunFailed(Exception):
    """Training ended without a result, at a step and for a reason."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(f"{reason} at step {step}")
        self.reason, self.step = reason, step


class Interrupted(Exception):
    """The user stopped the run; its checkpoint is on the disk."""


def stop_if(stopped: Callable[[], bool]) -> None:
    """Raise Interrupted where the user asked to stop."""
    if stopped():
        raise Interrupted


@dataclass(frozen=True)
class Failure:
    """Why a piece of work has no result."""

    kind: FailureKind
    reason: str
    """One line: the cause, and what can be done about it."""
    traceback: str
    step: int | None = None
    provenance: dict[str, Any] = field(default_factory=provenance)
    """Of the process that it happened in, which need not be the one that records it."""


class FailedElsewhere(Exception):
    """Work given to another process failed there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def attempt(work: Callable[[], Result], *passing: type[Exception]) -> Result | Failure:
    """What `work` returns, or why it could not. A stop that was asked for is no failure, nor is what else
    the caller lets pass."""
    try:
        return work()
    except (KeyboardInterrupt, Interrupted):
        raise
    except passing:
        raise
    except BaseException as error:  # a library that exits, or a panic of the tokenizers, which are in Rust
        failure = _failure(error)
    # Outside the handler: the frames that held the run's model are gone now, and so can be its memory.
    gc.collect()
    torch.cuda.empty_cache()
    return failure


def _failure(error: BaseException) -> Failure:
    if isinstance(error, FailedElsewhere):
        return error.failure
    if isinstance(error, RunFailed):
        return Failure("diverged", error.reason, _text(error), error.step)
    kind = _kind(error)
    ours = isinstance(error, (AdapterError, ConfigError, RecordError, TaskError))
    reason = " ".join(_message(error).split()) if ours else _cause(error)
    if kind in ADVICE and not ours:
        reason = f"out of {kind}: {reason}; {ADVICE[kind]}"
    return Failure(kind, reason, _text(error))


def _kind(error: BaseException) -> FailureKind:
    chain = list(_chain(error))
    if any(_is_memory(link) for link in chain):
        return "memory"
    if any(isinstance(link, OSError) and link.errno in _FULL for link in chain):
        return "disk"
    if isinstance(error, (AdapterError, ConfigError, TaskError)):
        return "refused"
    if isinstance(error, (ImportError, OSError, RecordError, torch.AcceleratorError)):
        return "environment"
    return "error"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # PyTorch's allocator on the CPU, and cuBLAS's workspace, have no class of their own.
    told = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(words in _message(error) for words in told)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException) -> str:
    """Its kind, and the first line of its message if it has one."""
    first = next((line.strip() for line in _message(error).splitlines() if line.strip()), "")
    name = type(error).__name__.lstrip("_")
    return f"{name}: {first[:LONGEST]}" if first else name


def _message(error: BaseException) -> str:
    """As `str` has it, or that it has none; never more than a record can hold."""
    return _writable(str(traceback.TracebackException.from_exception(error)))


def _text(error: BaseException) -> str:
    return _writable("".join(traceback.format_exception(error)))


def _writable(text: str) -> str:
    """What UTF-8 has no bytes for, as in a file's name of another encoding, is shown as its escape."""
    return text.encode(errors="backslashreplace").decode()
