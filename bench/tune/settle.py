"""A suite with what its trials have chosen."""

from __future__ import annotations

from rankbench.bench.records import Folders
from rankbench.bench.suite import AdapterSpec, ConfigError, Suite
from rankbench.bench.tune.choices import Choice, Choices, kept, origin, write
from rankbench.bench.tune.choose import best
from rankbench.bench.tune.trials import Entry, search


def settled(suite: Suite, folders: Folders) -> Suite:
    """The suite with the chosen hyperparameters in every experiment that has `tune`, which are told in the
    folder's `choices.yaml` too.

    Raises ConfigError where trials are still to be done, or no trial of an entry has finished.
    """
    choices = chosen(suite, folders)
    if not choices:
        return suite
    if write(folders.choices, choices):
        folders.send(folders.choices)
    experiments = dict(suite.experiments)
    for name, found in choices.items():
        adapters = {
            label: _with(spec, found[label]) if label in found else spec
            for label, spec in suite.experiments[name].adapters.items()
        }
        experiments[name] = suite.experiments[name].model_copy(update={"adapters": adapters})
    return suite.model_copy(update={"experiments": experiments})


def chosen(suite: Suite, folders: Folders) -> Choices:
    """What is chosen for each entry of each experiment that has `tune`. Raises as `settled` does."""
    tuned = [name for name, experiment in suite.experiments.items() if experiment.tune]
    return {name: _of(suite, name, folders) for name in tuned}


def _of(suite: Suite, name: str, folders: Folders) -> dict[str, Choice]:
    choices = kept(suite, name)
    found = search(suite, name, folders, choices)
    if found.due:
        raise ConfigError(
            f"{name}: {len(found.due)} trials are still to be done; `rankbench tune {suite.name}` does them"
        )
    made = {label: _choice(suite, name, entry) for label, entry in found.entries.items()}
    both = choices | made
    return {label: both[label] for label in suite.experiments[name].adapters if label in both}


def _choice(suite: Suite, name: str, entry: Entry) -> Choice:
    first = best(entry.trials)
    if first is None:
        raise ConfigError(
            f"{name}: no trial of {entry.label} has finished (see failed/); give it other ranges under "
            "`tune: space`, set its values, or leave it out"
        )
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
