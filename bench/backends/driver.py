"""All missing runs of a suite, then its overhead measurements; several processes may share the work.

Runs come in rounds: the next one is asked for when all of the one before have ended, whoever has done them.
Overhead is measured when all runs are done, by one process at a time: nothing else of the suite is running
then.

Where a run is done is a backend's business. What is to be done, who does it, what is written and told, is
decided here and in `sharing` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from accelerate import PartialState

from rankbench.bench.backends.leftovers import clear
from rankbench.bench.backends.seam import Backend, here
from rankbench.bench.backends.sharing import Options, Outcome, Sharing
from rankbench.bench.backends.standing import Missing, look
from rankbench.bench.console import Progress
from rankbench.bench.cost import overhead
from rankbench.bench.records import Folders
from rankbench.bench.records.store import tell
from rankbench.bench.run.failures import Failure, Interrupted, attempt, stop_if
from rankbench.bench.run.start import check, prepare
from rankbench.bench.suite import ConfigError, RunSpec, Suite
from rankbench.bench.track import Tracking

Checks: TypeAlias = dict[tuple[str, str], Failure | None]
"""Experiment and entry (empty: the experiment's data) -> why its runs cannot be started."""


def execute(
    suite: Suite,
    specs: Sequence[RunSpec],
    folders: Folders,
    stopped: Callable[[], bool],
    options: Options | None = None,
    backend: Backend | None = None,
) -> Outcome:
    """`execute_rounds` of one round."""
    return execute_rounds(suite, [specs], folders, stopped, options, backend)


def execute_rounds(
    suite: Suite,
    rounds: Iterable[Sequence[RunSpec]],
    folders: Folders,
    stopped: Callable[[], bool],
    options: Options | None = None,
    backend: Backend | None = None,
) -> Outcome:
    """Do what neither this suite nor another one beside it has done yet, by default in this process. A
    failed run is recorded apart and does not stop the others. A round is asked for when all runs of the one
    before it have ended, whoever has done them.

    Raises ConfigError for a mistake in the suite, RecordError for a corrupt record or a folder that
    cannot be written.
    """
    options = options or Options()
    if PartialState(cpu=not torch.cuda.is_available()).num_processes > 1:
        raise ConfigError(
            "a suite is started as one process; to have several share a run, set `processes` in its training"
        )
    folders.check_writable()
    tell(folders, suite.baseline, suite.stages)
    wanted = options.with_overhead
    overheads = overhead.unmeasured(suite, folders, options.keep_old_versions) if wanted else []
    outcome, progress = Outcome(), Progress(len(overheads))
    tracking = Tracking(options.track, folders, suite.name) if options.track else None
    sharing = Sharing(folders, options, backend or here, stopped, progress, outcome, tracking)
    checks: Checks = {}
    try:
        for name in overheads:
            if isinstance(found := attempt(partial(overhead.check, suite.overhead[name])), Failure):
                progress.note(f"overhead {name} cannot be measured: {found.reason}")
        for specs in rounds:
            _round(specs, sharing, checks)
        outcome.failed += overhead.measure_all(suite, overheads, folders, progress, stopped)
    except (Interrupted, KeyboardInterrupt):
        outcome.interrupted = True
    finally:
        progress.close()
    return outcome


def _round(specs: Sequence[RunSpec], sharing: Sharing, checks: Checks) -> None:
    """See all these runs ended."""
    folders, options, progress = sharing.folders, sharing.options, sharing.progress
    again, kept, device = options.retry_failed, options.keep_old_versions, options.device
    standing = look(specs, folders, retry_failed=again, keep_old_versions=kept, device=device)
    clear([spec.cell for spec in specs], {job.cell for job in standing.done}, folders)
    sharing.outcome.skipped += len(standing.done)
    sharing.outcome.failed += len(standing.failed)
    progress.expect(len(standing.missing))
    for why, count in Counter(one.why for one in standing.missing if one.why).items():
        progress.note(f"{count} {'run is' if count == 1 else 'runs are'} done again: {why}")
    if standing.missing:
        sharing.share(_checked(standing.missing, checks, progress, sharing.stopped), len(standing.missing))


def _checked(
    missing: Sequence[Missing], checks: Checks, progress: Progress, stopped: Callable[[], bool]
) -> Iterator[Missing]:
    """Prepare every experiment's data and try every adapter on its model, all before the first run; the
    same runs, with the reasons of those that cannot be started. A backend that has begun starts meanwhile."""
    checked = []
    for one in missing:
        spec = one.job.spec
        # Entries that differ in their rate alone, as a sweep's do, are attached alike; and so is what differs
        # in what was drawn, whose ends the suite has tried.
        drawn = spec.adapter.point if spec.scored_on == "selection" else {}
        key = spec.experiment, spec.adapter.model_dump_json(exclude={"learning_rate", *drawn})
        if one.refused is None and key not in checks:
            progress.begin(f"checking {spec.experiment}--{spec.label}")
            if (data := (spec.experiment, "")) not in checks:
                made = attempt(partial(prepare, one.job))
                checks[data] = made if isinstance(made, Failure) else None
                for note in [] if isinstance(made, Failure) else made:
                    progress.note(f"{spec.experiment}: {note}")
            checks[key] = checks[data] or attempt(partial(check, spec))
            stop_if(stopped)
        checked.append(replace(one, refused=one.refused or checks[key]))
    yield from checked
