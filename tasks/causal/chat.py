"""Conversations in the tokens of a model's own chat template, and which of them are answers.

An answer is what the model would write: all that the template puts after the beginning of a reply
(`add_generation_prompt`), with the token that ends the turn, without the white space after it. Where the
template marks its answers itself (`{% generation %}`), its marks count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from rankbench.tasks.causal.turns import ANSWERS, Turn
from rankbench.tasks.options import TaskError

MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")

TODAY = datetime(2024, 7, 26)
"""To every template that asks: with the day's own date, a row would be other tokens tomorrow, under the same
fingerprint. It is the one that Llama 3's templates write where they find no clock."""


class Encoded(NamedTuple):
    """Tokens of a text, and whether each is learned."""

    ids: list[int]
    learned: list[bool]


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise TaskError where the tokenizer cannot lay out a chat."""
    if not tokenizer.chat_template:
        raise TaskError(
            "instruct: this model's tokenizer has no chat template; leave `chat` out, or take a model that "
            "was made for chats"
        )
    if not tokenizer.is_fast:
        raise TaskError("instruct: chat needs a fast tokenizer (tokenizer.json), and this model has none")


def on_one_day() -> AbstractContextManager[Any]:
    """Within it, templates are told that it is `TODAY`: transformers lets no argument take the place of its
    `strftime_now`."""
    return patch.object(chat_template_utils, "datetime", SimpleNamespace(now=lambda: TODAY))


def encode(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> Encoded:
    """A conversation. Raises ValueError where the template refuses it, or writes an answer otherwise once
    there are turns after it: the model would not write what it is taught."""
    marked = MARKED.search(_template(tokenizer))
    try:
        with on_one_day():
            return _marked(tokenizer, turns) if marked else _between(tokenizer, turns)
    except TemplateError as error:
        raise ValueError(f"the model's chat template refuses it: {error}") from error


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    template: str = tokenizer.get_chat_template()
    return template


def _marked(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> Encoded:
    found: Any = tokenizer.apply_chat_template(
        list(turns), return_dict=True, return_assistant_tokens_mask=True
    )
    return Encoded(list(found["input_ids"]), [bool(each) for each in found["assistant_masks"]])


def _between(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> Encoded:
    whole = _render(tokenizer, turns)
    answers = [_span(tokenizer, turns, i, whole) for i, turn in enumerate(turns) if turn["role"] == ANSWERS]
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    learned = [
        any(start < last and end > first for first, last in answers) for start, end in found["offset_mapping"]
    ]
    return Encoded(list(found["input_ids"]), learned)


def _span(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], place: int, whole: str
) -> tuple[int, int]:
    """Where in the whole text the answer at `place` begins and ends, in characters."""
    if place == 0:
        raise ValueError("it begins with an answer; put what is asked before it")
    before = _render(tokenizer, turns[:place], add_generation_prompt=True)
    until = _render(tokenizer, turns[: place + 1]).rstrip()
    if not (whole.startswith(until) and until.startswith(before)):
        raise ValueError(
            f"the model's chat template writes turn {place + 1} otherwise where it is generated; give rows "
            "of one answer each"
        )
    return len(before), len(until)


def _render(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], *, add_generation_prompt: bool = False
) -> str:
    text: Any = tokenizer.apply_chat_template(
        list(turns), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(text)
