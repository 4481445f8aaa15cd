"""Rows, chats and tiny models for the tests of `instruct`."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from rankbench import tasks
from rankbench.tasks.causal.loss import IGNORED
from tests.tiny_text import tokenizer

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's."""
QUESTIONS = {"question": "How much is {} and one?", "solution": "It is {}."}
TEMPLATES = {"prompt": "Question: {question}\nAnswer:", "answer": " {solution}"}


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"question": QUESTIONS["question"].format(i), "solution": QUESTIONS["solution"].format(i + 1)}
        for i in range(start, start + count)
    ]


def write(path: Path, lines: list) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def choice_yaml(folder: Path, name: str = "colours", **changes) -> Path:
    """A task of six choices between two colours, with its data beside it."""
    write(folder / f"{name}.jsonl", [{"thing": f"{name} thing {i}", "right": i % 2} for i in range(6)])
    stated = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{thing}} is",
        "doc_to_choice": ["red", "blue"],
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(stated | changes))
    return path


def created(folder: Path, lines: list | None = None, **options) -> tasks.Task:
    train = write(folder / "rows.jsonl", rows(40) if lines is None else lines)
    given = {"score": ["perplexity"], "sizes": {"selection": 6, "test": 8}, "max_length": 700} | options
    return tasks.create("instruct", train=train, **given)


def chatty():
    """A byte-level tokenizer with the chat template of SmolLM2, whose turns end with its end token."""
    made = tokenizer(1024)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"})
    made.chat_template = CHATML
    return made


def learned(made, example) -> list[str]:
    """The stretches of an example that are learned, as text."""
    stretches: list[list[int]] = [[]]
    for token in example["answer"]:
        if token == IGNORED:
            stretches.append([])
        else:
            stretches[-1].append(token)
    return [made.decode(each) for each in stretches if each]


TURNS = [
    {"role": "user", "content": "How much is one and one?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "And one more?"},
    {"role": "assistant", "content": "Three,\nof course. "},
]


def chats(count: int) -> list[dict]:
    """Conversations of two answers, told apart by their first turn."""
    return [
        {"messages": [{"role": "user", "content": f"Hello, I am number {i}."}, *TURNS[1:]]}
        for i in range(count)
    ]
