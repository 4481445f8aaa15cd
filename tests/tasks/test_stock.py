"""Every stock lm-eval task by name, on made-up rows with the hub's columns."""

import pytest
from datasets import Dataset

from rankbench import tasks
from rankbench.tasks.causal.stock import STOCK
from tests.tiny_text import llama, tokenizer, write_mirror

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
}


def rows(name: str, prefix: str, count: int) -> Dataset:
    def fill(value: object, i: int) -> object:
        return value.format(f"{prefix} {i}") if isinstance(value, str) else value

    return Dataset.from_list([{k: fill(v, i) for k, v in ROWS[name].items()} for i in range(count)])


@pytest.mark.parametrize("name", sorted(STOCK))
def test_prepare_and_score(name, tmp_path):
    pin = STOCK[name].pin
    splits = {"train": rows(name, "train", 8), STOCK[name].evaluated: rows(name, "held out", 4)}
    if name in ("arc_easy", "arc_challenge", "openbookqa", "sciq"):
        splits["validation"] = rows(name, "other", 2)
    write_mirror(tmp_path, pin.repo, pin.config or "default", splits)
    task = tasks.create(name, selection=3, test=2, mirror=tmp_path)
    prepared = task.prepare(tokenizer(1024))
    assert prepared.sizes == {"train": 5, "selection": 3, "test": 2}
    answers = {task._tokenizer.decode(row["answer"]) for row in prepared.train}
    if name in ANSWERS:
        assert answers == {ANSWERS[name]}
    else:
        assert all(answer.endswith("#### 4<eos>") for answer in answers)
        task._task.config.generation_kwargs["max_gen_toks"] = 4
    model = llama()
    assert task.metric in task.score(model, "test").metrics
    selected = task.score(model, "selection").metrics
    assert (task.selection_metric or task.metric) in selected
    assert selected["answer_loglikelihood"] < 0
