"""Two tiny tasks over random token ids, learnable within seconds: no download, no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from rankbench.tasks.base import Batch, Head, Prepared, Score, Split, Task
from rankbench.tasks.causal.loss import CausalTask
from rankbench.tasks.data.splits import digest
from rankbench.tasks.options import TaskError, check_counts, check_seed
from rankbench.tasks.scoring import evaluating, logits, on

SPECIAL = 4
"""Ids below are kept free: padding, separators and answers."""
SHORTEST = 4
"""Items have half of `length` at least: an answer of two tokens and a prompt before it."""
PARITY_ITEMS = 16


class _Synthetic(Task):
    """Shared: sizes, the splits, and items drawn until all are distinct."""

    licence = "none: generated"
    source = "generated"
    metric = "accuracy"

    def __init__(
        self,
        name: str,
        *,
        train: int = 128,
        selection: int = 32,
        test: int = 64,
        length: int = 12,
        vocabulary: int = 32,
        data_seed: int = 0,
    ) -> None:
        check_counts(name, train=train, selection=selection, test=test, length=length, vocabulary=vocabulary)
        check_seed(name, data_seed)
        if length < SHORTEST:
            raise TaskError(f"{name}: length must be at least {SHORTEST}, got {length}")
        if vocabulary < SPECIAL + 4:
            raise TaskError(f"{name}: vocabulary must be at least {SPECIAL + 4}, got {vocabulary}")
        self.name, self.length, self.vocabulary, self.data_seed = name, length, vocabulary, data_seed
        self.sizes = {"train": train, "selection": selection, "test": test}
        self.max_length = length
        self._splits: dict[str, list[dict[str, Any]]] = {}

    def _draw(self, generator: np.random.Generator) -> dict[str, Any]:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Sizes and what must agree."""
        return self.sizes | self.protocol()

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results."""
        return {"length": self.length, "vocabulary": self.vocabulary, "data_seed": self.data_seed}

    @override
    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Draw the data; no tokenizer is used."""
        generator = np.random.default_rng(self.data_seed)
        distinct: dict[tuple[int, ...], dict[str, Any]] = {}
        for _ in range(20 * sum(self.sizes.values())):
            example = self._draw(generator)
            distinct.setdefault(tuple(example["input_ids"]), example)
            if len(distinct) == sum(self.sizes.values()):
                break
        else:
            raise TaskError(f"{self.name}: too few distinct items; raise length or vocabulary")
        items = iter(distinct.values())
        self._splits = {split: [next(items) for _ in range(size)] for split, size in self.sizes.items()}
        train = self._splits["train"]
        lengths = [len(example["input_ids"]) for example in train]
        return Prepared(train, lengths, digest(self._splits.items()), dict(self.sizes))


class TinyClassification(_Synthetic):
    """Which half of the vocabulary most of the tokens come from; lengths differ."""

    head = Head("sequence", 2)

    def _draw(self, generator: np.random.Generator) -> dict[str, Any]:
        label = int(generator.integers(2))
        length = int(generator.integers(self.length // 2, self.length, endpoint=True))
        middle = (SPECIAL + self.vocabulary) // 2
        low = generator.integers(SPECIAL, middle, length)
        high = generator.integers(middle, self.vocabulary, length)
        own, other = (high, low) if label else (low, high)
        ids = np.where(generator.random(length) < 0.9, own, other)
        label = int((ids >= middle).mean() > 0.5)
        return {"input_ids": ids.tolist(), "labels": label}

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """input_ids and attention_mask (batch, longest), padded on the right; labels (batch,)."""
        rows = [torch.tensor(example["input_ids"]) for example in examples]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels = torch.tensor([example["labels"] for example in examples])
        return Batch({"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}, len(rows))

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Cross-entropy summed over items."""
        return F.cross_entropy(logits(model, inputs), inputs["labels"], reduction="sum")

    def score(self, model: nn.Module, split: Split) -> Score:
        """Accuracy."""
        import pandas as pd  # scoring alone needs it: training goes without

        outputs = self._outputs(model, self._splits[split])
        targets = [example["labels"] for example in self._splits[split]]
        frame = pd.DataFrame({"item": [str(i) for i in range(len(targets))], "target": targets})
        frame["prediction"], frame["logits"] = outputs.argmax(-1).tolist(), outputs.tolist()
        return Score({"accuracy": float((frame["target"] == frame["prediction"]).mean())}, frame)

    def logits(self, model: nn.Module) -> Tensor:
        """Outputs (items, 2) on the first selection items."""
        return self._outputs(model, self._splits["selection"][:PARITY_ITEMS])

    def _outputs(self, model: nn.Module, examples: Sequence[dict[str, Any]]) -> Tensor:
        with evaluating(model) as device:
            return logits(model, on(device, self.collate(examples).inputs)).cpu()


class TinyCausal(_Synthetic, CausalTask):
    """The last two tokens of a sequence that repeats with period two or three."""

    def _draw(self, generator: np.random.Generator) -> dict[str, Any]:
        period = int(generator.integers(2, 3, endpoint=True))
        length = int(generator.integers(self.length // 2, self.length, endpoint=True))
        pattern = generator.integers(SPECIAL, self.vocabulary, period)
        ids = np.tile(pattern, length)[: length + 1].tolist()
        return {"input_ids": ids[:-1], "answer": ids[-2:]}

    def score(self, model: nn.Module, split: Split) -> Score:
        """Accuracy of whole answers under greedy choice, and the answers' log-likelihood."""
        import pandas as pd

        examples = self._splits[split]
        likelihoods, greedy = self.answers(model, examples, len(examples))
        # Right or wrong, not what was answered: of every item's answer being `True` a report would say that a
        # constant answer is right on all.
        frame = pd.DataFrame({"item": [str(i) for i in range(len(examples))]})
        frame["score"], frame["loglikelihood"] = np.array(greedy, float), likelihoods
        return Score({"accuracy": float(np.mean(greedy))}, frame)

    def logits(self, model: nn.Module) -> Tensor:
        """(items, vocabulary) on the first selection items."""
        return self.last_logits(model, self._splits["selection"][:PARITY_ITEMS])
