"""What a document is asked as, in words and in tokens: rendered and encoded by the objects that score it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.causal import harness
from rankbench.tasks.causal.stock import Entry
from rankbench.tasks.data.rows import Rows
from rankbench.tasks.options import TaskError


def gold(task: harness.ConfigurableTask, doc: dict[str, Any]) -> int:
    """The index of the right choice; where a task accepts several, the first. Raises ValueError where the
    answer is no choice: an index of -1 would stand for the last one."""
    choices = task.doc_to_choice(doc)
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(target, list):
        target = target[0]
    index = choices.index(target) if isinstance(target, str) else int(target)
    if not 0 <= index < len(choices):
        raise ValueError(f"the answer {target!r} is none of the {len(choices)} choices")
    return index


def choice_rows(
    task: harness.ConfigurableTask, docs: Sequence[dict[str, Any]], choices: Sequence[list[float]]
) -> dict[str, list[Any]]:
    """Columns of the predictions: the right choice, the likeliest, and the log-likelihood of each."""
    return {
        "target": [gold(task, doc) for doc in docs],
        "prediction": [int(np.argmax(choice)) for choice in choices],
        "loglikelihoods": list(choices),
    }


class Rendered(NamedTuple):
    """One document as lm-eval asks it: texts, of which `answer` is the right one."""

    prompt: str
    answer: str
    asked: list[tuple[str, str]]
    """Every (prompt, choice) that is scored; empty where the model writes the answer."""
    room: int = 0
    """Tokens that a written answer may take."""


def render(task: harness.ConfigurableTask, doc: dict[str, Any]) -> Rendered:
    """Prompt, right answer and choices, as the requests that score the task hold them. Raises ValueError
    for an answer that is no choice, or that would not be found right itself."""
    instances = harness.requests(task, doc)
    asked = [request.args for request in instances]
    if task.OUTPUT_TYPE != "generate_until":
        prompt, answer = asked[gold(task, doc)]
        return Rendered(prompt, answer, asked)
    target = task.doc_to_target(doc)
    first = target[0] if isinstance(target, list) else target
    if not harness.found_right(task, doc, instances, str(first)):
        raise ValueError(f"the answer {str(first)[-40:]!r} itself would not be found right")
    prompt, options = asked[0]
    return Rendered(prompt, f"{task.config.target_delimiter}{first}", [], harness.room(options))


class Prompts:
    """The documents of one lm-eval task, encoded for a model that reads `limit` tokens."""

    def __init__(
        self, name: str, entry: Entry, task: Any, tokenizer: PreTrainedTokenizerBase, limit: int
    ) -> None:
        self.name, self.entry, self.task, self.limit = name, entry, task, limit
        self.end = [tokenizer.eos_token_id] if entry.generation else []
        self.encoder = harness.PairEncoder(tokenizer)

    def render(self, docs: Sequence[dict[str, Any]], indices: Sequence[int], rows: Rows) -> list[Rendered]:
        """The documents `indices` of `rows`. Raises TaskError for one that lm-eval cannot ask."""
        rendered = []
        for doc, row in zip(docs, indices, strict=True):
            try:
                rendered.append(render(self.task, doc))
            except Exception as error:  # a task's templates and functions raise whatever they like
                columns = (*self.entry.prompt, *self.entry.reads, *self.entry.choices, self.entry.answer)
                raise TaskError(
                    f"{self.name}: {rows.where(row)}, columns {', '.join(columns)}: lm-eval cannot ask this "
                    f"({harness.cause(error)})"
                ) from error
        return rendered

    def examples(self, rendered: Sequence[Rendered]) -> tuple[list[dict[str, Any]], int]:
        """Examples to train on or to score by their answers, and how many of them were cut."""
        pairs = self._pairs(rendered)
        self._refuse_long_answers(len(reply) for _, reply in pairs)
        return self._fed(pairs), sum(len(prompt + reply) - 1 > self.limit for prompt, reply in pairs)

    def right_answers(self, rendered: Sequence[Rendered]) -> list[dict[str, Any]]:
        """Examples to tell by how likely the right answers are where the model writes its own; none where one
        of them does not fit: what is written may be shorter."""
        pairs = self._pairs(rendered)
        return self._fed(pairs) if all(len(reply) <= self.limit for _, reply in pairs) else []

    def _pairs(self, rendered: Sequence[Rendered]) -> list[tuple[list[int], list[int]]]:
        """Tokens of each prompt, and of its answer with its end."""
        pairs = self.encoder.encode([(each.prompt, each.answer) for each in rendered])
        return [(prompt, reply + self.end) for prompt, reply in pairs]

    def _fed(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[dict[str, Any]]:
        return [
            {"input_ids": (prompt + reply)[:-1][-self.limit :], "answer": reply} for prompt, reply in pairs
        ]

    def cut(self, rendered: Sequence[Rendered]) -> int:
        """Documents of which lm-eval would cut the beginning of a prompt to score them. Raises TaskError
        where most prompts of a generated answer would be: training does not cut them so."""
        if not self.entry.generation:
            pairs = iter(self.encoder.encode([pair for each in rendered for pair in each.asked]))
            groups = [[next(pairs) for _ in each.asked] for each in rendered]
            self._refuse_long_answers(len(reply) for group in groups for _, reply in group)
            longest = [max(len(prompt + reply) - 1 for prompt, reply in group) for group in groups]
            return sum(length > self.limit for length in longest)
        lengths = [len(self.encoder.tok_encode(each.prompt)) for each in rendered]
        answer = max(each.room for each in rendered)
        room = self.limit - answer
        cut = sum(length > room for length in lengths)
        if 2 * cut > len(lengths):
            raise TaskError(
                f"{self.name}: max_length {self.limit} leaves {max(room, 0)} tokens for a prompt beside "
                f"the {answer} of a generated answer, too few for {cut} of {len(lengths)} test prompts; "
                f"{max(lengths) + answer} would fit all"
            )
        return cut

    def _refuse_long_answers(self, lengths: Iterable[int]) -> None:
        if (longest := max(lengths)) > self.limit:
            raise TaskError(
                f"{self.name}: an answer has {longest} tokens, above max_length {self.limit}; raise it"
            )
