"""A user's row as a conversation: from templates over its columns, or from a column of messages."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Any, TypeAlias

from rankbench.tasks.data.lines import Row
from rankbench.tasks.data.splits import normalise
from rankbench.tasks.options import TaskError, nearest

Turn: TypeAlias = dict[str, str]
"""`role` and `content`, as chat templates take them."""
PARTS = ("role", "content")
NOTHING: tuple[Any, ...] = (None, "", [], {})
"""That a key of a turn may hold which says nothing, as some exports write where there is no tool call."""

TOOLS = ("tools", "functions")
"""Columns beside the messages by which chats with tools come: templates write down what there is to call."""

ANSWERS = "assistant"
"""The role whose turns are learned."""
ROLES = ("system", "developer", "user", ANSWERS, "tool")
"""Templates pass over what they do not know, or write it down as it is."""


@dataclass(frozen=True)
class Template:
    """`"Question: {question}"`: a text with columns in braces; `{{` and `}}` are braces themselves."""

    option: str
    text: str
    parts: tuple[tuple[str, str | None], ...]
    """Text, and the column that follows it."""

    @classmethod
    def read(cls, option: str, text: Any) -> Template:
        """Raises TaskError for a template that is broken or names no column."""
        if not isinstance(text, str):
            raise TaskError(f"instruct: {option} must be a text with columns in braces, got {text!r}")
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise TaskError(
                f"instruct: {option} {text!r}: {error}; write {{{{ and }}}} for braces themselves"
            ) from None
        for _, column, form, conversion in parsed:
            if column == "" or form or conversion:
                raise TaskError(f"instruct: {option} {text!r}: between braces stands a column, no more")
        parts = tuple((before, column) for before, column, _, _ in parsed)
        if not any(column for _, column in parts):
            raise TaskError(f"instruct: {option} {text!r} names no column; write it in braces: {{question}}")
        return cls(option, text, parts)

    @property
    def columns(self) -> list[str]:
        """Those that it names."""
        return [column for _, column in self.parts if column]

    def fill(self, row: Row) -> str:
        """The text with the row's values. Raises TaskError for one that is missing or no text."""
        return "".join(before + (_cell(row, column) if column else "") for before, column in self.parts)


def _cell(row: Row, column: str) -> str:
    value = row.cell(column)
    if value is None or isinstance(value, (list, dict)):
        what = "there is no value" if value is None else f"{str(value)[:40]!r} is no text"
        raise TaskError(f"{row.place}, column {column!r}: {what}")
    return str(value)


@dataclass(frozen=True)
class Layout:
    """How rows become conversations: `prompt` and `answer` (and `system`), or a column of `messages`."""

    prompt: Template | None
    answer: Template | None
    system: Template | None
    messages: str | None

    @classmethod
    def read(cls, *, prompt: Any, answer: Any, system: Any, messages: Any, chat: bool) -> Layout:
        """From a task's options. Raises TaskError for what does not go together."""
        if (messages is None) == (prompt is None and answer is None):
            raise TaskError("instruct: give either `prompt` and `answer`, or `messages`")
        if messages is not None:
            if not isinstance(messages, str):
                raise TaskError(f"instruct: messages must be the name of a column, got {messages!r}")
            if not chat:
                raise TaskError(
                    "instruct: `messages` are laid out by the model's chat template; add chat: true"
                )
            if system is not None:
                raise TaskError("instruct: `messages` hold their own system turn; leave `system` out")
            return cls(None, None, None, messages)
        if prompt is None or answer is None:
            raise TaskError(f"instruct: `{'prompt' if prompt is None else 'answer'}` is missing")
        if system is not None and not chat:
            raise TaskError(
                "instruct: `system` is a turn of a chat; add chat: true, or write it into `prompt`"
            )
        asked, said = Template.read("prompt", prompt), Template.read("answer", answer)
        return cls(asked, said, None if system is None else Template.read("system", system), None)

    def turns(self, row: Row) -> list[Turn]:
        """The row's turns up to its last answer. Raises TaskError, naming the row, for one that cannot be
        learned from: no answer, or an empty one."""
        turns = self._turns(row)
        if not _answered(turns):
            raise TaskError(f"{row.place}: the answer is empty; write one, or say skip_empty: true")
        return turns

    def answered(self, row: Row) -> bool:
        """Whether no answer of the row is empty."""
        if self.answer and any(row.cell(column) is None for column in self.answer.columns):
            return False
        return _answered(self._turns(row))

    def _turns(self, row: Row) -> list[Turn]:
        if self.messages is not None:
            return _messages(row, self.messages)
        assert self.prompt is not None
        assert self.answer is not None
        system = self.system.fill(row) if self.system else ""
        turns = [{"role": "system", "content": system}] if system.strip() else []
        asked = {"role": "user", "content": self.prompt.fill(row)}
        return [*turns, asked, {"role": ANSWERS, "content": self.answer.fill(row)}]

    def key(self, row: Row) -> str:
        """What makes two prompts one. Conversations are one that begin with the same question: its answer
        is learned or scored in each, however either goes on."""
        texts = self.texts(row)
        return "\n".join(map(normalise, texts if self.messages is None else texts[:1]))

    def texts(self, row: Row) -> list[str]:
        """What is asked in a row, piece by piece."""
        if self.messages is not None:
            turns = _messages(row, self.messages)
            return [turn["content"] for turn in turns if turn["role"] == "user"]
        assert self.prompt is not None
        return [_cell(row, column) for column in self.prompt.columns]


def _answered(turns: list[Turn]) -> bool:
    return all(turn["content"].strip() for turn in turns if turn["role"] == ANSWERS)


def _messages(row: Row, column: str) -> list[Turn]:
    found = row.cell(column)
    form = '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
    if not isinstance(found, list) or not found:
        raise TaskError(f"{row.place}, column {column!r}: {str(found)[:40]!r} is no list of turns: {form}")
    if tools := [name for name in TOOLS if row.values.get(name) not in NOTHING]:
        raise TaskError(
            f"{row.place}, column {tools[0]!r}: tools cannot be learned; leave the column or the row out"
        )
    turns = []
    for number, turn in enumerate(found, start=1):
        if not isinstance(turn, dict) or not all(isinstance(turn.get(part), str) for part in PARTS):
            raise TaskError(
                f"{row.place}, column {column!r}, turn {number}: {str(turn)[:40]!r} is none: {form}"
            )
        if turn["role"] not in ROLES:
            told = f"{turn['role']!r} is no role; {nearest(turn['role'], ROLES)}"
            raise TaskError(f"{row.place}, column {column!r}, turn {number}: {told}")
        # A call of a tool or a weight that is passed over is another conversation than the row's.
        if other := [key for key, value in turn.items() if key not in PARTS and value not in NOTHING]:
            raise TaskError(
                f"{row.place}, column {column!r}, turn {number}: {other[0]!r} cannot be learned, only "
                f"{' and '.join(PARTS)}; leave the key or the row out"
            )
        turns.append({part: turn[part] for part in PARTS})
    answers = [place for place, turn in enumerate(turns) if turn["role"] == ANSWERS]
    if not answers:
        roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
        raise TaskError(f"{row.place}, column {column!r}: no turn is the {ANSWERS}'s, only {roles}")
    return turns[: answers[-1] + 1]
