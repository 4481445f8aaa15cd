"""The nine GLUE tasks (Wang et al. 2018, arXiv 1804.07461) with GLUE's own metrics.

The labels of GLUE's test split are hidden, so the `test` split here is GLUE's validation split, as
papers do; models are selected on a slice of the training split. Training texts that also occur in
the validation split are left out (and counted).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from torch import nn
from typing_extensions import override

from rankbench.tasks.base import Head, Score
from rankbench.tasks.data.hub import HubPin, load_hub
from rankbench.tasks.data.rows import ANY, Rows, label_fault
from rankbench.tasks.data.splits import carve, normalise, sample
from rankbench.tasks.metrics import BESIDE
from rankbench.tasks.options import Sizes, TaskError
from rankbench.tasks.text.encoder import EncoderTask, Item, Items

REPO = "nyu-mll/glue"
REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


class Shape(NamedTuple):
    """What sets one GLUE task apart."""

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    """The classes by name, as the data set orders them; none where texts are rated, within `span`."""
    metrics: tuple[str, ...] = ("accuracy",)
    span: tuple[float, float] = ANY
    scored: Mapping[str, str] = {"test": "validation"}
    """Our name of a split that is scored -> GLUE's."""


_PAIR = ("sentence1", "sentence2")
_MNLI = {"test": "validation_matched", "mismatched": "validation_mismatched"}
SHAPES = {
    "cola": Shape(("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",)),
    "sst2": Shape(("sentence",), ("negative", "positive")),
    "mrpc": Shape(_PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "stsb": Shape(_PAIR, (), ("pearson", "spearman"), (0, 5)),
    "qqp": Shape(("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "mnli": Shape(("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), scored=_MNLI),
    "qnli": Shape(("question", "sentence"), ("entailment", "not_entailment")),
    "rte": Shape(_PAIR, ("entailment", "not_entailment")),
    "wnli": Shape(_PAIR, ("not_entailment", "entailment")),
}


class GlueTask(EncoderTask):
    """One GLUE task. MNLI is scored on the matched split, with the mismatched one beside it.

    Version 2 calls texts equal by NFKC, case and white space alone.
    """

    version = 2
    licence = "GLUE's card says other: each data set keeps its own terms"
    source = f"hub data set {REPO}"

    def __init__(
        self,
        name: str,
        *,
        train: int | None = None,
        selection: int = 256,
        test: int | None = None,
        max_length: int = 128,
        scoring_batch: int = 64,
        mirror: str | os.PathLike[str] | None = None,
    ) -> None:
        self.shape = SHAPES[name]
        self.metrics = self.shape.metrics
        self.head = Head("sequence", len(self.shape.labels) or 1, self.shape.labels)
        self.pin = HubPin(REPO, name, REVISION)
        self.mirror = mirror
        self._read = ("train", *self.shape.scored.values())
        super().__init__(name, Sizes(train, selection, test, max_length, scoring_batch))

    def source_pin(self) -> dict[str, Any]:
        """The hub commit, or the hash of the mirror's files."""
        return self.pin.fingerprint(self.mirror, self._read)

    def fetch(self) -> None:
        """Download into the cache of `datasets`, unless a mirror is in use."""
        load_hub(self.pin, self.mirror, self._read)

    def items(self) -> Items:
        """Train and selection from GLUE's training split, test from its validation split."""
        loaded = load_hub(self.pin, self.mirror, self._read)
        held_out: set[str] = set()
        scored: dict[str, list[Item]] = {}
        for split, origin in self.shape.scored.items():
            rows = self._rows(loaded[origin])
            keys = [_key(row) for row in rows]
            held_out.update(keys)
            scored[split] = [rows[i] for i in sorted(sample(keys, self.sizes.test))]
        pool = self._rows(loaded["train"])
        keys = [_key(row) for row in pool]
        carved = carve(self.name, keys, held_out, self.sizes.selection, self.sizes.train)
        train, selection = [pool[i] for i in carved.train], [pool[i] for i in carved.selection]
        return Items({"train": train, "selection": selection} | scored, carved.dropped)

    def _rows(self, rows: Rows) -> list[Item]:
        ours, theirs = self.head.labels, tuple(name.lower() for name in rows.classes("label"))
        if theirs != ours and sorted(theirs) == sorted(ours):
            raise TaskError(
                f"{self.name}, split {rows.split}: column 'label' has the classes {', '.join(theirs)}; "
                f"write the files in the data set's order: {', '.join(ours)}"
            )
        texts = zip(*(rows.texts(column) for column in self.shape.columns), strict=True)
        labels = rows.checked("label", partial(label_fault, classes=self.classes, span=self.shape.span))
        return [Item(*each) for each in zip(rows.ids("idx"), texts, labels, strict=True)]

    @override
    def score(self, model: nn.Module, split: str) -> Score:
        """GLUE's metrics; on MNLI's test also `accuracy_mismatched`, its rows named so."""
        score = super().score(model, split)
        if split != "test" or "mismatched" not in self.shape.scored:
            return score
        other = super().score(model, "mismatched")
        matched = score.predictions.assign(item="matched/" + score.predictions["item"])
        mismatched = other.predictions.assign(item=BESIDE + other.predictions["item"])
        metrics = score.metrics | {"accuracy_mismatched": other.metrics["accuracy"]}
        return Score(metrics, pd.concat([matched, mismatched], ignore_index=True))


def _key(item: Item) -> str:
    return "\n".join(normalise(text) for text in item.texts)
