"""The first screen: what was compared, on what, and the answers, each with a link to its evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rankbench.bench.records import is_trial
from rankbench.bench.records.costs import TRAINER
from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.frames import Group, Overhead
from rankbench.reports.render.blocks import Section
from rankbench.reports.render.words import listed, model_name, words
from rankbench.reports.sections.board import best
from rankbench.reports.sections.in_brief.collapsed import collapsed
from rankbench.reports.sections.in_brief.costs import costs
from rankbench.reports.sections.in_brief.questions import questions
from rankbench.reports.sections.leaderboard import ANYTHING, how_far, untaught
from rankbench.reports.sections.verdicts import judged, link
from rankbench.reports.stats.decision import CONFIDENCE, LEVEL
from rankbench.reports.stats.evidence import Evidence, counted
from rankbench.reports.stats.sweep import sweeps
from rankbench.reports.stats.trials import Tuned, tunings
from rankbench.reports.study import Study

MOST = 6
"""Tasks, or methods, that a sentence lists."""
MOST_CLAIMS = 3
"""Claims that a line names."""
INTERVAL = re.compile(r"\[[^\[\],]+, [^\[\],]+\](?!\()")
"""What is in brackets and no link."""


def section(study: Study) -> Section:
    """What a reader takes home."""
    asked = [*questions(study)]
    answers = [
        *asked,
        *best(study),
        *scores(study),
        *collapsed(study),
        *costs(study),
        *claims(study),
        *_tuning(study),
        *_failures(study),
    ]
    compared = [*_compared(study)]
    if any(INTERVAL.search(answer) for answer in answers):
        part = "brackets_of_stages" if asked else "brackets"
        compared.append(words("in_brief", part, level=LEVEL, confidence=CONFIDENCE))
    return Section("In brief", [" ".join(compared), "\n".join(f"- {answer}" for answer in answers)])


def _compared(study: Study) -> Iterator[str]:
    suite = study.shown
    if suite.records:
        yield from _trained(study)
    elif suite.overhead:
        yield from _overhead(suite.overhead, suite.baseline)
    elif suite.tried:
        yield words("in_brief", "trials_only", trials=counted(len(suite.tried), "trial"))
    else:
        yield words("in_brief", "failures", failed=counted(len(suite.failures), "failure"))


def _trained(study: Study) -> Iterator[str]:
    """The methods and tasks, what is not shown, and what the others are set beside."""
    suite, baseline = study.shown, study.suite.baseline
    entries = dict.fromkeys(one.method for group in suite.groups for one in group.contenders.values())
    seeds = [len(runs) for group in suite.groups for runs in group.runs.values()]
    yield words(
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
        yield words("in_brief", "sweeps", left_out=left_out)
    names = {record.task for record in suite.records}
    if waiting := [task for task in tunings(study.suite) if task not in names]:
        yield words("in_brief", "waiting", tasks=listed(f"`{task}`" for task in waiting))
    if any(group.letter for group in suite.groups):
        yield words("in_brief", "letters")
    compared = [group for group in suite.groups if group.baseline and len(group.runs) > 1]
    if compared:
        where = "" if all(group.baseline for group in suite.groups) else " where that ran"
        yield words("in_brief", "baseline", baseline=f"`{baseline}`{_stand_ins(compared, baseline)}{where}")


def _stand_ins(groups: Sequence[Group], baseline: str) -> str:
    """Which entry stands for the baseline, where that is one of several: a rank of a sweep."""
    tasks: dict[str, list[str]] = {}
    for group in groups:
        if group.baseline and group.contenders[group.baseline].method != baseline:
            tasks.setdefault(group.baseline, []).append(group.name)
    found = listed(f"`{label}` on {listed(names)}" for label, names in tasks.items())
    return f" ({found})" if found else ""


def _overhead(records: Sequence[Overhead], baseline: str) -> Iterator[str]:
    """The methods, and not the frozen model nor whole loops, that were measured."""
    steps = [record for record in records if TRAINER not in record.seconds]
    names = dict.fromkeys(name for record in steps for name, size in record.parameters.items() if size)
    if names:
        models = listed(_models(record.model for record in steps if record.parameters))
        yield words("in_brief", "overhead", methods=_counted(names, "method"), models=models)
    if any(record.growth for record in records):
        yield words("in_brief", "growth")
    if len(steps) < len(records):
        yield words("in_brief", "loops")
    yield words("in_brief", "unscored")
    if baseline in names and len(names) > 1:
        yield words("in_brief", "costs", baseline=baseline)


def _models(names: Iterable[str]) -> list[str]:
    return [model_name(name) for name in dict.fromkeys(names)]


def _counted(names: Iterable[str], noun: str) -> str:
    found = [f"`{name}`" for name in names]
    return f"{counted(len(found), noun)} ({listed(found, most=8)})"


def _tuning(study: Study) -> Iterator[str]:
    found = [sweep for group in study.suite.groups for sweep in sweeps(group, study.suite.failures).values()]
    if edge := sum(sweep.curve.at_edge for sweep in found):
        yield words("in_brief", "edge", edge=edge, all=len(found))
    if tuned := [one for methods in tunings(study.suite).values() for one in methods.values()]:
        yield words("in_brief", "trials", all=len(tuned), **_tried(tuned))


def _tried(tuned: Sequence[Tuned]) -> dict[str, object]:
    """How many trials a method had, and how often the best of them lies at an edge."""
    counts = [len(one.trials) + one.stopped + one.failed for one in tuned]
    ends = " to ".join(dict.fromkeys((str(min(counts)), str(max(counts)))))
    stopped = sum(one.stopped for one in tuned)
    long = f", {stopped} of all of which were stopped early," if stopped else " of full length"
    return {"trials": ends, "long": long, "edge": sum(bool(one.edges) for one in tuned)}


def _failures(study: Study) -> Iterator[str]:
    if failed := [failure for failure in study.suite.failures if not is_trial(failure)]:
        runs = [f"`{record.adapter}` on `{record.task}`" for record in failed if record.adapter]
        costs = [f"`{record.task}`" for record in failed if not record.adapter]
        told = [
            f"{counted(len(names), noun)}: {listed(dict.fromkeys(names), most=4)}"
            for noun, names in (("run", runs), ("measurement", costs))
            if names
        ]
        yield words("in_brief", "failed", failed="; ".join(told))


def scores(study: Study) -> Iterator[str]:
    """Sentences from the judged gains of every method on every task."""
    baseline, told = study.suite.baseline, study.told
    compared = [group for group in study.shown.groups if study.gains[group]]
    judged = sum(isinstance(one.found, Evidence) for group in compared for one in study.gains[group].values())
    if helps := [_shown(study, group, labels) for group in compared if (labels := told[group].above)]:
        yield words("in_brief", "helps", baseline=baseline, found=listed(helps, MOST))
    elif judged:
        yield words("in_brief", "nothing_helps", baseline=baseline)
    if hurts := [_shown(study, group, labels) for group in compared if (labels := told[group].below)]:
        yield words("in_brief", "hurts", baseline=baseline, found=listed(hurts, MOST))
    if left := [group for group in compared if told[group].open]:
        still = sum(len(told[group].open) for group in left)
        ranges = listed((_range(study, group) for group in left), MOST)
        yield words("in_brief", "open", open=still, all=judged, baseline=baseline, ranges=ranges)
    if reasons := [reason for group in compared for reason in told[group].unjudged.values()]:
        found = "; ".join(dict.fromkeys(reasons))
        count = counted(len(reasons), "comparison")
        yield words("in_brief", "unjudged", count=count, baseline=baseline, reasons=found)
    if alone := [group.name for group in study.shown.groups if not group.baseline]:
        yield words("in_brief", "alone", baseline=baseline, tasks=listed(alone, MOST))
    if names := [group.name for group in study.shown.groups if untaught(study, group)]:
        yield words("in_brief", "untaught", tasks=listed(names))


def _shown(study: Study, group: Group, labels: Sequence[str]) -> str:
    """The methods, the most different first, and by how much that one differs: what is lower than the
    baseline's has a minus, though a lower error is a gain."""
    found = {label: one.found for label, one in study.gains[group].items() if isinstance(one.found, Evidence)}
    first, *others = sorted(labels, key=lambda label: -abs(float(found[label].estimate)))
    compared = study.bases[group]
    sign = -1 if compared.lower_is_better and not compared.is_ratio else 1
    low, high = sorted(sign * float(end) for end in found[first].interval(LEVEL))
    told = compared.ranged(sign * float(found[first].estimate), low, high)
    if compared.is_ratio:
        told += f" times the {group.metric} of `{group.baseline}`"
    else:
        told += f" {'points of' if compared.percent else 'in'} {group.metric}"
    names = listed((f"`{label}`{_contradicted(found[label])}" for label in (first, *others)), MOST)
    return f"{names} on {group.name} ({f'`{first}` most: ' if others else ''}{told})"


def _contradicted(found: Evidence) -> str:
    """Of what a stage has shown, which stands, whether the mean of all seeds says the contrary."""
    was_above = bool(found.p_at_most() < found.p_at_least())
    if was_above == bool(found.estimate > 0):
        return ""
    return " (by early seeds: the mean of all says the contrary)"


def _range(study: Study, group: Group) -> str:
    """How much the best and the least known of the methods that are not told apart may differ."""
    left = study.told[group].open
    least, most = (how_far(study, group, end(left.values())) for end in (min, max))
    points = " points" if study.bases[group].percent else ""
    if most == ANYTHING:
        size = most if least == most else f"{least}{points} to {most}"
    else:
        size = f"{' to '.join(dict.fromkeys((least, most)))}{points}"
    alone = f" (`{next(iter(left))}`)" if len(left) == 1 else ""
    return f"by {size}{alone} on {group.name}"


def claims(study: Study) -> Iterator[str]:
    """One answer of a line for each way in which claims came out."""
    tested = judged(study.verdicts)
    if not tested:
        yield words("in_brief", "untested" if study.judges_papers else "one_seed")
        return
    lines = [f"  - {line}" for line in _lines(tested)]
    yield "\n".join([words("in_brief", "claims", judged=counted(len(tested), "claim")), *lines])


def _lines(tested: Sequence[Sequence[Verdict]]) -> Iterator[str]:
    """Every claim is in one of them."""
    outcomes = {rows[0].claim.id: {row.outcome for row in rows} for rows in tested}
    held, failed, unknown = Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.UNDERPOWERED
    alike = Outcome.EQUIVALENT
    ways = {
        "held wherever tested": lambda seen: held in seen and not seen & {failed, unknown, alike},
        "held in some settings, and stayed open in others": lambda seen: (
            {held, unknown} <= seen and failed not in seen
        ),
        "held in some settings, and ended in others with no difference that matters": lambda seen: (
            {held, alike} <= seen and not seen & {failed, unknown}
        ),
        "ended with no difference that matters wherever tested": lambda seen: (
            alike in seen and not seen & {held, failed, unknown}
        ),
        "ended in some settings with no difference that matters, and stayed open in others": lambda seen: (
            {alike, unknown} <= seen and not seen & {held, failed}
        ),
        "held in some settings, and failed in others": lambda seen: {held, failed} <= seen,
        "failed in some settings, and held in none": lambda seen: failed in seen and held not in seen,
        "stayed open, for too few seeds or items or for want of a difference": lambda seen: (
            not seen & {held, failed, alike}
        ),
    }
    for way, is_so in ways.items():
        found = [link(rows[0].claim) for rows in tested if is_so(outcomes[rows[0].claim.id])]
        more = [f"{len(found) - MOST_CLAIMS + 1} more"] if len(found) > MOST_CLAIMS else []
        names = [*found[: MOST_CLAIMS - 1], *more] if more else found
        if found:
            yield f"{len(found)} {way}: {'; '.join(names)}"
