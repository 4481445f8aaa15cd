"""The page: what a suite's records say, section by section."""

from __future__ import annotations

from reports import accuracy, beside, convergence, diagnostics, overhead, plot, provenance, sweep, verdicts
from reports.claims import load_claims
from reports.load import Suite
from reports.markdown import Section, paragraphs
from reports.published import PUBLISHED, load


def page(suite: Suite) -> Section:
    """The whole report of a suite, a pure function of its records."""
    styles = plot.styles(suite)
    sections = [
        Section(_introduction(suite)),
        accuracy.leaderboard(suite),
        accuracy.tasks(suite),
        convergence.convergence(suite, styles),
        sweep.rank_sweep(suite, styles),
        overhead.overhead(suite, styles),
        diagnostics.ranks(suite, styles),
        diagnostics.scalars(suite),
        diagnostics.merge_parity(suite),
        *_papers(suite),
        provenance.protocol(suite),
        provenance.times(suite),
        provenance.provenance(suite),
        provenance.failures(suite),
    ]
    figures = {name: content for section in sections for name, content in section.figures.items()}
    return Section(paragraphs(*(section.text for section in sections)) + "\n", figures)


def _papers(suite: Suite) -> list[Section]:
    """What the records say of the papers. Their figures lie beside the sources, so an installed copy
    without them has nothing to compare with; nor have runs of one seed, a sweep's for instance."""
    if not PUBLISHED.is_dir() or len({record.seed for record in suite.records}) < 2:
        return []
    return [verdicts.section(suite, load_claims()), beside.section(suite, load())]


def _introduction(suite: Suite) -> str:
    tasks = {group.task for group in suite.groups}
    adapters = {record.adapter for record in suite.records}
    return paragraphs(
        f"# rankbench: {suite.name}",
        "This page compares low-rank adapters that were trained by one loop, on the same data, under the "
        f"protocol at the end. It is made from the records of the suite `{suite.name}` "
        f"(adapters: {len(adapters)}, tasks: {len(tasks)}, finished runs: {len(suite.records)}, failed: "
        f"{len(suite.failures)}, overhead measurements: {len(suite.overhead)}); `rankbench report "
        f"{suite.name}` writes it again, byte for byte.",
    )
