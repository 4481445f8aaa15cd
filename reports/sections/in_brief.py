"""What was compared, on what, and the answers."""

from __future__ import annotations

from collections import Counter

from rankbench.reports.render.blocks import Section
from rankbench.reports.sections import provenance
from rankbench.reports.study import Study


def section(study: Study) -> Section:
    """What a reader takes home."""
    return Section("In brief", [part for part in _about(study) if part])


def _about(study: Study) -> list[str]:
    suite = study.suite
    left_out = len(suite.records) - len(study.shown.records)
    others = Counter(record.provenance.get("taken_over_from") for record in suite.records)
    taken = [f"{count} of `{name}`" for name, count in sorted(others.items(), key=str) if name]
    tasks = {group.task for group in suite.groups}
    adapters = {record.adapter for record in suite.records}
    return [
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
    ]
