"""Texts classified, or rated on a scale, by an encoder with a sequence head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.base import Batch, Prepared, Score, Split, Task
from rankbench.tasks.data.rows import check_items
from rankbench.tasks.data.splits import digest
from rankbench.tasks.metrics import metric
from rankbench.tasks.options import Sizes, TaskError
from rankbench.tasks.scoring import evaluating, logits, on
from rankbench.tasks.text.ends import READ_AT_THE_END

PARITY_ITEMS = 16
MOVED = 1e-2
"""By padding, of how far the answers to two texts lie apart: FNet, which mixes padding in, moves by 1 and
more, CANINE by 0.7, others by rounding alone."""
ROUNDED = 1e-4
"""Of an answer, what rounding may move where all answers are nearly one."""


@dataclass(frozen=True)
class Item:
    """One text, or pair of texts, with its class or rating."""

    id: str
    texts: tuple[str, ...]
    label: float | tuple[float, ...]
    """Of several labels one number each, 0 or 1."""
    group: str | None = None
    """Items of one group are alike, as those of one author; None where each stands for itself."""


@dataclass(frozen=True)
class Items:
    """Every split of a task; `splits` holds train, selection and test, perhaps more to score."""

    splits: dict[str, list[Item]]
    dropped: int = 0
    told: tuple[str, ...] = ()
    """What a user should know of them: `Prepared.told`."""


class EncoderTask(Task):
    """Shared by GLUE and the packaged sentiment tasks; a subclass gives the items.

    The loss is the sum over examples of the cross-entropy (classes) or the squared error (one
    output). Scoring runs in batches of `scoring_batch`, sorted by length.
    """

    metrics: tuple[str, ...]
    """What is reported, by its names in `tasks.metrics`; the first is what models are selected by."""

    def __init__(self, name: str, sizes: Sizes) -> None:
        self.name, self.sizes, self.max_length = name, sizes.checked(name), sizes.max_length
        self.metric = self.metrics[0]
        self._encoded: dict[str, list[dict[str, Any]]] = {}
        self._ids: dict[str, list[str]] = {}

    @abstractmethod
    def items(self) -> Items:
        """Load the splits, cut to the sizes asked for."""

    @property
    def classes(self) -> int | None:
        """How many there are; None where texts are rated."""
        return self.head.outputs if self.head.outputs > 1 else None

    def options(self) -> dict[str, Any]:
        """Sizes and lengths."""
        return asdict(self.sizes)

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results of this task."""
        kind = "cross-entropy per item" if self.classes else "squared error per item"
        return self.sizes.protocol() | {"loss": kind}

    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Encode every split once; padding waits for `collate`."""
        if tokenizer is None:
            raise TaskError(f"{self.name} needs the tokenizer of an encoder")
        if tokenizer.pad_token_id is None:
            raise TaskError(
                f"{self.name} needs a tokenizer with a padding token; set `pad_token` in its files"
            )
        self.sizes.check_tokenizer(self.name, tokenizer.model_max_length)
        self._tokenizer = tokenizer
        items = self.items()
        truncated = {}
        for split, rows in items.splits.items():
            if not rows:
                raise TaskError(f"{self.name}: the {split} split is empty")
            self._ids[split] = [row.id for row in rows]
            self.check_labels(split, rows)
            self._encoded[split], truncated[split] = self._encode(rows)
        self.check_split("test")
        train = self._encoded["train"]
        sizes = {split: len(rows) for split, rows in items.splits.items()}
        return Prepared(
            train=train,
            lengths=[len(example["input_ids"]) for example in train],
            sha256=digest((s, r.id, r.texts, r.label) for s, rows in items.splits.items() for r in rows),
            sizes=sizes,
            truncated=truncated,
            dropped=items.dropped,
            asked=self.sizes.short(sizes),
            told=items.told,
        )

    def check_model(self, model: nn.Module) -> None:
        """Adds, once the texts are encoded, that all have as many end tokens where the model classifies by
        the last one: it refuses a batch of texts of more and fewer. And that padding moves no score."""
        super().check_model(model)
        if self._encoded:
            self._refuse_other_ends(model)
            self._refuse_moved_by_padding(model)

    def _refuse_other_ends(self, model: nn.Module) -> None:
        config: Any = model.config
        if config.model_type not in READ_AT_THE_END:
            return
        end = config.eos_token_id
        ends = {
            (split, name): example["input_ids"].count(end)
            for split, examples in self._encoded.items()
            for name, example in zip(self._ids[split], examples, strict=True)
        }
        usual = max(1, min(ends.values()))
        for (split, name), count in ends.items():
            if count != usual:
                mend = "take it out of the text" if count else "save its tokenizer with add_eos_token=True"
                token = self._tokenizer.convert_ids_to_tokens(end)
                raise TaskError(
                    f"{self.name}: item {name} of the {split} split has {count} times, not {usual}, "
                    f"the token {token!r}, which ends a text of this model; {mend}"
                )

    def _refuse_moved_by_padding(self, model: nn.Module) -> None:
        """Of a model in less than float32 rounding alone may move as much."""
        by_length = sorted(self._encoded["test"], key=lambda example: len(example["input_ids"]))
        short, long = by_length[0], by_length[-1]
        if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
            return
        alone, other = self._outputs(model, [short]), self._outputs(model, [long])
        moved = (self._outputs(model, [short, long]) - torch.cat([alone, other])).abs().max()
        if moved > MOVED * (alone - other).abs().max() and moved > ROUNDED * alone.abs().max():
            config: Any = model.config
            raise TaskError(
                f"{self.name}: this model ({config.model_type}) answers otherwise of a text where a "
                "longer one stands beside it in a batch, so that scores would depend on the batches; "
                "say scoring_batch: 1, or name another model"
            )

    def _encode(self, rows: Sequence[Item]) -> tuple[list[dict[str, Any]], int]:
        columns = [list(column) for column in zip(*(row.texts for row in rows), strict=True)]
        special = self._tokenizer.num_special_tokens_to_add(pair=len(columns) > 1)
        if self.sizes.max_length <= special:
            raise TaskError(
                f"{self.name}: max_length {self.sizes.max_length} leaves no room for text: this tokenizer "
                f"adds {special} tokens of its own; raise it"
            )
        encoded = self._tokenizer(*columns, truncation=False, verbose=False)
        cut = sum(len(ids) > self.sizes.max_length for ids in encoded["input_ids"])
        if cut:
            encoded = self._tokenizer(*columns, truncation=True, max_length=self.sizes.max_length)
        return [
            self._with_a_token({key: encoded[key][i] for key in encoded}, row) | {"labels": self.learned(row)}
            for i, row in enumerate(rows)
        ], cut

    def check_labels(self, split: str, rows: Sequence[Item]) -> None:
        """Raise TaskError for a label that the head cannot learn, and for two scored items of one name."""
        check_items(self.name, split, [row.id for row in rows], [row.label for row in rows], self.classes)

    def check_split(self, split: Split) -> None:
        """By a perfect answer to its targets, and by others."""
        from rankbench.tasks.text.metrics import Measures  # a second that listing tasks saves

        kind = "classification" if self.classes else "regression"
        targets = [example["labels"] for example in self._encoded[split]]
        Measures(kind, self.metrics).check(split, np.array(targets), self.classes or 0)

    def learned(self, row: Item) -> Any:
        """What the loss takes for the row's label: a class, or a rating."""
        assert not isinstance(row.label, tuple)
        return int(row.label) if self.classes else float(row.label)

    def _with_a_token(self, example: dict[str, Any], row: Item) -> dict[str, Any]:
        """An empty text has no token where the tokenizer adds none of its own; a model needs one."""
        if example["input_ids"]:
            return example
        tokens = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id)
        token = next((token for token in tokens if token is not None), None)
        if token is None:
            raise TaskError(
                f"{self.name}: item {row.id} has an empty text, and this tokenizer no token for one; "
                "leave it out"
            )
        return example | {"input_ids": [token], "attention_mask": [1]}

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """Pad to the longest example; labels are float for ratings, integer for classes."""
        features = [{k: v for k, v in example.items() if k != "labels"} for example in examples]
        inputs = dict(self._tokenizer.pad(features, return_tensors="pt"))
        inputs["labels"] = torch.tensor([example["labels"] for example in examples])
        return Batch(inputs, len(examples))

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Summed over the batch."""
        outputs = logits(model, inputs)
        if self.classes:
            return F.cross_entropy(outputs, inputs["labels"], reduction="sum")
        return F.mse_loss(outputs.squeeze(-1), inputs["labels"].float(), reduction="sum")

    def logits(self, model: nn.Module) -> Tensor:
        """Outputs (items, outputs) on the first selection items."""
        return self._outputs(model, self._encoded["selection"][:PARITY_ITEMS])

    def score(self, model: nn.Module, split: str) -> Score:
        """The task's metrics, and target, prediction and outputs of every item, with its squared error where
        the main one is of that; of any split there is."""
        from rankbench.tasks.text.measure import measure  # a second that listing tasks saves

        examples = self._encoded[split]
        outputs = self._outputs(model, examples).numpy()
        predictions = outputs.argmax(axis=1) if self.classes else outputs[:, 0]
        targets = [example["labels"] for example in examples]
        rows = {"item": self._ids[split], "target": targets, "prediction": predictions}
        frame = pd.DataFrame(rows | {"logits": [np.asarray(row).tolist() for row in outputs]})
        if (parts := metric(self.metric).parts) and "squared_error" in parts.columns:
            frame["squared_error"] = (frame["target"] - frame["prediction"].astype(np.float64)) ** 2
        return Score(measure(self.metrics, targets, predictions.tolist()), frame)

    def _outputs(self, model: nn.Module, examples: Sequence[dict[str, Any]]) -> Tensor:
        order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
        outputs = torch.empty(len(examples), self.head.outputs)
        with evaluating(model) as device:
            for start in range(0, len(order), self.sizes.scoring_batch):
                chosen = order[start : start + self.sizes.scoring_batch]
                inputs = on(device, self.collate([examples[i] for i in chosen]).inputs)
                outputs[chosen] = logits(model, inputs).cpu()
        return outputs
