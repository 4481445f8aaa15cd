"""Instruction tuning on a user's own data: trained on one set, scored on many.

Rows become prompts with answers by templates over their columns, or conversations by the model's own chat
template; the loss counts answer tokens only, of every turn. Scores are lm-eval's tasks, and the perplexity of
held-out answers. Rows whose text is scored, or held out, are not trained on (and counted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.base import Prepared, Score, Split
from rankbench.tasks.causal.chat import check_template
from rankbench.tasks.causal.examples import Carved, Encoder, answer_tokens, carved, example
from rankbench.tasks.causal.loss import CausalTask
from rankbench.tasks.causal.means import Part, perplexity
from rankbench.tasks.causal.several import MEAN, Several
from rankbench.tasks.causal.turns import Layout
from rankbench.tasks.data import tables
from rankbench.tasks.data.hub import load_hub
from rankbench.tasks.data.lines import Row
from rankbench.tasks.data.splits import digest
from rankbench.tasks.options import Sizes, TaskError, split_sizes
from rankbench.tasks.scoring import evaluating

PARITY_ITEMS = 8
CARVED = {"selection": (64, 10), "test": (256, 5)}
"""Rows that are carved from those of train where the suite says nothing, and one in how many at most."""
Place: TypeAlias = str | Mapping[str, Any]


class InstructTask(CausalTask):
    """Prompts and answers of a table, or conversations; scored by lm-eval tasks and by held-out answers.

    Models are selected by the log-likelihood of answers that are not trained on.
    """

    selection_metric = "answer_loglikelihood"
    version = 2
    data_are_named = True

    def __init__(
        self,
        name: str,
        *,
        train: Place | None = None,
        selection: Place | None = None,
        test: Place | None = None,
        prompt: str | None = None,
        answer: str | None = None,
        system: str | None = None,
        messages: str | None = None,
        chat: bool = False,
        skip_empty: bool = False,
        score: Sequence[Any] | None = None,
        main: str = MEAN,
        sizes: Mapping[str, int] | None = None,
        max_length: int = 1024,
        scoring_batch: int = 16,
        mirror: tables.Mirror = None,
    ) -> None:
        self.name, self.chat, self.mirror, self.max_length = name, chat, mirror, max_length
        self.skip_empty = skip_empty
        if train is None:
            raise TaskError(f"{name}: say what to train on: train: rows.jsonl")
        for option, value in (("chat", chat), ("skip_empty", skip_empty)):
            if not isinstance(value, bool):
                raise TaskError(f"{name}: {option} must be true or false, got {value!r}")
        self.layout = Layout.read(prompt=prompt, answer=answer, system=system, messages=messages, chat=chat)
        self.sizes = Sizes(**split_sizes(sizes), max_length=max_length, scoring_batch=scoring_batch).checked(
            name
        )
        places = {"train": train, "selection": selection, "test": test}
        self.sources = {
            split: tables.source(place, split=tables.USUAL[split])
            for split, place in places.items()
            if place is not None
        }
        self.scores = Several(score, main, mirror, self.sizes.test)
        if test is not None and not self.scores.perplexity:
            raise TaskError(
                f"{name}: `test` is what the perplexity is of; add perplexity to score, or leave test out"
            )
        self.metric = self.scores.metric
        self._given: dict[str, Any] = {
            "prompt": prompt,
            "answer": answer,
            "system": system,
            "messages": messages,
        }
        self._given |= {"chat": chat, "skip_empty": skip_empty}
        self.source = "the suite's own data"
        self.licence = "the data's own"

    def options(self) -> dict[str, Any]:
        """What is asked and how much; which files is in `source_pin`, wherever they lie."""
        return self._given | {"scores": self.scores.names, "main": self.metric} | asdict(self.sizes)

    def source_pin(self) -> dict[str, Any]:
        """The hashes of the rows, and of what each score is made of."""
        pins: dict[str, Any] = {split: tables.pin(of, self.mirror) for split, of in self.sources.items()}
        return pins | {"scores": self.scores.fingerprint()}

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results of this task."""
        parts = (self.layout.system, self.layout.prompt, self.layout.answer)
        template = " | ".join(each.text for each in parts if each) or f"column {self.layout.messages}"
        shots = {one.name: one.fewshot for one in self.scores.asked if one.fewshot is not None}
        return {
            **self.sizes.protocol(),
            **({"fewshot": shots} if shots else {}),  # else what lm-eval's own files say
            "loss": "cross-entropy per answer token",
            "masking": "answer tokens only, of every turn",
            "template": f"{template}, {'the chat template' if self.chat else 'as text'}",
            "scores": self.scores.names,
        }

    def fetch(self) -> None:
        """Fill the cache of `datasets`, unless a mirror is in use."""
        for of in self.sources.values():
            if of.hub:
                load_hub(of.hub, self.mirror, (of.split,))
        self.scores.fetch()

    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Read, carve and encode the rows, and see to it that lm-eval can ask all that is scored."""
        from rankbench.tasks.causal import harness

        if tokenizer is None or tokenizer.eos_token_id is None:
            raise TaskError(f"{self.name} needs the tokenizer of a causal model, with an end-of-text token")
        self.sizes.check_tokenizer(self.name, tokenizer.model_max_length)
        if self.chat:
            check_template(tokenizer)
        self._tokenizer, limit = tokenizer, self.sizes.max_length
        pairs = harness.PairEncoder(tokenizer, chat=self.chat)
        scorers = self.scores.scorers
        cut = sum(each.cut(pairs, limit, self.chat) for each in scorers)
        rows, dropped = self._carved({text for each in scorers for text in each.texts()})
        encoder = Encoder(self.layout, tokenizer, pairs)
        encode = encoder.chats if self.chat else encoder.texts
        encoded = {split: encode(each) for split, each in rows.items()}
        self._examples, self._ids = {}, {}
        truncated, unanswered = {}, {}
        for split, each in encoded.items():
            made = {str(i): found for i, one in enumerate(each) if (found := example(one, limit))}
            if each and not made:
                raise TaskError(
                    f"{self.name}: max_length {limit} leaves no answer of {split} a token; raise it"
                )
            self._ids[split], self._examples[split] = [*made], [*made.values()]
            truncated[split] = sum(len(each[int(i)].ids) - 1 > limit for i in made)
            unanswered[split] = len(each) - len(made)
        sizes = {split: len(found) for split, found in self._examples.items()}
        sizes["test"] += sum(len(each.indices) for each in scorers)
        truncated["test"] += cut
        train = self._examples["train"]
        return Prepared(
            train=train,
            lengths=[len(each["input_ids"]) for each in train],
            sha256=digest(
                [*([row.values for row in each] for each in rows.values()), *(s.docs for s in scorers)]
            ),
            sizes=sizes,
            truncated=truncated,
            dropped=dropped + sum(unanswered.values()),
            unanswered=unanswered,
            asked=replace(self.sizes, test=None).short(sizes),
        )

    def _carved(self, scored: set[str]) -> Carved:
        read = {split: self._rows(of) for split, of in self.sources.items()}
        given = {split: rows for split, (rows, _) in read.items()}
        if not self.scores.perplexity:
            given["test"] = []
        asked, count = asdict(self.sizes), len(given["train"])
        carve = {
            split: asked[split] or max(1, min(most, count // share))
            for split, (most, share) in CARVED.items()
            if split not in given
        }
        sizes = replace(self.sizes, **carve)
        found = carved(self.name, self.layout, given, sizes, scored)
        return found._replace(dropped=found.dropped + read["train"][1])

    def _rows(self, of: tables.Source) -> tuple[list[Row], int]:
        """Those that may be used, and how many have an empty answer and are not, where that is allowed."""
        rows = tables.read(of, self.mirror).rows
        kept = [row for row in rows if self.layout.answered(row)] if self.skip_empty else rows
        return kept, len(rows) - len(kept)

    def logits(self, model: nn.Module) -> Tensor:
        """(items, vocabulary) on the first selection items."""
        return self.last_logits(model, self._examples["selection"][:PARITY_ITEMS])

    def score(self, model: nn.Module, split: Split) -> Score:
        """On the test split every score; on the selection split the answers' log-likelihood."""
        return self._score_test(model) if split == "test" else self._score_selection(model)

    def _score_selection(self, model: nn.Module) -> Score:
        examples = self._examples["selection"]
        likelihoods, greedy = self.answers(model, examples, self.sizes.scoring_batch)
        rows = {"item": self._ids["selection"], "target": [True] * len(greedy), "prediction": greedy}
        frame = pd.DataFrame(rows | {"loglikelihood": likelihoods})
        return Score({"answer_loglikelihood": sum(likelihoods) / float(answer_tokens(examples).sum())}, frame)

    def _score_test(self, model: nn.Module) -> Score:
        from rankbench.tasks.causal import harness

        held_out = self._perplexity(model) if self.scores.perplexity else None
        with evaluating(model), harness.quiet():
            batch, limit = self.sizes.scoring_batch, self.sizes.max_length
            lm = harness.wrap(model, self._tokenizer, batch, limit, chat=self.chat)
            return self.scores.score(lm, self.chat, held_out)

    def _perplexity(self, model: nn.Module) -> tuple[Part, pd.DataFrame]:
        """Of the held-out answers, and each one's summed loss and tokens."""
        examples = self._examples["test"]
        likelihoods, _ = self.answers(model, examples, self.sizes.scoring_batch)
        losses, tokens = -np.asarray(likelihoods), answer_tokens(examples)
        rows = pd.DataFrame({"item": self._ids["test"], "loss": losses, "tokens": tokens})
        return perplexity(losses, tokens), rows
