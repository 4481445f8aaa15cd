"""The first screen: what was compared, on what, and the answers, each with a link to its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rankbench.bench.records import OverheadRecord
from rankbench.bench.records.costs import TRAINER
from rankbench.reports.render.blocks import Section
from rankbench.reports.render.words import listed, model_name, words
from rankbench.reports.sections.in_brief.claims import claims
from rankbench.reports.sections.in_brief.costs import costs
from rankbench.reports.sections.in_brief.scores import scores
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import counted
from rankbench.reports.stats.sweep import pooled, sweeps
from rankbench.reports.study import Study


def section(study: Study) -> Section:
    """What a reader takes home."""
    answers = [*scores(study), *costs(study), *claims(study), *_tuning(study), *_failures(study)]
    return Section("In brief", [_compared(study), "\n".join(f"- {answer}" for answer in answers)])


def _compared(study: Study) -> str:
    suite, baseline = study.shown, study.suite.baseline
    if not suite.records and not suite.overhead:
        return words("in_brief", "failures", failed=counted(len(suite.failures), "failure"))
    others = (
        f"`{group.baseline}` on {group.name}"
        for group in suite.groups
        if group.baseline and group.contenders[group.baseline].method != baseline
    )
    named = f"`{baseline}`" + (f" ({found})" if (found := listed(others)) else "")
    said = [words("in_brief", "baseline", baseline=named, level=LEVEL)]
    if not suite.records:
        return " ".join([*_overhead(suite.overhead), *said])
    entries = dict.fromkeys(one.method for group in suite.groups for one in group.contenders.values())
    seeds = [len(runs) for group in suite.groups for runs in group.runs.values()]
    told = words(
        "in_brief",
        "runs",
        methods=_counted(sorted(entries, key=lambda name: name != baseline), "method"),
        tasks=_counted(dict.fromkeys(group.task for group in suite.groups), "task"),
        models=listed(_models(group.protocol["model"] for group in suite.groups)),
        seeds=f"{counted(max(seeds), 'seed')} each"
        if len({*seeds}) == 1
        else f"{min(seeds)} to {max(seeds)} seeds each",
    )
    if left_out := len(study.suite.records) - len(suite.records):
        said.insert(0, words("in_brief", "sweeps", left_out=left_out))
    return " ".join([told, *said])


def _overhead(records: Sequence[OverheadRecord]) -> Iterator[str]:
    """The methods, and not the frozen model nor whole loops, that were measured."""
    steps = [record for record in records if TRAINER not in record.seconds]
    names = dict.fromkeys(name for record in steps for name, size in record.parameters.items() if size)
    if steps:
        models = listed(_models(record.model for record in steps))
        yield words("in_brief", "overhead", methods=_counted(names, "method"), models=models)
    if len(steps) < len(records):
        yield words("in_brief", "loops")
    yield words("in_brief", "unscored")


def _models(names: Iterable[str]) -> list[str]:
    return [model_name(name) for name in dict.fromkeys(names)]


def _counted(names: Iterable[str], noun: str) -> str:
    found = [f"`{name}`" for name in names]
    return f"{counted(len(found), noun)} ({listed(found, most=8)})"


def _tuning(study: Study) -> Iterator[str]:
    found = [sweep for group in pooled(study.suite) for sweep in sweeps(group).values()]
    if edge := sum(sweep.curve.at_edge for sweep in found):
        yield words("in_brief", "edge", edge=edge, all=len(found))


def _failures(study: Study) -> Iterator[str]:
    if failed := study.suite.failures:
        names = dict.fromkeys(f"`{record.adapter}` on `{record.task}`" for record in failed)
        yield words("in_brief", "failed", failed=f"{counted(len(failed), 'run')}: {listed([*names], most=4)}")
