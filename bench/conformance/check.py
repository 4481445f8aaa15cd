"""All rules on all that a plug-in holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rankbench import adapters, tasks
from rankbench.adapters import AdapterError
from rankbench.bench.conformance import starts, training
from rankbench.bench.conformance import tasks as of_tasks
from rankbench.bench.conformance.metrics import classes, is_as_its_entry_says
from rankbench.bench.conformance.models import ARCHITECTURES
from rankbench.bench.conformance.rules import Broken
from rankbench.bench.conformance.space import has_a_space_that_it_takes
from rankbench.bench.conformance.subject import STEPS, Subject
from rankbench.bench.plugins import Plugin
from rankbench.bench.plugins.loading import where
from rankbench.bench.suite import AdapterSpec, ConfigError, make_adapter
from rankbench.tasks import TaskError
from rankbench.tasks.metrics import OTHERS as METRICS

RATE = 1e-2
SMALL = {"train": 8, "selection": 4, "test": 6}
"""Items of a task, where it has these options."""
OF_ADAPTERS: Sequence[Callable[[Subject], None]] = (
    starts.attaches_in_place,
    starts.starts_as_the_identity,
    starts.leaves_a_model_that_it_refuses_as_it_was,
    starts.is_deterministic_in_its_seed,
    starts.leaves_the_global_generator_alone,
    starts.keeps_the_head_trainable,
    starts.says_what_it_counts,
    training.trains_the_loss_down_and_merges,
    training.resumes_bit_by_bit,
    training.trains_under_bfloat16_autocast,
    training.merges_a_bfloat16_model_in_float32,
    training.detaches_and_says_what_it_has_moved,
)


@dataclass(frozen=True)
class Verdict:
    """What was found of one adapter, task or metric."""

    what: str
    """`adapter NAME`."""
    kept: str
    """What it does, in words, where there is no fault."""
    faults: list[str]
    """One line each."""


def verdicts(plugin: Plugin) -> Iterator[Verdict]:
    """Of everything that the plug-in holds, which is in the registries already."""
    for name in _held(adapters.OTHERS, plugin):
        yield _adapter(name, plugin)
    for name in _held(tasks.OTHERS, plugin):
        yield _task(name, plugin)
    for name in _held(METRICS, plugin):
        fault = _fault(partial(is_as_its_entry_says, METRICS.load(name), *classes()), plugin)
        yield Verdict(f"metric {name}", "is as its entry says", [fault] if fault else [])


def _held(others: Any, plugin: Plugin) -> list[str]:
    return [name for name in others.plugged if others.plugin(name) == plugin]


def _fault(rule: Callable[[], object], plugin: Plugin) -> str:
    """What is wrong, in one line; empty where nothing is. Whatever a plug-in raises is its fault."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # what dropout draws is the same at every check
            rule()
    except (Broken, AdapterError, TaskError, ConfigError) as error:
        return " ".join(str(error).split())
    except Exception as error:
        return where(error, plugin)
    return ""


def _adapter(name: str, plugin: Plugin) -> Verdict:
    spec = AdapterSpec(name=name, **adapters.kind(name).example)
    create = partial(make_adapter, spec, learning_rate=RATE, steps=STEPS)
    if fault := _fault(create, plugin):
        return Verdict(f"adapter {name}", "", [f"cannot be made as its `example` says: {fault}"])
    space = _fault(partial(has_a_space_that_it_takes, name), plugin)
    broken: dict[str, list[tuple[str, str]]] = {}
    refusals: dict[str, str] = {}
    for architecture in ARCHITECTURES:
        subject = Subject(create, architecture)

        def attach(subject: Subject = subject) -> None:
            if why := starts.refusal(subject):
                refusals[subject.architecture] = why

        rules = {"attaches": attach} | {_words(rule): partial(rule, subject) for rule in OF_ADAPTERS}
        for told, rule in rules.items():
            if fault := _fault(rule, plugin):
                broken.setdefault(told, []).append((architecture, fault))
            if told == "attaches" and (fault or architecture in refusals):
                break
    faults = [
        f"{told} (on {', '.join(architecture for architecture, _ in found)}): {found[0][1]}"
        for told, found in broken.items()
    ]
    faults += [f"{_words(has_a_space_that_it_takes)}: {space}"] if space else []
    taken = [one for one in ARCHITECTURES if one not in refusals]
    refused = "".join(f"; refuses {architecture}: {why}" for architecture, why in refusals.items())
    if not taken:
        faults.append(f"attaches to no architecture{refused}")
    kept = f"keeps {len(OF_ADAPTERS) + 1} rules on {', '.join(taken)}{refused}"
    return Verdict(f"adapter {name}", kept, faults)


def _task(name: str, plugin: Plugin) -> Verdict:
    known = tasks.options_of(tasks.OTHERS.load(name))
    small = {option: count for option, count in SMALL.items() if option in known}
    create = partial(tasks.create, name)
    rules: list[Callable[[], object]] = [
        partial(of_tasks.says_what_it_is_without_its_data, create, name),
        partial(of_tasks.has_its_options_in_its_fingerprint, create, small),
        partial(of_tasks.has_no_text_in_two_splits, create),
    ]
    faults = [f"{_words(rule)}: {fault}" for rule in rules if (fault := _fault(rule, plugin))]
    found: list[of_tasks.Trial] = []
    if fault := _fault(lambda: found.append(of_tasks.prepared(create(**small))), plugin):
        return Verdict(f"task {name}", "", [*faults, f"prepares its data: {fault}"])
    trial = found[0]
    on_data: list[Callable[[], object]] = [
        partial(of_tasks.prepares_what_it_says, trial),
        partial(of_tasks.prepares_the_same_again, partial(create, **small), trial),
        partial(of_tasks.sums_its_loss_over_what_the_weights_count, trial),
        partial(of_tasks.scores_with_its_evidence_and_changes_nothing, trial, "selection"),
        partial(of_tasks.scores_with_its_evidence_and_changes_nothing, trial, "test"),
        partial(of_tasks.compares_outputs_of_a_few_selection_items, trial),
    ]
    faults += [f"{_words(rule)}: {fault}" for rule in on_data if (fault := _fault(rule, plugin))]
    return Verdict(f"task {name}", f"keeps {len(rules) + len(on_data)} rules", list(dict.fromkeys(faults)))


def _words(rule: Any) -> str:
    """A rule by its function's name."""
    function = rule.func if isinstance(rule, partial) else rule
    return str(function.__name__).replace("_", " ")
