"""A saved or exported adapter on further tasks, without training; and the record of what it scores there.

That record lies apart from the runs (`scores/CELL.json` of a suite's folder, or `scores.json` in an export):
it is in no report, and no run is done or undone by it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankbench import tasks
from rankbench.bench import models
from rankbench.bench.export.layout import load
from rankbench.bench.export.manifest import MANIFEST, Export
from rankbench.bench.export.restore import refuse_other_weights, restore, trained_of
from rankbench.bench.records import Folders, RecordError, RunRecord, read_record, write_record
from rankbench.bench.records.block import Block
from rankbench.bench.run import scores
from rankbench.bench.run.failures import RunFailed
from rankbench.bench.run.provenance import device, provenance
from rankbench.bench.run.saving import Trained
from rankbench.bench.suite import ConfigError
from rankbench.tasks.data.divide import Entry
from rankbench.tasks.text.encoder import EncoderTask

KINDS = {"sequence": "an encoder with a head", "causal": "a language model", "own": "a model of its own"}


class TaskScore(Block):
    """One task's."""

    task: dict[str, Any]
    """Name, options and data, as they identify a run on it."""
    main: str
    metrics: dict[str, float]
    """On the test split, as fractions."""
    items: int
    seconds: float
    data: str
    """SHA-256 of its items."""


class Scores(Block):
    """Of one trained adapter, on tasks that it need not have been trained on."""

    schema_version: Literal[1] = 1
    run: str
    fingerprint: str
    """The run's."""
    adapter: str
    """SHA-256 of its saved adapter."""
    form: str
    """That it was scored in: "saved", or an export's."""
    scores: list[TaskScore] = Field(default=[])
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is scored."""

    trained: Trained
    load: Callable[[], nn.Module]
    """The model, as it answers."""
    record: Scores
    """Without scores yet."""
    path: Path
    """Where its record lies."""


def saved(folders: Folders, record: RunRecord, cell: str) -> Subject:
    """A run's saved adapter. Raises as `trained_of` does."""
    trained = trained_of(folders, record, cell)

    def as_the_run_was() -> nn.Module:
        run = restore(record, trained, as_held=True)
        return run.adapter.merge(run.model) if trained.spec.model.weights == "float32" else run.model

    adapter = record.saved.sha256 if record.saved else ""
    found = _record(run=cell, fingerprint=record.fingerprint, adapter=adapter, form="saved")
    return Subject(trained, as_the_run_was, found, folders.root / "scores" / f"{cell}.json")


def exported(folder: Path) -> Subject | None:
    """What lies in the folder of an export; None where it is none. Raises RecordError for a corrupt one, as
    loading it does, which raises ConfigError where the pretrained model has changed since."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        export = read_record(folder / MANIFEST, Export)
        trained = Trained.of(export.about, {})
    except (RecordError, KeyError, TypeError, ValidationError) as error:
        raise RecordError(f"{folder / MANIFEST} is corrupt; export the run again") from error

    def loaded() -> nn.Module:
        refuse_other_weights(trained.spec.model, export.weights)
        try:
            return load(folder, trained, export.form)
        except Exception as error:  # PEFT raises whatever it likes
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RecordError(f"{folder} cannot be loaded ({reason}); export the run again") from error

    found = _record(run=export.run, fingerprint=export.fingerprint, adapter=export.adapter, form=export.form)
    return Subject(trained, loaded, found, folder / "scores.json")


def _record(**fields: Any) -> Scores:
    return Scores(**fields, scores=[], provenance=provenance())


def asked(options: dict[str, Any], trained: Trained) -> tasks.Task:
    """A task for the model that was trained. Raises TaskError for an unknown task or option, ConfigError
    where it needs another model or another head."""
    task, head = tasks.create(**options), trained.head
    theirs = task.head
    if theirs.kind != head.kind:
        raise ConfigError(f"{task.name} needs {KINDS[theirs.kind]}; the run has trained {KINDS[head.kind]}")
    if head.kind == "sequence" and theirs.outputs != head.outputs:
        raise ConfigError(
            f"{task.name} needs a head with {theirs.outputs} outputs; the run's has {head.outputs}"
        )
    if head.labels != theirs.labels:  # of classes without names nobody knows which is which
        told = [", ".join(one.labels) or "classes without names" for one in (theirs, head)]
        raise ConfigError(f"{task.name} has {told[0]}; the run's head has {told[1]}: they are not the same")
    return task


def score(subject: Subject, wanted: Sequence[tasks.Task]) -> Scores:
    """Of each task's test split. Fetches what is missing. Raises the tasks' own errors, RecordError for a
    score that is not finite."""
    tokenizer, model = models.load_tokenizer(subject.trained.spec.model), subject.load().to(device())
    found = [_score(task, model, tokenizer, subject.trained.unit) for task in wanted]
    return subject.record.model_copy(update={"scores": found})


def _score(
    task: tasks.Task,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None,
    unit: tuple[float, float],
) -> TaskScore:
    began = time.perf_counter()
    task.fetch()
    prepared = task.prepare(tokenizer)
    task.score_in(unit)
    task.check_model(model)
    try:
        found = scores.evaluate(task, model, "test", 0)
    except RunFailed as error:
        raise RecordError(f"{task.name}: {error.reason}") from error
    return TaskScore(
        task=json.loads(json.dumps(task.fingerprint())),  # as it is read again
        main=task.metric,
        metrics=found.metrics,
        items=len(found.predictions),
        seconds=time.perf_counter() - began,
        data=prepared.sha256,
    )


def seen(task: tasks.Task, trained: Trained) -> str:
    """How many of the test items that were scored the run has learned from or may be selected by, in a line;
    empty where none, or where nobody can tell: of prompts, and where the run's own data are gone."""
    try:
        own = tasks.create(**trained.spec.task)
        if not (isinstance(own, EncoderTask) and isinstance(task, EncoderTask)):
            return ""
        learned, scored = own.items().splits, task.items().splits["test"]
    except (tasks.TaskError, OSError):
        return ""
    known = {Entry(item.texts, None).key for split in ("train", "selection") for item in learned[split]}
    count = sum(Entry(item.texts, None).key in known for item in scored)
    told = f"{task.name}: {count} of {len(scored)} items are in the training or selection data of the run"
    return told if count else ""


def keep(path: Path, found: Scores) -> None:
    """Write scores beside those that are there of the same adapter in the same form, in the place of the same
    tasks'. Raises RecordError where the file is corrupt or cannot be written."""
    if path.exists():
        before = read_record(path, Scores)
        if (before.adapter, before.form) == (found.adapter, found.form):
            now = [one.task for one in found.scores]
            kept = [one for one in before.scores if one.task not in now]
            found = found.model_copy(update={"scores": [*kept, *found.scores]})
    write_record(path, found)
