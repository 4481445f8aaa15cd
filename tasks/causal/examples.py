"""A table's rows as examples of `loss`: carved into splits that share no prompt, encoded, cut to a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.causal import chat
from rankbench.tasks.causal.loss import IGNORED
from rankbench.tasks.causal.turns import Layout
from rankbench.tasks.data.lines import Row
from rankbench.tasks.data.splits import carve, normalise, sample
from rankbench.tasks.options import Sizes, TaskError

if TYPE_CHECKING:
    from rankbench.tasks.causal import harness


class Carved(NamedTuple):
    """Rows by split, `test` those whose answers' perplexity is measured, and how many are not trained on."""

    rows: dict[str, list[Row]]
    dropped: int


def carved(
    name: str, layout: Layout, given: Mapping[str, Sequence[Row]], sizes: Sizes, scored: set[str]
) -> Carved:
    """The rows `given` of each split, cut to size; what is missing is carved from those of train. A prompt is
    in one split, and what stands in `scored`, as `normalise` makes texts alike, is neither trained on nor
    selected by. Raises TaskError if nothing is left."""
    pool, keys = given["train"], [layout.key(row) for row in given["train"]]
    leaks = {
        layout.key(row)
        for split in ("train", "selection")
        for row in given.get(split, ())
        if any(normalise(text) in scored for text in layout.texts(row))
    }
    rows: dict[str, list[Row]] = {}
    dropped = 0
    for split, most in (("test", sizes.test), ("selection", sizes.selection)):
        if split in given:
            own = [(layout.key(row), row) for row in given[split]]
            free = [(key, row) for key, row in own if split == "test" or key not in leaks]
            if own and not free:
                raise TaskError(f"{name}: no row of {split} is left: each has a text that is scored")
            dropped += len(own) - len(free)
            rows[split] = [free[i][1] for i in sorted(sample([key for key, _ in free], most))]
            leaks |= {key for key, _ in own}
    held_out: list[int] = []
    if "test" not in rows:
        held_out = sorted([i for i in sample(keys) if keys[i] not in leaks][: sizes.test])
        leaks |= {keys[i] for i in held_out}
        rows["test"] = [pool[i] for i in held_out]
    found = carve(name, keys, leaks, 0 if "selection" in rows else sizes.selection, sizes.train)
    rows.setdefault("selection", [pool[i] for i in found.selection])
    return Carved({"train": [pool[i] for i in found.train], **rows}, found.dropped - len(held_out) + dropped)


class Encoder:
    """Rows in a model's tokens."""

    def __init__(
        self, layout: Layout, tokenizer: PreTrainedTokenizerBase, pairs: harness.PairEncoder
    ) -> None:
        self.layout, self.tokenizer, self.pairs = layout, tokenizer, pairs

    def chats(self, rows: Sequence[Row]) -> list[chat.Encoded]:
        """Laid out by the model's template. Raises TaskError, naming the row, for one that it refuses."""
        return [self._chat(row) for row in rows]

    def _chat(self, row: Row) -> chat.Encoded:
        turns = self.layout.turns(row)
        try:
            return chat.encode(self.tokenizer, turns)
        except ValueError as error:
            raise TaskError(f"{row.place}: {error}") from error

    def texts(self, rows: Sequence[Row]) -> list[chat.Encoded]:
        """Prompt, answer and the end-of-text token, as lm-eval encodes a pair; apart where one token would
        hold the end of the prompt and the beginning of the answer: lm-eval loses the answer's, a sign."""
        turns = [self.layout.turns(row) for row in rows]
        texts = [(asked["content"], said["content"]) for asked, said in turns]
        encoded = []
        for (prompt, answer), (asked, said) in zip(texts, self.pairs.encode(texts), strict=True):
            if prompt.strip() and asked + said != self.pairs.tok_encode(prompt + answer):
                asked = self.pairs.tok_encode(prompt)
                said = self.pairs.tok_encode(answer, add_special_tokens=False)
            said = [*said, self.tokenizer.eos_token_id]
            encoded.append(chat.Encoded(asked + said, [False] * len(asked) + [True] * len(said)))
        return encoded


def example(encoded: chat.Encoded, limit: int) -> dict[str, Any] | None:
    """As `loss` takes it, of `limit` tokens at most, cut on the right as fine-tuning does; None where that
    leaves no token of an answer. The first token of a text follows nothing: it cannot be learned."""
    ids, learned = encoded
    places = [i for i, each in enumerate(learned) if each and 0 < i <= limit]
    if not places:
        return None
    first, last = places[0], places[-1] + 1
    answer = [token if each else IGNORED for token, each in zip(ids, learned, strict=True)][first:last]
    return {"input_ids": ids[: last - 1], "answer": answer}


def answer_tokens(examples: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """How many tokens of each are learned, (items,)."""
    return np.asarray([sum(token != IGNORED for token in each["answer"]) for each in examples], np.float64)
