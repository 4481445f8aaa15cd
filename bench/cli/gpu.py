"""The command for a machine with a GPU that is there for some minutes, and has no network."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from rankbench.bench.cli.options import INTERRUPTED, RESULTS, Results, collect_from_here, duration

if TYPE_CHECKING:
    from rankbench.bench.gpu.budget import Budget
    from rankbench.bench.records import Folders
    from rankbench.bench.suite import Suite

DEVICE = "a GPU; or this processor, to rehearse it with tiny shapes"
BUDGET = "for all; what has begun by then is stopped after its step"
ONLY = "check only adapters whose name matches against the processor"
COSTS = "whose costs are measured"
RUNS = "whose runs are done while there is time"
SUITES = {"cuda": ("gpu", "gpu-small"), "cpu": ("smoke", "smoke")}
"""Device -> the suite whose costs are measured, and the one whose runs are done."""
CHECKED, MEASURED = 0.35, 0.8
"""The share of the time by which checking, and by which measuring ends at the latest."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}


def gpu_check(
    device: Annotated[Literal["cuda", "cpu"], Option(help=DEVICE)] = "cuda",
    budget: Annotated[float, Option(parser=duration, metavar="SECONDS", help=BUDGET)] = 440,
    only: Annotated[str, Option(metavar="GLOB", help=ONLY)] = "*",
    costs: Annotated[str | None, Option(metavar="SUITE", help=COSTS)] = None,
    runs: Annotated[str | None, Option(metavar="SUITE", help=RUNS)] = None,
    results: Results = RESULTS,
) -> int:
    """On a GPU: is every adapter right, what does it cost, then runs until time is up; downloads nothing."""
    os.environ.update(OFFLINE)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before PyTorch looks
    import torch

    from rankbench import adapters
    from rankbench.bench.cli.runs import interruptible
    from rankbench.bench.gpu.budget import Budget
    from rankbench.bench.records import Folders
    from rankbench.bench.records.remote import is_url
    from rankbench.bench.suite import ConfigError, load_suite
    from rankbench.bench.tune import settled

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch sees no GPU here; `--device cpu` rehearses this with tiny shapes")
    if not (names := fnmatch.filter(adapters.names(), only)):
        raise ConfigError(f"--only {only!r} matches no adapter; `rankbench list adapters` lists them")
    to_measure, to_run = (
        load_suite(given or own) for given, own in zip((costs, runs), SUITES[device], strict=True)
    )
    if not to_measure.overhead:
        raise ConfigError(f"--costs: suite {to_measure.name} has no overhead block")
    if not to_run.experiments:
        raise ConfigError(f"--runs: suite {to_run.name} has no experiments")
    if is_url(results):
        raise ConfigError("--results must be a folder here: nothing is sent over a network meanwhile")
    places = [Folders(Path(results) / suite.name) for suite in (to_measure, to_run)]
    for place in places:
        place.check_writable()
    to_run = settled(to_run, places[1])
    collect_from_here()
    name = torch.cuda.get_device_name() if device == "cuda" else "a processor"
    _say(f"{name}, PyTorch {torch.__version__}, {budget:.0f} s")
    with interruptible() as asked:
        time = Budget(budget, asked)
        wrong = _check(names, time) + _measure(to_measure, places[0], time) + _train(to_run, places[1], time)
    for suite in dict.fromkeys((to_measure.name, to_run.name)):
        _say(f"`rankbench report {suite} --results {results}` shows its records, here or elsewhere")
    return INTERRUPTED if asked() else int(wrong > 0)


def _check(names: Sequence[str], time: Budget) -> int:
    """How much is not right."""
    from rankbench.bench.gpu.abreast import processes, verdicts
    from rankbench.bench.gpu.right import TOLD, TRIALS

    _say(TOLD)
    tried, wrong = [], 0
    for verdict in verdicts([*TRIALS, *names], lambda: time.up(CHECKED), processes()):
        tried.append(verdict.what)
        wrong += bool(verdict.faults)
        _say(f"{verdict.what}: {', '.join(verdict.kept)}")
        for fault in verdict.faults:
            _say(f"WRONG, {verdict.what}: {fault}")
        for text in verdict.tracebacks:
            print(text, file=sys.stderr, flush=True)
    untried = [name for name in names if name not in tried]
    _say(f"{len(names) - len(untried)} adapters checked, {wrong} wrong{_left(untried)}")
    return wrong


def _measure(suite: Suite, folders: Folders, time: Budget) -> int:
    """How many measurements failed."""
    from rankbench.bench.gpu.measured import measure

    failed, left = measure(suite, folders, lambda: time.up(MEASURED))
    measured = len(suite.overhead) - len(left) - failed
    _say(f"costs of {suite.name}: {measured} measured, {failed} failed{_left(left)}")
    return failed


def _train(suite: Suite, folders: Folders, time: Budget) -> int:
    """How many runs failed."""
    from rankbench.bench.gpu.measured import possible, train

    there, lacking = possible(suite)
    for why in lacking:
        _say(f"left out, {why}")
    if not there:
        return 0
    outcome = train(suite, there, folders, time.up)
    done = outcome.finished + outcome.skipped
    _say(f"runs of {suite.name}: {done} of {len(there)} done, {outcome.failed} failed")
    return outcome.failed


def _left(names: Sequence[str]) -> str:
    return f"; no time for {', '.join(names)}" if names else ""


def _say(line: str) -> None:
    print(line, flush=True)
