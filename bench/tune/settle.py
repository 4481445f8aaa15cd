"""A suite with what its trials have chosen."""

from __future__ import annotations

import sys
from collections.abc import Collection

from tqdm import tqdm

from rankbench.bench.records import Folders
from rankbench.bench.suite import AdapterSpec, ConfigError, Suite
from rankbench.bench.suite.tuning import space_of
from rankbench.bench.tune.choices import Choice, kept, origin, read, write
from rankbench.bench.tune.choose import best
from rankbench.bench.tune.trials import Entry, search, tuned


def settled(suite: Suite, folders: Folders, wanted: Collection[str] | None = None) -> Suite:
    """The suite with the chosen hyperparameters in every experiment that has `tune`, or in those `wanted` of
    them, which are told in the folder's `choices.yaml` too. An entry no trial of which has finished is left
    out, which is said on stderr.

    Raises ConfigError where trials are still to be done, or none of an experiment's has finished.
    """
    names = [name for name in tuned(suite) if wanted is None or name in wanted]
    choices = {name: chosen(suite, name, folders) for name in names}
    if not choices:
        return suite
    before = read(folders.choices) if folders.choices.exists() else {}
    told = {name: found for name in tuned(suite) if (found := choices.get(name) or before.get(name))}
    if write(folders.choices, told):
        folders.send(folders.choices)
    experiments = dict(suite.experiments)
    for name, found in choices.items():
        tune = suite.experiments[name].tune
        adapters = {
            label: _with(spec, found[label]) if label in found else spec
            for label, spec in suite.experiments[name].adapters.items()
            if label in found or not (tune and space_of(spec, tune))
        }
        experiments[name] = suite.experiments[name].model_copy(update={"adapters": adapters})
    return suite.model_copy(update={"experiments": experiments})


def chosen(suite: Suite, name: str, folders: Folders) -> dict[str, Choice]:
    """What is chosen for each entry of an experiment that leaves something to be chosen; without those of
    which no trial has finished. Raises as `settled` does."""
    choices, ended = kept(suite, name), {path.stem for path in folders.root.glob("failed/*.json")}
    found = search(suite, name, folders, choices, ended)
    if found.due:
        raise ConfigError(
            f"{name}: trials still to be done: {len(found.due)}; `rankbench tune` does them, or `run` "
            "without --only"
        )
    made = {label: _choice(suite, name, entry) for label, entry in found.entries.items()}
    lost = [label for label, choice in made.items() if choice is None]
    if lost:
        said = f"{name}: no trial of {', '.join(lost)} has finished (why: {folders.root / 'failed'})"
        way_out = "give other ranges under `tune: space`, set the values, or mend what is said there"
        if len(lost) == len(made) and not choices:
            raise ConfigError(f"{said}; {way_out}")
        tqdm.write(f"{said} and no run is made of it; {way_out}", file=sys.stderr)
    both = choices | made
    return {label: choice for label in suite.experiments[name].adapters if (choice := both.get(label))}


def _choice(suite: Suite, name: str, entry: Entry) -> Choice | None:
    first = best(entry.trials)
    if first is None:
        return None
    return Choice(
        chosen=first.spec.adapter.point,
        trial=first.spec.label,
        metric=first.metric,
        loss=first.loss,
        trials=len(entry.points),
        of=origin(suite, name, entry.label),
        by=[trial.fingerprint for trial in entry.trials],
    )


def _with(spec: AdapterSpec, choice: Choice) -> AdapterSpec:
    return spec.model_copy(update={**choice.chosen, "tuned": True, "chosen_by": tuple(choice.by)})
