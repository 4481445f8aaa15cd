"""Commands that read records: a suite's report, and its comparison with earlier results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from rankbench.bench.cli import completing
from rankbench.bench.cli.options import RESULTS, Json, Results, print_json

if TYPE_CHECKING:
    from rankbench.bench.suite import Suite

PLACE = "a folder of results, a suite's name, or a suite file"
BESIDE = "other records that a section of the report sets beside these: as SUITE says where"
ONLY = "only runs whose EXPERIMENT--ADAPTER--sSEED matches, and measurements whose name does"


def report(
    suite: Annotated[str, Argument(metavar="SUITE", help=PLACE, autocompletion=completing.places)],
    beside: Annotated[
        str | None, Option(metavar="PLACE", help=BESIDE, autocompletion=completing.places)
    ] = None,
    results: Results = RESULTS,
) -> int:
    """Write a suite's report from its records."""
    from rankbench.bench.records import Folders, RecordError
    from rankbench.bench.records.store import tell
    from rankbench.bench.suite import load_suite, names_suite

    folder = results_folder(suite, results)
    other = None if beside is None else results_folder(beside, results)
    if other and other.resolve() == folder.resolve():
        raise RecordError(f"--beside {beside}: these are the report's own records; name others")
    if names_suite(suite):  # a folder stands for itself
        said = load_suite(suite)
        tell(Folders(folder), said.baseline, said.stages)
        if left := _left_over(said, folder):
            told = "; it counts all the same: delete its records, or give the report a folder without them"
            print(f"note: {suite} has no {', '.join(left)}{told}", file=sys.stderr)
        if late := _beyond(said, folder):
            told = "seeds that are no part of its plan do not count"
            print(f"note: {suite} runs no {', '.join(late)}: {told}", file=sys.stderr)
    write_report(folder, other)
    return 0


def _left_over(suite: Suite, folder: Path) -> list[str]:
    """EXPERIMENT--ADAPTER of runs that lie there, of before the suite was changed."""
    from rankbench.bench.suite import plan
    from rankbench.bench.suite.tuning import trials_of

    due = {f"{spec.experiment}--{spec.label}" for spec in plan(suite)} - _unchosen(suite, folder)
    trials = tuple(f"{trials_of(name)}--" for name in suite.experiments)
    there = {path.stem.rpartition("--")[0] for path in (folder / "runs").glob("*.json")}
    return sorted(name for name in there - due if not name.startswith(trials))


def _unchosen(suite: Suite, folder: Path) -> set[str]:
    """EXPERIMENT--ADAPTER of methods of which no trial has finished, while others' have: no run is made of
    them."""
    from rankbench.bench.records.store import Folders
    from rankbench.bench.suite.tuning import space_of
    from rankbench.bench.tune.choices import read

    path = Folders(folder).choices
    choices = read(path) if path.exists() else {}
    return {
        f"{name}--{label}"
        for name, chosen in choices.items()
        if (one := suite.experiments.get(name)) and one.tune
        for label, spec in one.adapters.items()
        if label not in chosen and space_of(spec, one.tune)
    }


def _beyond(suite: Suite, folder: Path) -> list[str]:
    """Runs that lie there with a seed beyond the most that their experiment's stages come to."""
    found = []
    for path in sorted((folder / "runs").glob("*.json")):
        entry, _, seed = path.stem.rpartition("--s")
        stages = suite.stages.get(entry.partition("--")[0])
        if stages and seed.isdecimal() and int(seed) >= stages[-1]:
            found.append(path.stem)
    return found


def write_report(folder: Path, beside: Path | None = None) -> None:
    """Prints where the page is, and the Markdown beside it. Raises ConfigError where a package is missing
    that a machine for training need not have."""
    try:
        from rankbench import reports
    except ModuleNotFoundError as error:
        from rankbench.bench.suite import ConfigError

        told = f"a report needs {error.name}; `rankbench report {folder}` where that is installed"
        raise ConfigError(told) from None
    markdown = reports.write(folder, beside)
    print(markdown.with_suffix(".html"), markdown, sep="\n")


def compare(
    baseline: Annotated[str, Argument(metavar="BASELINE", help=PLACE, autocompletion=completing.places)],
    candidate: Annotated[str, Argument(metavar="CANDIDATE", help=PLACE, autocompletion=completing.places)],
    only: Annotated[str | None, Option(metavar="GLOB", help=ONLY)] = None,
    everything: Annotated[bool, Option("--all", help="list what did not get worse, too")] = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> int:
    """Judge results against earlier ones; exit code 1 on a regression."""
    from rankbench.reports.compare.as_json import as_json as told
    from rankbench.reports.compare.judge import compare as judge
    from rankbench.reports.compare.page import page
    from rankbench.reports.frames import load

    before, after = results_folder(baseline, results), results_folder(candidate, results)
    found = judge(load(before, beyond_plan=True), load(after, beyond_plan=True), only)
    if as_json:
        print_json(told(found, str(before), str(after)))
    else:
        print(page(found, str(before), str(after), everything=everything))
    return 1 if found.regressed else 0


def results_folder(word: str, place: str | Path) -> Path:
    """A folder of records: a path or a URL, or under `place` the folder of a suite, by its name or its file.

    Raises RecordError where there are no records, ConfigError for a broken suite file.
    """
    from rankbench.bench.records import RecordError
    from rankbench.bench.records.remote import is_url
    from rankbench.bench.records.store import holds_records, to_read

    if is_url(word):
        if holds_records(fetched := to_read(word)):
            return fetched
        raise RecordError(f"no records under {word}")
    results = to_read(place)

    is_file, name = Path(word).suffix in {".yaml", ".yml"}, word
    if is_file:  # read where one is named alone: a suite takes PyTorch
        from rankbench.bench.suite import load_suite

        name = load_suite(word).name
    by_name = results / name
    places = [Path(word), by_name] if word else []
    for folder in places:
        if holds_records(folder):
            return folder
    from rankbench.adapters.errors import nearest
    from rankbench.bench.suite import suite_names

    there = [place for place in places if place.is_dir()]
    folder = there[0] if there else by_name
    if is_file or folder.name in suite_names():
        suite = word if is_file else folder.name
        shown = f"{place}/{name}" if folder == by_name else folder
        raise RecordError(f"no records under {shown}; run `rankbench run {suite}` first")
    beside = Path(word).parent if Path(word).parent.name else results
    known = sorted(str(Path(word).parent / path.name) for path in beside.glob("*/") if holds_records(path))
    if there:
        raise RecordError(f"no records under {folder}; known: {', '.join(known) or 'none'}")
    raise RecordError(f"no folder of results {word!r}{nearest(word, known)}")
