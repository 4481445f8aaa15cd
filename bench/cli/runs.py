"""Commands that train and measure."""

from __future__ import annotations

import fnmatch
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from typer import Option

from rankbench.bench.cli.options import (
    INTERRUPTED,
    RESULTS,
    Mirror,
    Only,
    Results,
    Seeds,
    SuiteName,
    chosen,
    collect_from_here,
    count,
    duration,
    use_mirror,
)
from rankbench.bench.cli.results import write_report

CHECKPOINTS = "between a run's checkpoints; 0: one after each step"
RETRY = "try again what failed and would fail again by its record, a diverged run for instance"
WORKERS = "runs at once on this machine, each in a process of its own with its share of cores and GPUs"
THREADS = "of each run; by default the cores are shared out"
BACKEND = "who does the runs: this process, workers, a Ray or a Slurm cluster"
ADDRESS = "of the Ray cluster, auto for the one of this machine; by default one is started for the command"
SLURM = "what a task of --backend slurm asks for, instead of what the suite says; as often as you like"
SHARE_GPUS = "let there be more workers than GPUs"
TRACK = "follow the runs there, too (docs/on-the-terminal.md)"
SAVE = "keep what each run trains, as `save: adapter` in the suite does (docs/export.md)"
KEEP = "take records as done that differ from their runs in the versions of packages alone"


def run(
    suite: SuiteName,
    only: Only = None,
    seeds: Seeds = None,
    mirror: Mirror = None,
    results: Results = RESULTS,
    checkpoint_every: Annotated[float, Option(parser=duration, metavar="SECONDS", help=CHECKPOINTS)] = 60,
    retry_failed: Annotated[bool, Option("--retry-failed", help=RETRY)] = False,
    keep_old_versions: Annotated[bool, Option("--keep-old-versions", help=KEEP)] = False,
    save: Annotated[bool, Option("--save", help=SAVE)] = False,
    workers: Annotated[int | None, Option(parser=count, metavar="N", help=WORKERS)] = None,
    threads: Annotated[int | None, Option(parser=count, metavar="N", help=THREADS)] = None,
    backend: Annotated[Literal["here", "workers", "ray", "slurm"] | None, Option(help=BACKEND)] = None,
    address: Annotated[str | None, Option(metavar="HOST:PORT", help=ADDRESS)] = None,
    share_gpus: Annotated[bool, Option("--share-gpus", help=SHARE_GPUS)] = False,
    slurm: Annotated[list[str] | None, Option(metavar="KEY=VALUE", help=SLURM)] = None,
    track: Annotated[Literal["tensorboard", "wandb", "mlflow", "trackio"] | None, Option(help=TRACK)] = None,
) -> int:
    """Do a suite's missing runs; resumes what was interrupted."""
    from rankbench.bench.backends import nursery

    use_mirror(mirror)
    if backend in (None, "workers"):
        nursery.expect(workers)
    from rankbench.bench.backends.choose import choose, device_of
    from rankbench.bench.backends.driver import Options, execute_rounds
    from rankbench.bench.cli.rounds import rounds
    from rankbench.bench.records.store import to_work_in
    from rankbench.bench.suite import ConfigError
    from rankbench.bench.track.kinds import require
    from rankbench.tasks.data.hub import resolve_mirror

    collect_from_here()
    loaded, specs = chosen(suite, only, seeds)
    if save:
        loaded = loaded.model_copy(update={"save": "adapter"})
    resolve_mirror(None)
    if slurm and backend != "slurm":
        raise ConfigError("--slurm goes with --backend slurm; say that, too")
    asked = loaded.slurm.changed_by(slurm or [])
    if track:
        require(track)
        backend = backend or "workers"  # even for one run: the tracker's memory is not the run's
    measured, elsewhere = only is None, backend == "slurm" or address is not None
    with to_work_in(results, loaded.name) as folders:
        doing = choose(
            backend, specs, folders, asked,
            address=address, count=workers, threads=threads, share_gpus=share_gpus,
        )  # fmt: skip
        if elsewhere and measured and loaded.overhead:
            print(
                f"costs are not measured from here; on a node: `rankbench overhead {suite}`", file=sys.stderr
            )
        options = Options(
            with_overhead=measured and not elsewhere,
            checkpoint_seconds=checkpoint_every,
            retry_failed=retry_failed,
            keep_old_versions=keep_old_versions,
            device=device_of(backend, asked),
            track=track,
        )
        with interruptible() as stopped:
            due = rounds(loaded, folders, only, seeds)
            outcome = execute_rounds(loaded, due, folders, stopped, options, doing)
    if outcome.interrupted:
        again = f"`rankbench run {suite}` with the same options goes on"
        print(f"rankbench: interrupted; nothing is lost, {again}", file=sys.stderr)
        return INTERRUPTED
    print(f"runs: {outcome.finished} done, {outcome.skipped} there already, {outcome.failed} failed")
    if outcome.failed:
        print(f"why, and where in the code: {folders.root / 'failed'}", file=sys.stderr)
    return 1 if outcome.failed else 0


def overhead(
    suite: SuiteName = "overhead",
    only: Annotated[str, Option(metavar="GLOB", help="only measurements whose name matches")] = "*",
    results: Results = RESULTS,
) -> int:
    """Measure what a suite's steps cost, and report it; no runs."""
    from rankbench.bench.console import Progress
    from rankbench.bench.cost.overhead import measure_all
    from rankbench.bench.records.store import tell, to_work_in
    from rankbench.bench.run.failures import Interrupted
    from rankbench.bench.suite import ConfigError, load_suite

    collect_from_here()
    loaded = load_suite(suite)
    if not loaded.overhead:
        raise ConfigError(
            f"suite {loaded.name} has no overhead block; `rankbench overhead` alone measures the built-in one"
        )
    names = fnmatch.filter(loaded.overhead, only)
    if not names:
        known = ", ".join(loaded.overhead)
        raise ConfigError(f"--only {only!r} matches no measurement of {loaded.name}; there are: {known}")
    with to_work_in(results, loaded.name) as folders, interruptible() as stopped:
        folders.check_writable()
        tell(folders, loaded.baseline, loaded.stages)
        progress = Progress(len(names))
        try:
            failed = measure_all(loaded, names, folders, progress, stopped, again=True)
        except Interrupted:
            print("rankbench: interrupted; finished processes of a measurement are kept", file=sys.stderr)
            return INTERRUPTED
        finally:
            progress.close()
    try:
        write_report(folders.root)
    except ConfigError as error:
        print(f"measured; {error}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C, or the SIGTERM of a batch system, asks the run to save and stop after its step; a
    second one stops at once."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nstopping after this step (Ctrl-C again: at once) …", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
