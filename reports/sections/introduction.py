"""What the report is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

from rankbench.bench.records import LOOP_VERSION, SCHEMA_VERSION, is_trial
from rankbench.reports.render.blocks import Section
from rankbench.reports.render.words import words
from rankbench.reports.stats.evidence import counted
from rankbench.reports.study import Study


def section(study: Study) -> Section:
    """How many records of what, and which of them need a word."""
    return Section("What this report is made from", [*_paragraphs(study)])


def _paragraphs(study: Study) -> Iterator[str]:
    suite, records = study.suite, study.suite.records
    said = partial(words, "introduction", suite=suite.name, runs=len(records))
    yield said(
        adapters=len({record.adapter for record in records}),
        tasks=len({record.task for record in records}),
        failed=sum(not is_trial(failure) for failure in suite.failures),
        overhead=len(suite.overhead),
    )
    if study.beside:
        yield said("beside")
    if suite.tried:
        yield said("trials", trials=counted(len(suite.tried), "trial"))
    if others := len(records) - len(study.shown.records):
        yield said("sweep", others=others)
    schemas = sum(record.schema_version < SCHEMA_VERSION for record in records)
    loops = sum(record.protocol.get("loop_version", LOOP_VERSION) < LOOP_VERSION for record in records)
    if schemas or loops:
        yield said("earlier", schemas=schemas, schema=SCHEMA_VERSION, loops=loops, loop=LOOP_VERSION)
    taken = Counter(record.provenance.get("taken_over_from") for record in records)
    if named := [f"{count} of `{name}`" for name, count in sorted(taken.items(), key=str) if name]:
        yield said("taken", suites=", ".join(named))
