"""Records to Markdown, figures and a page: pure functions of a suite's folder, without torch."""

from __future__ import annotations

from pathlib import Path

from rankbench.bench.records.schema import write_atomically
from rankbench.reports.frames import load
from rankbench.reports.page import page, parts
from rankbench.reports.render.html import html
from rankbench.reports.stats.sweep import chosen_trials

__all__ = ["write"]


def write(suite_folder: Path) -> Path:
    """Write `report.md`, `report.html` and `figures/*.svg` of a suite's records; return the first's path.

    The same records give the same bytes; figures that the records no longer give are removed.
    Raises RecordError if there are no records, or one of them is unreadable.
    """
    suite = load(suite_folder)
    made = parts(suite)
    content = page(made)
    figures = suite_folder / "figures"
    for name, image in content.figures.items():
        write_atomically(figures / name, image)
    report = suite_folder / "report.md"
    write_atomically(report, content.text.encode())
    write_atomically(suite_folder / "report.html", html(chosen_trials(suite), made).encode())
    for stale in set(figures.glob("*.svg")) - {figures / name for name in content.figures}:
        stale.unlink()
    return report
