"""The command that puts folders of results together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

FROM = "results of one suite, or folders of results with a folder a suite"
INTO = "where all lies then, of the same kind as DIR; it may hold results already"
KEEP = "of one run with different results, take what INTO or else the first DIR has"


def of_this_machine(text: str) -> Path:
    """A folder. Raises BadParameter for a URL."""
    from rankbench.bench.records.remote import is_url

    if is_url(text):
        raise BadParameter(f"{text} is a URL; results are merged in folders")
    return Path(text)


def merge(
    folders: Annotated[list[Path], Argument(parser=of_this_machine, metavar="DIR...", help=FROM)],
    into: Annotated[Path, Option(parser=of_this_machine, metavar="DIR", help=INTO)],
    keep: Annotated[Literal["first"] | None, Option(help=KEEP)] = None,
) -> int:
    """Put results of several people or machines together, each run once."""
    from rankbench.bench.records.merge import gather, write
    from rankbench.reports.stats.items import check_predictions

    gathered = {
        target: gather(sources, target, check_predictions, keep_first=keep is not None)
        for target, sources in _targets(folders, into).items()
    }
    for target, found in gathered.items():
        written = write(found, target)
        print(*found.left_out, sep="\n", end="\n" if found.left_out else "")
        held = f"{len(found.runs)} runs, {len(found.failures)} failures, {len(found.overhead)} measurements"
        print(f"{target}: {held}; {written} of them new")
    return 0


def _targets(folders: Sequence[Path], into: Path) -> dict[Path, list[Path]]:
    """Target -> the suite's folders that go into it. Raises RecordError where there is nothing to merge, and
    where a suite's folder and one of several suites are named."""
    from rankbench.bench.records import RecordError
    from rankbench.bench.records.store import holds_records

    def suites_in(folder: Path) -> list[Path]:
        return [path for path in sorted(folder.glob("*/")) if holds_records(path)]

    named = [*folders, into] if holds_records(into) or suites_in(into) else folders
    alone = [folder for folder in named if holds_records(folder)]
    if others := [folder for folder in named if alone and folder not in alone]:
        raise RecordError(f"{alone[0]} holds one suite's results, {others[0]} does not; merge like with like")
    if alone:
        return {into: list(folders)}
    targets: dict[Path, list[Path]] = {}
    for folder in folders:
        suites = suites_in(folder)
        if not suites:
            raise RecordError(f"no results in {folder}")
        for suite in suites:
            targets.setdefault(into / suite.name, []).append(suite)
    return targets
