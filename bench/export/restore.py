"""The model of a finished run as it was trained, from its saved adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rankbench.adapters import Adapter
from rankbench.bench import models
from rankbench.bench.records import Folders, RecordError, RunRecord, is_trial
from rankbench.bench.records.files import hash_of
from rankbench.bench.records.mirror import mirror_of
from rankbench.bench.run.saving import Trained, read
from rankbench.bench.seeds import generator
from rankbench.bench.suite import ConfigError, Model, plugged
from rankbench.bench.suite.described import adapter_of
from rankbench.bench.suite.files import suite_names
from rankbench.tasks.base import usable_positions
from rankbench.tasks.scoring import evaluating, logits
from rankbench.tasks.text.ends import ended

ITEMS, LENGTH, VOCABULARY = 8, 16, 1000
"""Of the random sequences whose outputs are compared; tokens are among the first ones of a vocabulary."""


@dataclass(frozen=True)
class Restored:
    """Model and adapter, attached, in the state that the run's best score is of."""

    record: RunRecord
    trained: Trained
    model: PreTrainedModel
    adapter: Adapter


def trained_of(folders: Folders, record: RunRecord, cell: str) -> Trained:
    """What the run has saved. Raises RecordError where it has saved nothing, or another file lies there, and
    ConfigError where its model is its task's own."""
    suite = record.suite if record.suite in suite_names() else f"{record.suite}.yaml"  # or what it was called
    way_out = f"`rankbench run {suite} --only {cell} --save` does the run again and keeps it"
    if is_trial(record):
        raise ConfigError(
            f"{cell} is a trial, and trials save nothing; name one of the runs that it chose for"
        )
    if record.saved is None:
        raise RecordError(f"{cell} has saved no adapter; {way_out}")
    path, known = folders.adapter(cell), record.saved.sha256
    if (mirror := mirror_of(path)) and not (path.exists() and hash_of(path) == known):
        mirror.fetch_one(path)
    if not path.exists():
        raise RecordError(f"{path}, the adapter of {cell}, is gone; {way_out}")
    if hash_of(path) != known:
        raise RecordError(f"{path} is not what {cell} has saved (another SHA-256); delete it, then {way_out}")
    trained = read(path)
    if trained.head.kind == "own":
        task = trained.spec.task["name"]
        raise ConfigError(f"{cell}: {task} makes its model itself; nothing else could use what is trained")
    return trained


def restore(record: RunRecord, trained: Trained, *, as_held: bool = False) -> Restored:
    """On the CPU, over frozen weights in float32, or as they were held in training.

    Fetches the pretrained model where it is missing. Raises ConfigError where its weights are not those that
    the run began with, or a plug-in that it used has changed, AdapterError where the adapter has.
    """
    spec = trained.spec
    refuse_other_weights(spec.model, record.identity["weights"])
    plugins = [plugged.read_one(Path(path)) for path in trained.plugins]
    if plugged.hashes(plugins).get("plugins", {}) != record.identity.get("plugins", {}):
        files = ", ".join(trained.plugins)
        raise ConfigError(f"{files}: what the run's method was made by has changed since; do the run again")
    plugged.use(plugins)
    model = base_of(trained, as_held=as_held)
    adapter = adapter_of(spec)
    heads = models.heads(model, spec.model)
    adapter.attach(model, spec.targets, heads=heads, generator=generator(spec.seed, "adapter"))
    adapter.load_state_dict(trained.state)
    return Restored(record, trained, model.eval(), adapter)


def refuse_other_weights(model: Model, then: str) -> None:
    """Raise ConfigError where the pretrained model is not what it was: its tokenizer, too, may be another."""
    if (now := models.identity(model)) != then:
        raise ConfigError(f"model {model.name} has other weights ({now}) than the run had ({then})")


def base_of(trained: Trained, *, as_held: bool = False) -> PreTrainedModel:
    """The pretrained model with the head that the run began with. In float32, unless it is wanted as it was
    held: the same numbers, but none that are computed with them are rounded more than others'."""
    models.fetch(trained.spec.model)
    loaded = models.load_headed(trained.spec.model, trained.head, trained.spec.seed)
    return loaded if as_held else models.widen(loaded)


def outputs(model: PreTrainedModel) -> Tensor:
    """Logits of the same few random sequences, whatever the task."""
    draw = torch.Generator().manual_seed(0)
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    size = min(VOCABULARY, embedding.num_embeddings)
    length = min(LENGTH, usable_positions(model) or LENGTH)
    ids = ended(torch.randint(size, (ITEMS, length), generator=draw), model.config)
    with evaluating(model):
        return logits(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
