"""What a step takes in time and memory, and how many parameters are trained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import itemgetter

from rankbench.reports.frames import Overhead
from rankbench.reports.render.numbers import number
from rankbench.reports.render.words import listed, model_name, words
from rankbench.reports.stats.costs import PARAMETERS, Estimate, mean_ratios, peak_ratios, ratios
from rankbench.reports.study import Study

MOST = 3
"""Methods that a sentence names."""

Ratios = dict[str, Estimate]
"""Method -> its cost over the baseline's."""


def costs(study: Study) -> Iterator[str]:
    """Beside the baseline, where it was measured side by side with the others."""
    ways: dict[str, Callable[[Overhead], Ratios]] = {
        "time": lambda record: ratios(record, record.baseline, mean_ratios),
        "memory": lambda record: peak_ratios(record, record.baseline),
    }
    cautioned = False
    for part, measure in ways.items():
        found = [
            (record, measured)
            for record in study.suite.overhead
            if (measured := _of_methods(record, measure(record)))
        ]
        told = [f"on {record.name} {_told(measured, record.processes)}" for record, measured in found]
        if told:
            said = words("in_brief", part, baseline=study.suite.baseline, found="; ".join(told))
            if not cautioned and any(record.processes == 1 for record, _ in found):
                said += " " + words("in_brief", "one_process")
                cautioned = True
            yield said
    if sizes := [*_sizes(study)]:
        yield words("in_brief", "size", found="; ".join(sizes))


def _of_methods(record: Overhead, measured: Ratios) -> Ratios:
    """But the baseline, and but what trains nothing."""
    return {
        name: ratio
        for name, ratio in measured.items()
        if name != record.baseline and record.parameters.get(name) != 0
    }


def _told(ratios: Ratios, processes: int) -> str:
    """Which methods take more and which less, the furthest first; of one process, from which to which."""
    if processes == 1:
        ends = sorted(ratios, key=lambda name: ratios[name].middle)
        shown = dict.fromkeys((ends[0], ends[-1]))
        return " to ".join(f"{ratios[name].middle:.2f} times (`{name}`)" for name in shown)
    # Processes that agree to the last bit, as those of an allocator may, have no interval and need none.
    more = [name for name, (middle, low, _) in ratios.items() if (middle if low is None else low) > 1]
    less = [name for name, (middle, _, high) in ratios.items() if (middle if high is None else high) < 1]
    more.sort(key=lambda name: -ratios[name].middle)
    less.sort(key=lambda name: ratios[name].middle)
    # Surely so, but 1.00 times in two decimals.
    near = [name for name in ratios if name in (*more, *less) and f"{ratios[name].middle:.2f}" == "1.00"]
    parts = [
        f"{way} for {listed((_one(name, ratios[name]) for name in names), MOST)}"
        for way, found in (("more", more), ("less", less))
        if (names := [name for name in found if name not in near])
    ]
    left = [name for name in ratios if name not in (*more, *less)]
    parts += [
        f"{way} for {listed((f'`{name}`' for name in names), MOST)}"
        for way, names in (("the same to half a percent", near), ("no difference shown", left))
        if names
    ]
    return ", ".join(parts)


def _one(name: str, ratio: Estimate) -> str:
    every = " in every process" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return f"`{name}` ({ratio.middle:.2f} times{every})"


def _sizes(study: Study) -> Iterator[str]:
    """The fewest and the most parameters trained, of each model."""
    by_model: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for group in study.shown.groups:
        for label, count in study.costs[group].get(PARAMETERS, {}).items():
            by_model[group.protocol["model"]].append((count, group.contenders[label].method))
    for model, counts in by_model.items():
        ends = dict.fromkeys(end(counts, key=itemgetter(0)) for end in (min, max))
        told = (f"{number(count)} (`{method}`)" for count, method in ends)
        yield f"{' to '.join(told)} parameters of {model_name(model)}"
