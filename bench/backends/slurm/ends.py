"""How a task ended: with what came of its run, or without, and what is done then."""

from __future__ import annotations

from submitit.core.utils import UncompletedJobError

from rankbench.bench.backends.lost import Death, Losses
from rankbench.bench.backends.seam import Result
from rankbench.bench.backends.slurm import queue
from rankbench.bench.backends.slurm.arrays import Sent
from rankbench.bench.records import FailureKind
from rankbench.bench.run.failures import ADVICE, Failure

LAST_LINES = 40
"""Of a task's stderr, for the record of its failure."""

_WAYS_OUT: dict[str, tuple[FailureKind, str]] = {
    "OUT_OF_MEMORY": ("memory", f"ask for more (--slurm memory=GIB), or {ADVICE['memory']}"),
    "TIMEOUT": (
        "environment",
        "ask for more (--slurm time=MINUTES), or a longer signal_delay to save in",
    ),
    "NODE_FAIL": ("environment", "leave the node out (--slurm 'sbatch={exclude: NODE}')"),
}
"""By Slurm's state."""


def left(sent: Sent) -> Result | None:
    """What came of a run; None where its task was asked to end before, or has left nothing."""
    if not sent.task.paths.result_pickle.exists():
        return None
    try:
        return sent.task.result()
    except UncompletedJobError:  # nothing of the run's own, which would be a Failure
        words = _last_words(sent)
        return _failure(sent, f"failed: {words[-1] if words else 'it said nothing'}")


def fate(sent: Sent, losses: Losses) -> Failure | None:
    """Why a run of which nothing came has failed; None where it is to be done again."""
    state = queue.state(sent.task.job_id)
    if state == "CANCELLED":
        return _failure(sent, "was cancelled; the same command tries again")
    if sent.task.paths.result_pickle.exists():
        return None  # its state is saved: it was preempted
    kind, way_out = _WAYS_OUT.get(state, ("environment", "what it said last is kept as traceback"))
    how = f"ended {f'as {state} ' if state else ''}(Slurm task {sent.task.job_id})"
    words = "\n".join(_last_words(sent))
    return losses.add(sent.order, Death(how, kind, way_out), words, _place(sent))


def _failure(sent: Sent, what: str) -> Failure:
    reason = f"its Slurm task {sent.task.job_id} {what}"
    return Failure("environment", reason, "\n".join(_last_words(sent)), provenance=_place(sent))


def _place(sent: Sent) -> dict[str, str]:
    """All that is known of where it was."""
    return {"slurm_task": sent.task.job_id}


def _last_words(sent: Sent) -> list[str]:
    return (sent.task.stderr() or "").splitlines()[-LAST_LINES:]
