"""One lm-eval task that a model is scored by, with its data, ready to be asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rankbench.tasks.causal.asked import Asked
from rankbench.tasks.causal.definitions import Definition, flat_name
from rankbench.tasks.data.hub import load_hub
from rankbench.tasks.data.splits import normalise, sample
from rankbench.tasks.options import TaskError, nearest

if TYPE_CHECKING:
    from rankbench.tasks.causal import harness

WORDS, LETTERS = 8, 16
"""A text of so many words, or with a word so long as sentences are in scripts without spaces, is no answer or
label: where it is trained on and scored, it leaks."""


def _is_long(text: str) -> bool:
    words = text.split()
    return len(words) >= WORDS or any(len(word) >= LETTERS for word in words)


class Answered(NamedTuple):
    """What a model scored on one task."""

    metrics: dict[str, float]
    items: list[str]
    values: list[float]
    answers: list[str | None]
    """What the model wrote; None where it chose."""


class Scorer:
    """One lm-eval task with its data and the documents that are asked."""

    def __init__(self, stated: Definition, how: Asked, mirror: Any, most: int | None) -> None:
        from rankbench.tasks.causal import harness

        self.name, self.generation = stated.name, stated.config.get("output_type") == "generate_until"
        pin = stated.pin(how.revision)
        rows = load_hub(pin, mirror, stated.splits) if pin else None
        try:
            data = {split: each.data for split, each in rows.items()} if rows else None
            self.task = harness.build_file(stated.path, data, how.fewshot)
            docs = self.task.eval_docs
        except Exception as error:  # a task's own code raises whatever it likes
            raise TaskError(f"{stated.path}: lm-eval cannot use this ({harness.cause(error)})") from error
        self._refuse_scored_examples(stated.path)
        self.metric, self.filtered = self._metric(how.metric)
        keys = [json.dumps(doc, sort_keys=True, default=str) for doc in docs]
        self.indices = sorted(sample(keys, most))
        self.docs = [docs[i] for i in self.indices]

    def _metric(self, wanted: str) -> tuple[str, str]:
        """The metric and the filter that the name stands for."""
        made = {
            flat_name(metric, each.name): (metric, each.name)
            for metric in self.task.aggregation()
            for each in self.task._filters
        }
        if wanted not in made:
            raise TaskError(f"instruct: {self.name} has no metric {wanted!r}; {nearest(wanted, list(made))}")
        metric, filtered = made[wanted]
        if getattr(self.task.aggregation()[metric], "__name__", "") != "mean":
            raise TaskError(
                f"instruct: {self.name}'s {wanted} is no mean over items, which runs are compared by; name "
                f"another `metric`: {', '.join(made)}"
            )
        if self.task.OUTPUT_TYPE == "loglikelihood_rolling" or getattr(self.task, "UNSAFE_CODE", False):
            raise TaskError(
                f"instruct: {self.name} scores whole texts or runs what is written, which is not done here"
            )
        return metric, filtered

    def _refuse_scored_examples(self, path: Path) -> None:
        """lm-eval takes a document out of its own examples only where both are of a named test split."""
        config, shots = self.task.config, self.task.fewshot_cfg
        if not config.num_fewshot or (shots.split is None and shots.samples is not None):
            return
        scored = config.test_split or config.validation_split
        taken = shots.split or config.training_split or config.validation_split or scored
        if taken == scored:
            raise TaskError(
                f"{path}: the {config.num_fewshot} examples before a question are of the split {scored!r}, "
                "which is scored: answers would stand in the prompt; name another fewshot_split, or say "
                "fewshot: 0"
            )

    def texts(self) -> set[str]:
        """Longer texts of the documents that are asked, as `normalise` makes them alike."""
        found = (value for doc in self.docs for value in doc.values() if isinstance(value, str))
        return {normalise(text) for text in found if _is_long(text)}

    def cut(self, encoder: harness.PairEncoder, limit: int, chat: bool) -> int:
        """Documents of which lm-eval would cut the beginning, at `limit` tokens. Raises TaskError where it
        cannot ask one, or would cut most."""
        from rankbench.tasks.causal import harness

        try:
            asked = harness.all_requests(self.task, self.indices, encoder if chat else None)
        except Exception as error:  # templates and functions raise whatever they like
            raise TaskError(f"instruct: lm-eval cannot ask {self.name} ({harness.cause(error)})") from error
        lengths = [max(self._length(encoder, each.args) for each in group) for group in asked]
        cut = sum(length > limit for length in lengths)
        if 2 * cut > len(lengths):
            raise TaskError(
                f"instruct: max_length {limit} is too little for {cut} of {len(lengths)} items of "
                f"{self.name}; {max(lengths)} would fit all"
            )
        return cut

    def _length(self, encoder: harness.PairEncoder, request: Sequence[Any]) -> int:
        from rankbench.tasks.causal import harness

        if self.generation:
            return len(encoder.tok_encode(request[0])) + harness.room(request[1])
        ((prompt, reply),) = encoder.encode([(request[0], request[1])])
        return len(prompt + reply) - 1

    def score(self, lm: harness.HFLM, chat: bool) -> Answered:
        """Ask all of it."""
        from rankbench.tasks.causal import harness

        metrics, samples = harness.evaluate(lm, self.task, self.indices, self.filtered, chat=chat)
        return Answered(
            metrics,
            [f"{self.name}/{each['doc_id']}" for each in samples],
            [float(each[self.metric]) for each in samples],
            [str(each["filtered_resps"][0]) if self.generation else None for each in samples],
        )
