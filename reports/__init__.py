"""Records to Markdown, figures and a page: pure functions of a suite's folder, without torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rankbench.bench.records import write_atomically
from rankbench.reports.frames.collector import uncollected
from rankbench.reports.render.blocks import pictures
from rankbench.reports.render.html import html
from rankbench.reports.render.limits import limited
from rankbench.reports.render.markdown import document
from rankbench.reports.render.svg import svg
from rankbench.reports.sections import all_sections
from rankbench.reports.study import Study

__all__ = ["write"]


def write(suite_folder: Path, beside: Path | None = None) -> Path:
    """Write `report.md`, `report.html` and `figures/*.svg` of a suite's records; return the first's path.

    `beside`: a folder of other records, which a section sets beside these.

    The same records give the same bytes; figures that the records no longer give are removed.
    Raises RecordError if there are no records, or one of them is unreadable.
    """
    with uncollected(partial(Study.read, suite_folder, beside)) as study:
        return _written(study, suite_folder)


def _written(study: Study, suite_folder: Path) -> Path:
    title = f"rankbench: {study.suite.name}"
    made = {name: limited(section) for name, section in all_sections(study).items()}
    figures = suite_folder / "figures"
    drawn = {f"{picture.name}.svg": svg(picture.figure) for picture in pictures([*made.values()])}
    for name, image in drawn.items():
        write_atomically(figures / name, image)
    report = suite_folder / "report.md"
    write_atomically(report, document(title, made).encode())
    write_atomically(suite_folder / "report.html", html(title, made).encode())
    for stale in set(figures.glob("*.svg")) - {figures / name for name in drawn}:
        stale.unlink()
    return report
