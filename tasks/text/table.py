"""A table of a user's own: texts, or pairs of them, with a class, a number or several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor, nn

from rankbench.tasks.base import Head, Score, Split
from rankbench.tasks.data import tables
from rankbench.tasks.data.divide import SPLITS
from rankbench.tasks.options import Sizes, TaskError, split_sizes
from rankbench.tasks.scoring import logits
from rankbench.tasks.text.columns import columns
from rankbench.tasks.text.encoder import EncoderTask, Item, Items
from rankbench.tasks.text.labels import Labels, OneClass, Rating
from rankbench.tasks.text.metrics import Asked, Measures
from rankbench.tasks.text.table_items import Loaded, load

Place: TypeAlias = str | Mapping[str, Any]


class TableTask(EncoderTask):
    """Rows of files, folders or hub data sets.

    Files are read when the task is made, so that a suite with a broken row is refused before anything runs;
    data of the hub are read by `prepare`.
    """

    version = 1
    licence = "the data's own"
    source = "the suite's own data"
    data_are_named = True

    def __init__(
        self,
        name: str,
        *,
        train: Place | None = None,
        selection: Place | None = None,
        test: Place | None = None,
        split: str | None = None,
        group: str | None = None,
        text: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        kind: str | None = None,
        labels: Sequence[Any] | None = None,
        separator: str | None = None,
        metric: Asked | Sequence[Asked] | None = None,
        sizes: Mapping[str, int] | None = None,
        max_length: int = 128,
        scoring_batch: int = 64,
        mirror: tables.Mirror = None,
    ) -> None:
        if train is None:
            raise TaskError("train: name a file (.csv, .tsv, .jsonl or .parquet), a folder or hub data")
        if split is not None and (selection is not None or test is not None):
            raise TaskError("split: a column tells the splits of train; leave out selection and test")
        places = {"train": train, "selection": selection, "test": test}
        self.sources = {
            one: tables.source(place, split=tables.USUAL[one])
            for one, place in places.items()
            if place is not None
        }
        self.columns = columns(text, label, kind, labels, separator, split, group)
        self.measures = Measures(self.columns.kind, metric)
        self.metrics = self.measures.names
        self.mirror = mirror
        self._given: dict[str, list[Any]] = {}
        self._groups: dict[str, list[str | None]] = {}
        super().__init__(
            name, Sizes(**split_sizes(sizes), max_length=max_length, scoring_batch=scoring_batch)
        )
        self.labels = self._labels()
        if isinstance(self.labels, OneClass):
            self.measures.check_classes(self.labels.names)
        self.head = Head("sequence", self.labels.outputs, self.labels.names)

    def _labels(self) -> Labels:
        if all(source.hub is None for source in self.sources.values()):
            return self._load().labels
        if (known := self.columns.known_labels()) is None:
            raise TaskError(
                "labels: name the classes of hub data in order: a model's head is made by them, and planned "
                "before anything is fetched"
            )
        return known

    def _load(self) -> Loaded:
        return load(tuple(self.sources.items()), self.columns, self.sizes, self.mirror)

    def options(self) -> dict[str, Any]:
        """All but where the data lie, whose contents are the source."""
        return super().options() | asdict(self.columns) | {"metrics": self.measures.told}

    def source_pin(self) -> dict[str, Any]:
        """The hashes of files, or hub commits; and of metrics that are scripts beside them."""
        pins: dict[str, Any] = {
            split: tables.pin(source, self.mirror) for split, source in self.sources.items()
        }
        scripts = self.measures.pin()
        return pins | ({"metrics": scripts} if scripts else {})

    def fetch(self) -> None:
        """Download hub data into the cache of `datasets`, unless a mirror is in use."""
        for source in self.sources.values():
            if source.hub is not None:
                tables.read(source, self.mirror)

    def protocol(self) -> dict[str, Any]:
        """Adds how rows were split and scored."""
        by = "text's words" if self.columns.group is None else "group"
        carved = [split for split in SPLITS if split not in self.sources]
        told = f"column {self.columns.split}; the rest by hash of the {by}" if self.columns.split else ""
        made = f"{', '.join(carved)} by hash of the {by}" if carved else "files"
        split = {"loss": self.labels.loss_is, "split": told or made}
        return super().protocol() | split | {"metrics": self.measures.told}

    @property
    def unit(self) -> tuple[float, float]:
        """Ratings are learnt in standard deviations from the mean of the training items."""
        return (self.labels.mean, self.labels.deviation) if isinstance(self.labels, Rating) else super().unit

    def score_in(self, unit: tuple[float, float]) -> None:
        """Any, of ratings."""
        if isinstance(self.labels, Rating):
            self.labels = Rating(self.labels.column, *unit)

    def items(self) -> Items:
        """As `load` reads them."""
        loaded = self._load()
        self.labels = loaded.labels
        splits = loaded.items.splits
        self._given = {split: [item.label for item in each] for split, each in splits.items()}
        self._groups = {split: [item.group for item in each] for split, each in splits.items()}
        return loaded.items

    def check_split(self, split: Split) -> None:
        """By the metrics that the suite names, on labels as they were given."""
        self.measures.check(split, np.array(self._given[split]), len(self.labels.names))

    def check_labels(self, split: str, rows: Sequence[Item]) -> None:
        """Nothing is left to check: they were when the rows were read, and rows have numbers for names."""

    def learned(self, row: Item) -> Any:
        """A class's number, a standardised rating, or 0 or 1 for each class."""
        return self.labels.learned(row.label)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Summed over the batch."""
        return self.labels.loss(logits(model, inputs), inputs["labels"])

    def score(self, model: nn.Module, split: str) -> Score:
        """The metrics; of every item target, prediction and outputs, its part of the main metric where these
        do not give it, and where there are groups the number of its own, which names nobody."""
        outputs = self._outputs(model, self._encoded[split]).numpy()
        target, answers = np.array(self._given[split]), self.labels.answers(outputs)
        said = outputs if self.labels.names else answers.prediction[:, None]  # of ratings in their own unit
        rows = {"target": target.tolist(), "prediction": answers.prediction.tolist(), "logits": said.tolist()}
        frame = pd.DataFrame({"item": self._ids[split], **rows})
        metrics = self.measures.of(split, target, answers)
        if split == "test" and (parts := self.measures.parts(target, answers)) is not None:
            frame["score"] = parts
        if None not in (groups := self._groups[split]):
            frame["group"] = pd.factorize(np.array(groups))[0]
        return Score(metrics, frame)
