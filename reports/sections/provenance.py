"""With which code, packages and machines the records were made."""

from __future__ import annotations

from collections import Counter

from rankbench.bench.records import OverheadRecord, RunRecord
from rankbench.reports.frames import Suite, flatten
from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.markdown import literal
from rankbench.reports.render.numbers import MISSING, short_hashes
from rankbench.reports.stats.evidence import counted
from rankbench.reports.study import Study

PLUGINS = {"plugins"}
"""Of a record's identity: the hashes of the files that its adapter, task or metric comes from."""
LONGEST = 60
"""Characters of a value; random weights, for one, are named by a whole configuration."""


def section(study: Study) -> Section | None:
    """Each distinct value once, with the number of records that have it."""
    suite = study.suite
    records: list[RunRecord | OverheadRecord] = [*suite.records, *suite.tried, *suite.overhead]
    blocks = [
        flatten(one.provenance | {key: one.identity[key] for key in PLUGINS & one.identity.keys()})
        for one in records
    ]
    rows = []
    for field in sorted({field for block in blocks for field in block}):
        seen: Counter[str] = Counter()
        for value, count in Counter(block.get(field, MISSING) for block in blocks).items():
            seen[short_hashes(value)] += count
        told = {
            value: literal(value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…") for value in seen
        }
        values = [f"{told[each]} ({seen[each]})" if len(seen) > 1 else told[each] for each in sorted(seen)]
        rows.append([field, ", ".join(values)])
    note = (
        f"Distinct values over {counted(len(blocks), 'record')} (with counts where they differ); hashes by "
        "their first twelve digits."
    )
    if suite.tried:
        note += f" {_hours(suite)}"
    return Section("Provenance", [note, Table(["field", "values"], rows, words=2)]) if rows else None


def _hours(suite: Suite) -> str:
    """Of processes, one beside the other or not, restarts included."""
    results, trials = (
        sum(record.timings.total for record in records) / 3600 for records in (suite.records, suite.tried)
    )
    return f"The runs took {results + trials:.1f} hours, of which their trials {trials:.1f}."
