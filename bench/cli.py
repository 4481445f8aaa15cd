"""The command line: `rankbench` or `python -m rankbench.bench`.

Exit codes: 0 done; 1 some runs failed (they are in the report), or `compare` found a regression;
2 a mistake to mend, in one line; 130 interrupted, resumable.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from tabulate import tabulate

from rankbench.bench.console import print_anywhere

RESULTS = "results"
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    print_anywhere()
    options = _parser().parse_args(arguments)
    if getattr(options, "mirror", None):
        os.environ["RANKBENCH_MIRROR"] = options.mirror
    try:
        return _guarded(options)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("rankbench: interrupted", file=sys.stderr)
        return INTERRUPTED


def _guarded(options: argparse.Namespace) -> int:
    # Imported here so that --help and a typo answer at once. Importing leaves little garbage: the
    # collector, off until a command has all it needs, would only walk the modules over and over.
    gc.disable()
    from rankbench import adapters, tasks
    from rankbench.bench.records import RecordError
    from rankbench.bench.suite import ConfigError
    from rankbench.reports.claims.published import PublishedError
    from rankbench.reports.stats.evidence import StatsError

    own = (ConfigError, RecordError, PublishedError, StatsError, adapters.AdapterError, tasks.TaskError)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except own as error:
        print(f"rankbench: {error}", file=sys.stderr)
        return 2
    finally:
        gc.enable()


def _collect_from_here() -> None:
    """All is imported: the collector works again, and leaves the modules out."""
    gc.freeze()
    gc.enable()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rankbench", description="Benchmark and reproduce LoRA variants.")
    parser.add_argument("--version", action="version", version=f"rankbench {version('rankbench')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    listing = commands.add_parser("list", help="what there is, one name a line")
    listing.add_argument("kind", choices=["adapters", "tasks", "suites"])
    listing.set_defaults(command=_list)

    for name, command, text in [
        ("plan", _plan, "a suite's runs, parameters, time and memory; downloads nothing"),
        ("fetch", _fetch, "make a suite's models and data available offline"),
        ("run", _run, "do a suite's missing runs; resumes what was interrupted"),
    ]:
        sub = commands.add_parser(name, help=text)
        sub.add_argument("suite", metavar="SUITE", help="a built-in suite or a suite file (.yaml)")
        sub.add_argument("--only", metavar="GLOB", help="only runs whose EXPERIMENT--ADAPTER--sSEED matches")
        sub.add_argument("--seeds", type=_count, metavar="N", help="use the seeds 0 to N-1")
        sub.add_argument("--mirror", metavar="DIR", help="folder with hub data sets, laid out as on the hub")
        sub.set_defaults(command=command)
        if name == "run":
            sub.add_argument("--results", default=RESULTS, metavar="DIR", help="default: %(default)s")
            text = "between two checkpoints of a run; default: %(default)s"
            sub.add_argument("--checkpoint-every", type=float, default=60, metavar="SECONDS", help=text)
            text = "try again what failed and would fail again by its record, a diverged run for instance"
            sub.add_argument("--retry-failed", action="store_true", help=text)
            text = "take records as done that differ from their runs in the versions of packages alone"
            sub.add_argument("--keep-old-versions", action="store_true", help=text)

    text = "measure what a suite's steps cost, leaving out its runs, and write the report"
    overhead = commands.add_parser("overhead", help=text)
    overhead.add_argument(
        "suite", metavar="SUITE", nargs="?", default="overhead", help="default: %(default)s"
    )
    overhead.add_argument("--only", metavar="GLOB", help="only measurements whose name matches")
    overhead.add_argument("--results", default=RESULTS, metavar="DIR", help="default: %(default)s")
    overhead.set_defaults(command=_overhead)

    report = commands.add_parser("report", help="write a suite's report from its records")
    place = "a folder of results, a suite's name, or a suite file"
    report.add_argument("suite", metavar="SUITE", help=place)
    report.add_argument("--results", default=RESULTS, metavar="DIR", help="default: %(default)s")
    report.set_defaults(command=_report)

    text = "judge results against earlier ones of the same suite; exit code 1 on a regression"
    compare = commands.add_parser("compare", help=text)
    for side in ("baseline", "candidate"):
        compare.add_argument(side, metavar=side.upper(), help=place)
    text = "only runs whose EXPERIMENT--ADAPTER--sSEED, and measurements of overhead whose name matches"
    compare.add_argument("--only", metavar="GLOB", help=text)
    compare.add_argument("--all", action="store_true", help="list what did not get worse, too")
    text = "where suites are looked up by name; default: %(default)s"
    compare.add_argument("--results", default=RESULTS, metavar="DIR", help=text)
    compare.set_defaults(command=_compare)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _list(options: argparse.Namespace) -> int:
    from rankbench import adapters, tasks
    from rankbench.bench.suite import suite_names

    names = {"adapters": adapters.names, "tasks": tasks.names, "suites": suite_names}[options.kind]()
    print("\n".join(names))
    return 0


def _specs(options: argparse.Namespace) -> list:
    from rankbench.bench.suite import ConfigError, load_suite, plan

    suite = load_suite(options.suite)
    specs = list(plan(suite, only=options.only, seeds=options.seeds))
    if options.only and not specs:
        raise ConfigError(
            f"--only {options.only!r} matches no run; `rankbench plan {options.suite}` lists them"
        )
    return specs


def _plan(options: argparse.Namespace) -> int:
    from rankbench.bench.cost.estimate import ASSUMPTION, estimate
    from rankbench.bench.suite import load_suite

    rows: dict[tuple[str, str], list] = {}
    layers: dict[str, dict[str, int]] = {}
    for spec in _specs(options):
        key = (spec.experiment, spec.label)
        if key in rows:
            rows[key][4] += 1
            continue
        cost = estimate(spec)
        layers[spec.experiment] = cost.layers
        rows[key] = [
            *key,
            spec.model.name,
            spec.training.steps,
            1,
            cost.parameters,
            cost.seconds,
            cost.memory,
            cost.gpu_hours,
        ]
    headers = ["experiment", "adapter", "model", "steps", "runs", "parameters"]
    headers += ["seconds a run", "MiB", "GPU-hours a run"]
    formats = (*[""] * 6, ".0f", ",.0f", ",.3f")
    print(tabulate(rows.values(), headers, floatfmt=formats, intfmt=","))
    print()
    for experiment, entries in layers.items():
        named = ", ".join(f"{entry} {count}" for entry, count in entries.items())
        print(f"layers that the targets of {experiment} name: {named}")
    runs = sum(row[4] for row in rows.values())
    minutes, gpu_hours = (sum(row[4] * row[i] for row in rows.values()) for i in (6, 8))
    print(f"\n{runs} runs, about {minutes / 60:.0f} minutes of training here (estimate; without scoring)")
    print(f"or about {gpu_hours:,.2f} GPU-hours; {ASSUMPTION}")
    if overhead := load_suite(options.suite).overhead:
        print(f"overhead measurements: {', '.join(overhead)}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from rankbench.bench.models import build as models
    from rankbench.bench.run.identity import make_task

    for spec in _specs(options):
        task = make_task(spec)
        task.fetch()
        if task.head.kind != "own":
            models.fetch(spec.model)
    print("everything is there")
    return 0


def _run(options: argparse.Namespace) -> int:
    from rankbench.bench.backends.here import Options, execute
    from rankbench.bench.records import Folders
    from rankbench.bench.suite import load_suite
    from rankbench.tasks.data.hub import resolve_mirror

    _collect_from_here()
    suite = load_suite(options.suite)
    specs = _specs(options)
    resolve_mirror(None)
    folders = Folders(Path(options.results) / suite.name)
    with _interruptible() as stopped:
        outcome = execute(
            suite,
            specs,
            folders,
            stopped,
            Options(
                with_overhead=options.only is None,
                checkpoint_seconds=options.checkpoint_every,
                retry_failed=options.retry_failed,
                keep_old_versions=options.keep_old_versions,
            ),
        )
    if outcome.interrupted:
        again = f"rankbench run {options.suite}"
        print(
            f"rankbench: interrupted; nothing is lost, `{again}` with the same options goes on",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(f"runs: {outcome.finished} done, {outcome.skipped} there already, {outcome.failed} failed")
    if outcome.failed:
        print(f"why, and where in the code: {folders.root / 'failed'}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _overhead(options: argparse.Namespace) -> int:
    from rankbench.bench.cost.measuring import measure_all
    from rankbench.bench.progress import Progress
    from rankbench.bench.records import Folders
    from rankbench.bench.records.store import set_baseline
    from rankbench.bench.run.train import Interrupted
    from rankbench.bench.suite import ConfigError, load_suite

    _collect_from_here()
    suite = load_suite(options.suite)
    if not suite.overhead:
        raise ConfigError(
            f"suite {suite.name} has no overhead block; `rankbench overhead` alone measures the built-in one"
        )
    names = fnmatch.filter(suite.overhead, options.only or "*")
    if not names:
        known = ", ".join(suite.overhead)
        raise ConfigError(
            f"--only {options.only!r} matches no measurement of {suite.name}; there are: {known}"
        )
    folders = Folders(Path(options.results) / suite.name)
    folders.check_writable()
    set_baseline(folders, suite.baseline)
    progress = Progress(len(names))
    with _interruptible() as stopped:
        try:
            failed = measure_all(suite, names, folders, progress, stopped, again=True)
        except Interrupted:
            print("rankbench: interrupted; finished processes of a measurement are kept", file=sys.stderr)
            return INTERRUPTED
        finally:
            progress.close()
    _write_report(folders.root)
    return 1 if failed else 0


def _report(options: argparse.Namespace) -> int:
    from rankbench.bench.records import Folders
    from rankbench.bench.records.store import set_baseline
    from rankbench.bench.suite import load_suite, names_suite, results_folder

    folder = results_folder(options.suite, Path(options.results))
    if names_suite(options.suite):  # a folder stands for itself
        set_baseline(Folders(folder), load_suite(options.suite).baseline)
    _write_report(folder)
    return 0


def _write_report(folder: Path) -> None:
    """Prints where the page is, and the Markdown beside it."""
    from rankbench import reports

    markdown = reports.write(folder)
    print(markdown.with_suffix(".html"), markdown, sep="\n")


def _compare(options: argparse.Namespace) -> int:
    from rankbench.bench.suite import results_folder
    from rankbench.reports.compare.judge import compare
    from rankbench.reports.compare.page import page
    from rankbench.reports.frames import load

    results = Path(options.results)
    baseline, candidate = (
        results_folder(options.baseline, results),
        results_folder(options.candidate, results),
    )
    found = compare(load(baseline), load(candidate), options.only)
    print(page(found, str(baseline), str(candidate), everything=options.all))
    return 1 if found.regressed else 0


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
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
