"""What a run was, what it reached and what it took, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from rankbench.bench.records import FailureRecord, RunRecord
from rankbench.reports.frames import flatten
from rankbench.reports.frames.views import FORGOTTEN
from rankbench.reports.render.markdown import paragraphs
from rankbench.reports.render.numbers import MISSING, ends, metric_name, number, plain, short_hashes
from rankbench.reports.single.plot import plot
from rankbench.reports.single.scores import over_items

NAMES = 12
"""Characters of the longest name of a line, and the gap after it."""

Lines = Iterator[tuple[str, str]]


def finished(record: RunRecord, path: Path, width: int) -> str:
    """A run that has a result; `path` is its record's, `width` the terminal's."""
    curve, drawn = record.curve, ""
    if curve.loss:
        each = -(-len(curve.loss) // max(1, width - NAMES))
        title = "training loss" + (f", the mean of {each} steps or fewer a column" if each > 1 else "")
        drawn = f"{title}\n{plot(curve.step, curve.loss, width - NAMES)}"
    return paragraphs(
        _title(record),
        _scores(record, path.parent),
        _listed([*_setup(record), *_forgotten(record), *_cost(record), *_origin(record, path)], width),
        drawn,
    )


def failed(failure: FailureRecord, path: Path, width: int, *, traceback: bool = False) -> str:
    """A run that has none, and why; with its traceback if that is asked for."""
    at = "" if failure.step is None else f" at step {failure.step}"
    again = "rankbench run" + " --retry-failed" * failure.comes_again
    where = "" if traceback or not failure.traceback else "; --traceback shows where in the code"
    why = [
        ("failed", f"{failure.reason}{at} ({failure.kind})"),
        ("next", f"`{again}` of the suite {failure.suite} tries it again{where}"),
    ]
    told = _listed([*why, *_setup(failure), *_origin(failure, path)], width)
    return paragraphs(_title(failure), told, (failure.traceback or "").rstrip() if traceback else "")


def _title(record: RunRecord | FailureRecord) -> str:
    return f"{record.task}--{record.adapter}--s{record.seed} of {record.suite}"


def _listed(lines: list[tuple[str, str]], width: int) -> str:
    return tabulate(
        [line for line in lines if line[1]],
        tablefmt="plain",
        disable_numparse=True,
        maxcolwidths=[None, max(20, width - NAMES)],
    )


def _scores(record: RunRecord, folder: Path) -> str:
    metrics, split = record.metrics, record.config.get("scored_on", "test")
    moved = metrics.best_step != metrics.last_step
    header = [f"{split} score", f"step {metrics.best_step}", *([f"step {metrics.last_step}"] * moved)]
    rows = []
    for name in sorted({*metrics.best, *metrics.last}, key=lambda name: (name != metrics.main, name)):
        scale = metrics.scales[name]
        found = [metrics.best, *([metrics.last] * moved)]
        values = [plain(one[name], scale.percent) if name in one else MISSING for one in found]
        interval = over_items(folder, record) if name == metrics.main else None
        told = f"{ends(*interval, scale.percent)} for other {split} items (95 %)" if interval else ""
        better = "lower is better" if scale.lower_is_better else ""
        rows.append([metric_name(name, scale), *values, ", ".join(filter(None, (told, better)))])
    align = ["left", *["right"] * (len(header) - 1), "left"]
    return tabulate(rows, [*header, ""], tablefmt="plain", disable_numparse=True, colalign=align)


def _setup(record: RunRecord | FailureRecord) -> Lines:
    config = record.config
    task, adapter = dict(config.get("task", {})), dict(config.get("adapter", {}))
    name = str(task.pop("task", None) or task.pop("name", record.task))
    yield "task", _named(name, task.get("options", task))
    yield "model", _model(record.model if isinstance(record, RunRecord) else "", config.get("model"))
    rate = {"learning_rate": config["learning_rate"]} if "learning_rate" in config else {}
    yield "adapter", _named(str(adapter.pop("name", record.adapter)), adapter | rate)
    targets = config.get("targets", "")
    yield "targets", targets if isinstance(targets, str) else ", ".join(targets)
    training = {key: value for key, value in config.get("training", {}).items() if key != "learning_rate"}
    yield "training", _said(training)
    if isinstance(record, RunRecord) and (stages := record.stages):
        yield "seeds", f"claims are judged after {', '.join(map(str, stages))} of them"


def _model(name: str, asked: Any) -> str:
    """By name, with what its frozen weights are held in where that is not float32."""
    if not isinstance(asked, dict):
        return name or str(asked or "")
    held = f", weights in {asked['weights']}" if "weights" in asked else ""
    return f"{name or asked.get('name', '')}{held}"


def _forgotten(record: RunRecord) -> Lines:
    if found := record.forgetting:
        name, unit = FORGOTTEN[found.kind].split(", ")
        yield name, f"{number(found.value)} ({unit})"


def _cost(record: RunRecord) -> Lines:
    count, took, peak = record.parameters, record.timings, record.memory
    yield (
        "parameters",
        f"{count.trainable:,} trained, {count.adapter:,} of them the adapter's; {count.total:,} in all",
    )
    legs = f", in {took.legs} legs" if took.legs > 1 else ""
    yield (
        "time",
        f"{number(took.median_step)} s a step (median); {number(took.train)} s of steps, "
        f"{number(took.score)} s of scoring, {number(took.total)} s in all{legs}",
    )
    device = f", {number(peak.peak_allocated)} MiB on the device" if peak.peak_allocated else ""
    yield "memory", f"{number(peak.peak_resident)} MiB at the peak{device}"


def _origin(record: RunRecord | FailureRecord, path: Path) -> Lines:
    packages = record.provenance.get("packages", {})
    around = {key: value for key, value in record.provenance.items() if key != "packages"}
    yield "made with", short_hashes(_said(around))
    yield "packages", _said(packages)
    yield "record", str(path)
    if isinstance(record, RunRecord) and (saved := record.saved):
        yield "saved", f"{path.with_suffix('.safetensors')}, {saved.bytes:,} bytes"


def _named(name: str, settings: Mapping[str, Any]) -> str:
    return f"{name}: {_said(settings)}" if settings else name


def _said(block: Mapping[str, Any]) -> str:
    """ "key value" of what a block says, its blocks' keys after a dot; what it leaves open is left out."""
    said = {key: value for key, value in block.items() if value not in (None, {}, [])}
    return ", ".join(f"{key} {value}" for key, value in flatten(said).items())
