"""Under which conditions the numbers were made: protocol, time, provenance, failures."""

from __future__ import annotations

import re
import statistics
from collections import Counter

from rankbench.bench.records.schema import LOOP_VERSION, SCHEMA_VERSION
from rankbench.reports.frames import Group, Suite, flatten, in_order
from rankbench.reports.render.markdown import MISSING, Section, literal, number, paragraphs, table
from rankbench.reports.stats.evidence import counted

HASH = re.compile(r"[0-9a-f]{40,}")


def protocol(suite: Suite) -> Section:
    """Protocol fields × tasks; what they share is told once."""
    if not suite.groups:
        return Section("")
    fields = sorted({field for group in suite.groups for field in group.protocol})
    rows = [
        [field, *(_short(group.protocol.get(field, MISSING)) for group in suite.groups)] for field in fields
    ]
    names = [group.name for group in suite.groups]
    shared = [(row[0], row[1]) for row in rows if len(set(row[1:])) == 1]
    parts = ["Two runs whose protocols differ never share a column above."]
    parts += [text for group in suite.groups for text in _short_splits(group)]
    if len(names) > 1 and shared:
        rows = [row for row in rows if len(set(row[1:])) > 1]
        parts.append(f"Of all tasks: {'; '.join(f'{field} {value}' for field, value in shared)}.")
    if rows:
        parts.append(table(["field", *names], rows, words=1 + len(names)))
    return Section(paragraphs("## Protocol", *parts))


def _short_splits(group: Group) -> list[str]:
    """What was asked of splits that have fewer items: the protocol holds what was used."""
    texts = {}
    for record in group.records:
        options = record.config.get("task", {}).get("options", {})
        for split, used in record.protocol.get("sizes", {}).items():
            asked = options.get(split)
            if isinstance(asked, int) and asked > used:
                texts[split, asked] = (
                    f"`{group.name}` was asked for {asked} {split} items and has {used}: all were used."
                )
    return list(texts.values())


def trained(suite: Suite) -> Section:
    """The layers that each entry of the targets names, and what is trained whole; equal ones share a row."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for group in suite.groups:
        for label in group.runs:
            first = group.first(label)
            layers = ", ".join(f"{count} by `{entry}`" for entry, count in first.layers.items())
            rows.setdefault((group.name, layers or MISSING, ", ".join(first.heads) or MISSING), []).append(
                label
            )
    if not any(record.layers for record in suite.records):
        return Section("")
    header = ["task", "layers by entry of the targets", "trained whole", "adapters"]
    cells = [[*row, ", ".join(labels)] for row, labels in rows.items()]
    note = "Trained whole beside the adapter: what the checkpoint does not hold, or a head that was kept."
    return Section(paragraphs("## What was trained", note, table(header, cells, words=4)))


def settings(suite: Suite) -> Section:
    """Hyperparameters of the methods, adapters × tasks."""
    rows = [
        [adapter, *(_given(group, adapter) for group in suite.groups)]
        for adapter in in_order(record.adapter for record in suite.records)
    ]
    if not rows:
        return Section("")
    note = (
        "What each method has of its own beside the protocol; "
        "where it was chosen is said in the suite's file."
    )
    names = [group.name for group in suite.groups]
    return Section(
        paragraphs("## Settings of the methods", note, table(["adapter", *names], rows, words=1 + len(names)))
    )


def _given(group: Group, adapter: str) -> str:
    one = group.contenders.get(adapter)
    if not one:
        return MISSING
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in one.settings.items())


def times(suite: Suite) -> Section:
    """Seconds as the runs took them, for planning."""
    if not suite.groups:
        return Section("")
    rows = []
    for group in suite.groups:
        for adapter, runs in group.runs.items():
            timings = [run.timings for run in runs.values()]
            means = [
                statistics.fmean(values)
                for values in zip(
                    *((t.median_step * 1000, t.train, t.score, t.total) for t in timings), strict=True
                )
            ]
            peak = max(run.memory.peak_resident for run in runs.values())
            rows.append(
                [group.name, adapter, str(len(timings)), *(f"{mean:,.1f}" for mean in means), f"{peak:,.0f}"]
            )
    header = ["task", "adapter", "runs", "step, ms", "training, s", "scoring, s", "total, s", "peak MiB"]
    total = sum(record.timings.total for record in suite.records)
    note = (
        f"In all {number(total)} s. Means over the seeds, the peak the "
        "largest. Runs may have shared the machine: these are no comparison, which is under Overhead."
    )
    return Section(paragraphs("## Time and memory of the runs", note, table(header, rows, words=2)))


def provenance(suite: Suite) -> Section:
    """Each distinct value once, with the number of records that have it."""
    blocks = [flatten(run.provenance) for run in suite.records]
    blocks += [flatten(measurement.provenance) for measurement in suite.overhead]
    fields = sorted({field for block in blocks for field in block})
    rows = []
    for field in fields:
        seen = Counter(_short(block.get(field, MISSING)) for block in blocks)
        values = [f"{value} ({count})" if len(seen) > 1 else value for value, count in sorted(seen.items())]
        rows.append([field, ", ".join(values)])
    if not rows:
        return Section("")
    note = (
        f"Distinct values over {counted(len(blocks), 'record')} (with counts where they differ); hashes by "
        "their first twelve digits."
    )
    return Section(paragraphs("## Provenance", note, table(["field", "values"], rows, words=2)))


def earlier(suite: Suite) -> str:
    """One line where records were written by an earlier version of the schema or of the loop."""
    old = [record for record in suite.records if record.schema_version < SCHEMA_VERSION]
    loops = [one for one in suite.records if one.protocol.get("loop_version", LOOP_VERSION) < LOOP_VERSION]
    if not (old or loops):
        return ""
    return (
        f"**Records of earlier versions of rankbench**: of {len(suite.records)}, {len(old)} are of an "
        f"earlier schema than {SCHEMA_VERSION}, {len(loops)} of an earlier training loop than "
        f"{LOOP_VERSION}; `rankbench run {suite.name}` does their runs again."
    )


def failures(suite: Suite) -> Section:
    """Runs that ended without a result; they count nowhere above."""
    rows = [
        [
            failure.task,
            failure.adapter or MISSING,
            *(MISSING if value is None else str(value) for value in (failure.seed, failure.step)),
            literal(failure.reason),
        ]
        for failure in suite.failures
    ]
    if not rows:
        return Section(paragraphs("## Failures", "None."))
    header = ["task", "adapter", "seed", "step", "reason"]
    return Section(paragraphs("## Failures", "They count nowhere above.", table(header, rows, words=5)))


def _short(value: str) -> str:
    return HASH.sub(lambda match: match[0][:12], value)
