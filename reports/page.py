"""The page: what a suite's records say, section by section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from rankbench.reports.claims.published import PUBLISHED, found_papers, load, load_papers
from rankbench.reports.claims.schema import load_claims
from rankbench.reports.frames import Suite
from rankbench.reports.render import plot
from rankbench.reports.render.markdown import Section, paragraphs
from rankbench.reports.sections import (
    accuracy,
    beside,
    convergence,
    diagnostics,
    extensions,
    overhead,
    paper_figures,
    paper_tables,
    provenance,
    tuning,
    verdicts,
)
from rankbench.reports.sections import rank_sweep as sweep
from rankbench.reports.stats.evidence import StatsError
from rankbench.reports.stats.sweep import chosen_trials


def page(sections: Mapping[str, Section]) -> Section:
    """The whole report in Markdown."""
    figures = {name: image for section in sections.values() for name, image in section.figures.items()}
    return Section(paragraphs(*(section.text for section in sections.values())) + "\n", figures)


def parts(suite: Suite) -> dict[str, Section]:
    """Every part of a suite's report by its anchor, in order: a pure function of the records."""
    shown = chosen_trials(suite)
    styles = plot.styles(shown)
    made: dict[str, tuple[str, Callable[[], Section]]] = {
        "introduction": ("Introduction", lambda: Section(_introduction(suite, shown))),
        "leaderboard": ("Leaderboard", lambda: accuracy.leaderboard(shown)),
        **_papers(shown),
        "scores": ("Scores by task", lambda: accuracy.tasks(shown)),
        "convergence": ("Convergence", lambda: convergence.convergence(shown, styles)),
        "rank-sweep": ("Rank sweep", lambda: sweep.rank_sweep(shown, styles)),
        "tuning": ("Learning rates", lambda: tuning.tuning(suite)),
        "overhead": ("Overhead", lambda: overhead.overhead(shown, styles)),
        "diagnostics": ("Other diagnostics", lambda: diagnostics.scalars(shown)),
        "merge-parity": ("Merge parity", lambda: diagnostics.merge_parity(shown)),
        "paper-figures": (
            "The papers' figures",
            lambda: paper_figures.section(shown, styles, found_papers()),
        ),
        "extensions": ("Beyond the papers", lambda: extensions.extensions(shown)),
        "protocol": ("Protocol", lambda: provenance.protocol(suite)),
        "trained": ("What was trained", lambda: provenance.trained(shown)),
        "settings": ("Settings of the methods", lambda: provenance.settings(shown)),
        "times": ("Time and memory of the runs", lambda: provenance.times(suite)),
        "provenance": ("Provenance", lambda: provenance.provenance(suite)),
        "failures": ("Failures", lambda: provenance.failures(suite)),
    }
    return {anchor: _section(title, make) for anchor, (title, make) in made.items()}


def _section(title: str, make: Callable[[], Section]) -> Section:
    """Data that a test cannot take leave one line in place of its section, and the others whole."""
    try:
        return make()
    except StatsError as error:
        return Section(f"## {title}\n\nNot shown: {error}.")


def _papers(suite: Suite) -> dict[str, tuple[str, Callable[[], Section]]]:
    """What the records say of the papers. Their figures lie beside the sources, so an installed copy
    without them has nothing to compare with; nor have runs of one seed, a sweep's for instance."""
    one_seed = len({record.seed for record in suite.records}) == 1
    if not PUBLISHED.is_dir() or one_seed:
        return {}
    figures = load()
    return {
        "verdicts": ("Do the papers hold?", lambda: verdicts.section(suite, load_claims())),
        "paper-tables": ("The papers' tables", lambda: paper_tables.section(suite, load_papers(), figures)),
        "published": ("Beside the papers' figures", lambda: beside.section(suite, figures)),
    }


def _introduction(suite: Suite, shown: Suite) -> str:
    left_out = len(suite.records) - len(shown.records)
    others = Counter(record.provenance.get("taken_over_from") for record in suite.records)
    taken = [f"{count} of `{name}`" for name, count in sorted(others.items(), key=str) if name]
    tasks = {group.task for group in suite.groups}
    adapters = {record.adapter for record in suite.records}
    return paragraphs(
        f"# rankbench: {suite.name}",
        "This page compares low-rank adapters that were trained by one loop, on the same data, under the "
        f"protocol at the end. It is made from the records of the suite `{suite.name}` "
        f"(adapters: {len(adapters)}, tasks: {len(tasks)}, finished runs: {len(suite.records)}, failed: "
        f"{len(suite.failures)}, overhead measurements: {len(suite.overhead)}) and nothing else: "
        f"`rankbench report {suite.name} --results FOLDER`, FOLDER being where `{suite.name}` lies, "
        "writes it again, byte for byte.",
        "Of the trials of a sweep only each method's best on the selection slice is shown; the other "
        f"{left_out} stand under Learning rates and Time and memory."
        if left_out
        else "",
        provenance.earlier(suite),
        f"Taken over from other suites, and no evidence beside theirs: {', '.join(taken)}." if taken else "",
    )
