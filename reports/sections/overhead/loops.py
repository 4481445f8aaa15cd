"""Whole loops beside the Trainer's: a table, and what of the difference is no part of a loop."""

from __future__ import annotations

from collections.abc import Iterator

from rankbench.bench.records import OverheadRecord
from rankbench.bench.records.costs import ALL_LOGITS, OURS, STOCK, TRAINER
from rankbench.reports.render.blocks import Block, Table
from rankbench.reports.render.words import words
from rankbench.reports.sections.overhead.cells import interval, milliseconds, sizes, tokens
from rankbench.reports.stats.processes import estimate, median_ratios


def loops(record: OverheadRecord) -> list[Block]:
    """What a record that the Trainer is in says."""
    return [words("overhead", "loops"), _table(record), *_whose_part(record)]


def _table(record: OverheadRecord) -> Table:
    header = [
        *("contender", "ms per step", "tokens/s", f"tokens/s ÷ {TRAINER}"),
        *("peak MiB", f"peak ÷ {TRAINER}", "trainable parameters"),
    ]
    rows = [
        [
            name,
            interval(milliseconds(record, name), 1),
            tokens(record, name),
            _faster(record, name, TRAINER),
            *sizes(record, name, TRAINER),
        ]
        for name in record.seconds
    ]
    return Table(header, rows)


def _whose_part(record: OverheadRecord) -> Iterator[str]:
    if STOCK in record.seconds:
        yield words(
            "overhead",
            "dropout",
            ours=OURS,
            whole=_faster(record, OURS, TRAINER),
            loop=_faster(record, STOCK, TRAINER),
            dropout=_faster(record, OURS, STOCK),
        )
    elif "processes" not in record.config:
        yield words("overhead", "earlier")
    if ALL_LOGITS in record.seconds:
        faster = _faster(record, OURS, ALL_LOGITS)
        yield words("overhead", "logits", ours=OURS, faster=faster, all_logits=ALL_LOGITS)


def _faster(record: OverheadRecord, one: str, than: str) -> str:
    return interval(estimate(median_ratios(record.seconds[than], record.seconds[one])), 3)
