"""Scores on the test splits: one table across tasks, one per task and protocol."""

from __future__ import annotations

from bench.record import RunRecord
from reports.load import BASELINE, Group, Suite, in_order
from reports.markdown import Section, counts, is_fraction, metric_name, paragraphs, score, table
from reports.stats import Spread, paired_difference, spread

HOW_TO_READ = (
    "Each cell is mean ± standard deviation over seeds (number of seeds), on the test split; “–” means "
    "that nothing was measured. Values marked ×100 are fractions in the records. No value is bold and no "
    "average rank is given: no test for a winner is made here. Read a difference beside LoRA's own spread "
    "over seeds."
)


def leaderboard(suite: Suite) -> Section:
    """The main metric, adapters × tasks; rank sweeps have a section of their own."""
    groups = [group for group in suite.groups if not group.is_rank_sweep]
    if not groups:
        return Section(paragraphs("## Leaderboard", "No finished runs."))
    header = ["adapter", *(f"{group.name}: {_main_name(group)} {_arrow(group)}" for group in groups)]
    rows = [
        [adapter, *(score(_main(group, adapter), _is_fraction(group, _metric(group))) for group in groups)]
        for adapter in in_order(adapter for group in groups for adapter in group.runs)
    ]
    order = "The main metric of the chosen weights (↑ larger is better, ↓ smaller)."
    return Section(
        paragraphs(
            "## Leaderboard", HOW_TO_READ, f"{order} Rows are in no order of merit.", table(header, rows)
        )
    )


def tasks(suite: Suite) -> Section:
    """Every metric of every task, with the paired difference to LoRA."""
    if not suite.groups:
        return Section("")
    parts = [part for group in suite.groups for part in (_protocol_note(group, suite), _task(group))]
    introduction = (
        "“Best” is the weights that the protocol's `selection_rule` chose (the last step, or the best "
        "observation on the selection split), “last” the end of training. Rows are sorted by the mean of "
        f"the main metric at best. The difference to `{BASELINE}` is taken seed by seed, at best; n counts "
        "the seeds that both have. “Selection” is the score on the slice of the training data that choices "
        "are made on, at its best observation; test items choose nothing."
    )
    return Section(paragraphs("## Scores by task", introduction, *parts))


def _task(group: Group) -> str:
    main = _metric(group)
    others = sorted({key for record in group.records for key in record.metrics.best} - {main})
    header = ["adapter"]
    header += [f"{metric_name(key, _lower(group, key))}, best" for key in (main, *others)]
    header.append(f"{_main_name(group)}, last")
    baseline = _values(group, BASELINE, main)
    header += [f"best − {BASELINE}"] if baseline else []
    selected = any(_selection(record) is not None for record in group.records)
    header += ["selection"] if selected else []
    header += ["trainable parameters", "of the adapter"]
    rows = []
    for adapter in _by_merit(group):
        records = group.runs[adapter].values()
        cells = [
            score(spread(_values(group, adapter, key).values()), _is_fraction(group, key))
            for key in (main, *others)
        ]
        last = spread(record.metrics.last[main] for record in records if main in record.metrics.last)
        cells.append(score(last, _is_fraction(group, main)))
        if baseline:
            own = _values(group, adapter, main)
            difference = None if adapter == BASELINE else paired_difference(own, baseline)
            cells.append(score(difference, _is_fraction(group, main), signed=True))
        if selected:
            values = (_selection(record) for record in records)
            chosen = spread(value for value in values if value is not None)
            cells.append(score(chosen, _is_fraction(group, main)))
        cells.append(counts([record.parameters.trainable for record in records]))
        cells.append(counts([record.parameters.adapter for record in records]))
        rows.append([adapter, *cells])
    return paragraphs(f"### {group.name}", table(header, rows), _noise(group, spread(baseline.values())))


def _selection(record: RunRecord) -> float | None:
    """The best score on the selection split."""
    scores = [seen.selection for seen in record.observations if seen.selection is not None]
    best = min if record.metrics.lower_is_better else max
    return best(scores) if scores else None


def _noise(group: Group, baseline: Spread | None) -> str:
    if baseline is None:
        return f"No run of `{BASELINE}` here to take differences to."
    if baseline.sd is None:
        return f"Noise: unknown, {BASELINE} has one seed."
    fraction = _is_fraction(group, _metric(group))
    sd = f"{100 * baseline.sd:.2f}" if fraction else f"{baseline.sd:.2g}"
    return (
        f"Noise: {BASELINE} against itself varies by sd {sd} over {baseline.n} seeds ({_main_name(group)}, "
        "best)."
    )


def _protocol_note(group: Group, suite: Suite) -> str:
    if group.letter != "A":
        return ""
    letters = [other.letter for other in suite.groups if other.task == group.task]
    fields = ", ".join(f"`{field}`" for field in group.differing)
    return (
        f"`{group.task}` was run under {len(letters)} protocols ({', '.join(letters)}) that differ in "
        f"{fields}."
    )


def _by_merit(group: Group) -> list[str]:
    sign = 1 if _lower(group, _metric(group)) else -1

    def merit(adapter: str) -> float:
        value = _main(group, adapter)
        return float("inf") if value is None else sign * value.mean

    return sorted(group.runs, key=merit)


def _main(group: Group, adapter: str) -> Spread | None:
    return spread(_values(group, adapter, _metric(group)).values())


def _values(group: Group, adapter: str, metric: str) -> dict[int, float]:
    runs = group.runs.get(adapter, {})
    return {seed: run.metrics.best[metric] for seed, run in runs.items() if metric in run.metrics.best}


def _metric(group: Group) -> str:
    return next(group.records).metrics.main


def _lower(group: Group, metric: str) -> bool:
    metrics = next(group.records).metrics
    return metrics.lower_is_better and metric == metrics.main


def _is_fraction(group: Group, metric: str) -> bool:
    return is_fraction(metric, _lower(group, metric))


def _main_name(group: Group) -> str:
    return metric_name(_metric(group), _lower(group, _metric(group)))


def _arrow(group: Group) -> str:
    return "↓" if _lower(group, _metric(group)) else "↑"
