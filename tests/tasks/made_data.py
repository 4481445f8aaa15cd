"""Made-up rows with the columns of every data set on the hub, in a mirror, and the tasks that read them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Value

from rankbench import tasks
from rankbench.tasks.causal.stock import STOCK
from rankbench.tasks.text.glue import REPO, SHAPES
from tests.tiny_text import write_mirror

CHOICES = {"text": ["one", "two", "three", "four"], "label": ["A", "B", "C", "D"]}
FIVE = {"text": ["one", "two", "three", "four", "five"], "label": ["A", "B", "C", "D", "E"]}
ROWS = {
    "arc_easy": {"id": "x", "question": "Q{}?", "choices": CHOICES, "answerKey": "B"},
    "arc_challenge": {"id": "x", "question": "Q{}?", "choices": CHOICES, "answerKey": "B"},
    "piqa": {"goal": "goal {}", "sol1": "do one", "sol2": "do two", "label": 1},
    "boolq": {"passage": "passage {}", "question": "is it", "label": 1},
    "hellaswag": {
        "ctx": "context {}",
        "ctx_a": "context {}",
        "ctx_b": "then",
        "activity_label": "Cooking",
        "endings": ["one.", "two.", "three.", "four."],
        "label": "2",
    },
    "winogrande": {"sentence": "case {}: the _ is big", "option1": "box", "option2": "cup", "answer": "2"},
    "social_iqa": {
        "context": "context {}",
        "question": "why?",
        "answerA": "one",
        "answerB": "two",
        "answerC": "three",
        "label": "3",
    },
    "openbookqa": {"question_stem": "stem {}", "choices": CHOICES, "answerKey": "C"},
    "commonsense_qa": {"question": "question {}", "choices": FIVE, "answerKey": "E"},
    "sciq": {
        "support": "support {}",
        "question": "what?",
        "distractor1": "one",
        "distractor2": "two",
        "distractor3": "three",
        "correct_answer": "four",
    },
    "gsm8k": {"question": "Question {}?", "answer": "It is {}.\n#### 4"},
}
ANSWERS = {
    "arc_easy": " two",
    "arc_challenge": " two",
    "piqa": " do two",
    "boolq": " yes",
    "hellaswag": " three.",
    "winogrande": " is big",
    "social_iqa": " three",
    "openbookqa": " three",
    "commonsense_qa": " E",
    "sciq": " four",
    "gsm8k": "\n#### 4",
}
"""What is right of each row above, as lm-eval asks for it; the end of it where it is written."""


def stock_rows(name: str, prefix: str, count: int) -> Dataset:
    """Rows of lm-eval's task `name`, told apart by `prefix` and number."""

    def fill(value: object, i: int) -> object:
        return value.format(f"{prefix} {i}") if isinstance(value, str) else value

    return Dataset.from_list([{k: fill(v, i) for k, v in ROWS[name].items()} for i in range(count)])


def stock_splits(name: str) -> dict[str, Dataset]:
    """Eight rows to train on and four to score, of lm-eval's task `name`."""
    return {"train": stock_rows(name, "train", 8), STOCK[name].evaluated: stock_rows(name, "held out", 4)}


def write_stock(root: Path, name: str, splits: dict[str, Dataset]) -> Path:
    """A mirror with these splits of the data set of lm-eval's task `name`."""
    pin = STOCK[name].pin
    return write_mirror(root, pin.repo, pin.config or "default", splits)


def glue_rows(name: str, prefix: str, count: int) -> Dataset:
    """Rows of GLUE's task `name`, with every class in turn or with ratings."""
    shape = SHAPES[name]
    columns = {column: [f"{prefix} {column} {i}" for i in range(count)] for column in shape.columns}
    label = ClassLabel(names=list(shape.labels)) if shape.labels else Value("float32")
    values = [i % len(shape.labels) if shape.labels else i / 3 for i in range(count)]
    features = Features({c: Value("string") for c in columns} | {"label": label, "idx": Value("int32")})
    return Dataset.from_dict(columns | {"label": values, "idx": range(count)}, features=features)


def glue_splits(name: str) -> dict[str, Dataset]:
    """Twelve rows to train on and one whose text is scored too, and four to score."""
    train = glue_rows(name, "train", 12)
    leaked = Dataset.from_list([*train, *glue_rows(name, "VALID", 1)], features=train.features)
    names = ("validation_matched", "validation_mismatched") if name == "mnli" else ("validation",)
    return {"train": leaked} | {split: glue_rows(name, "valid", 4) for split in names}


USERS = {"table", "instruct"}
"""Tasks that are nothing without a user's own data."""


def write_reviews(path: Path, count: int = 60) -> Path:
    """A CSV of made-up reviews: title, body, stars and author."""
    rows = [
        [f"title {i}", f"body, {'good ' * (i % 3)}{i}", i % 3 + 1, f"author {i % 20}"] for i in range(count)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["title", "body", "stars", "author"], *rows])
    return path


def write_answers(path: Path, count: int = 60) -> Path:
    """Made-up questions with their answers, as JSON Lines."""
    rows = [{"question": f"What is {i} and 1?", "solution": f"It is {i + 1}."} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def create(name: str, root: Path, **options: Any) -> tasks.Task:
    """The task of that name, small; `root` becomes its mirror where it reads the hub."""
    if name == "table":
        reviews = write_reviews(root / "reviews.csv")
        sizes = {"train": 8, "selection": 4, "test": 6}
        return tasks.create(name, train=str(reviews), text="body", label="stars", sizes=sizes, **options)
    if name == "instruct":
        given = {"prompt": "{question}", "answer": " {solution}", "score": ["arc_easy", "perplexity"]}
        splits = {"validation": stock_rows("arc_easy", "other", 2)} | stock_splits("arc_easy")
        given |= {"mirror": write_stock(root, "arc_easy", splits)}
        given |= {"sizes": {"train": 8, "selection": 4, "test": 3}}
        return tasks.create(name, train=str(write_answers(root / "answers.jsonl")), **given, **options)
    if name in SHAPES:
        mirror = write_mirror(root, REPO, name, glue_splits(name))
        return tasks.create(name, selection=4, mirror=mirror, **options)
    if name in STOCK:
        # sciq, say, has a validation split too, which nothing reads
        splits = {"validation": stock_rows(name, "other", 2)} | stock_splits(name)
        mirror = write_stock(root, name, splits)
        return tasks.create(name, selection=3, test=2, mirror=mirror, **options)
    if name == "arithmetic":  # of which an answer has many letters, each a token here
        options = {"max_length": 1024} | options
    return tasks.create(name, train=8, selection=4, test=6, **options)
