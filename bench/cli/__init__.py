"""The command line: `rankbench` or `python -m rankbench.bench`.

Exit codes: 0 done; 1 some runs failed (they are in the report), or `compare` found a regression;
2 a mistake to mend, in one line; 130 interrupted, resumable.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.completion import shell_complete

from rankbench.bench.cli import (
    checking,
    exporting,
    gpu,
    merging,
    new,
    plans,
    power,
    results,
    runs,
    showing,
    tuning,
)
from rankbench.bench.cli.options import INTERRUPTED
from rankbench.bench.console import print_anywhere

COMPLETE = "_RANKBENCH_COMPLETE"
"""What the shell asks at a TAB, by the script of `rankbench --install-completion`."""

# What a command needs is imported in it, so that --help and a typo answer at once.
app = typer.Typer(rich_markup_mode=None)
app.command("list")(plans.names)
app.command()(plans.plan)
app.command()(plans.fetch)
app.command()(runs.run)
app.command()(tuning.tune)
app.command()(runs.overhead)
app.command()(results.report)
app.command()(power.power)
app.command()(results.compare)
app.command()(showing.show)
app.command()(exporting.export)
app.command()(exporting.score)
app.command()(merging.merge)
app.command()(checking.check)
app.command()(gpu.gpu_check)
app.command()(new.new)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"rankbench {version('rankbench')}")
        raise typer.Exit


@app.callback()
def _rankbench(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="print it and exit")
    ] = False,
) -> None:
    """Benchmark and reproduce LoRA variants."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    print_anywhere()
    # Importing leaves little garbage: the collector, off until a command has all it needs, would only walk
    # the modules over and over.
    gc.disable()
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("rankbench: interrupted", file=sys.stderr)
        return INTERRUPTED
    except typer.TyperException as mistake:
        message = " ".join(mistake.format_message().replace("Value error, ", "").split())
        print(f"rankbench: {message} (see rankbench --help)", file=sys.stderr)
        return 2
    except Exception as error:
        if not (told := str(error) if _is_told_in_one_line(error) else _of_a_plugin(error)):
            raise
        print(f"rankbench: {told}", file=sys.stderr)
        return 2
    finally:
        gc.enable()


def _run(words: list[str]) -> int:
    # Not `app()`: it would end on Ctrl-C and on a closed pipe by itself.
    command = typer.main.get_command(app)
    if tab := os.environ.get(COMPLETE):
        return shell_complete(command, {}, "rankbench", COMPLETE, tab)
    try:
        with command.make_context("rankbench", [*words] or ["--help"]) as context:
            code: int = command.invoke(context)
            return code
    except typer.Exit as asked:
        return asked.exit_code
    except OSError as error:
        if "--install-completion" not in words:
            raise
        raise typer.TyperException(f"cannot install completion: {error}") from error


def _of_a_plugin(error: Exception) -> str:
    """What a plug-in's own code raised, with its file and line; empty where it was none."""
    from rankbench.bench.plugins.loading import blamed

    return blamed(error)


def _is_told_in_one_line(error: Exception) -> bool:
    from rankbench import adapters, tasks
    from rankbench.bench.records import RecordError
    from rankbench.bench.suite import ConfigError

    if isinstance(error, (ConfigError, RecordError, adapters.AdapterError, tasks.TaskError)):
        return True
    if "rankbench.reports" not in sys.modules:  # a machine that only trains may lack what reports need
        return False
    from rankbench.reports.claims.published import PublishedError
    from rankbench.reports.stats.evidence import StatsError

    return isinstance(error, (PublishedError, StatsError))
