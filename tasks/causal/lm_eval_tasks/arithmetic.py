"""Word problems from reasoning-gym's `gsm_symbolic` (85 templates after GSM8K), with worked answers."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, DatasetDict

from rankbench.tasks.base import TaskError
from rankbench.tasks.data.splits import TEST_SHARE, normalise, place, words

SUFFIX = " Give the result as your final answer. Do not include units."


def load(size: int = 4000, seed: int = 1, **_: Any) -> DatasetDict:
    """Splits `train` (80 %) and `test` of at most `size` problems; no problem occurs twice.

    Both splits hold the same templates with other names and numbers.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise TaskError("arithmetic needs an extra: pip install rankbench[arithmetic]") from error
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    seen: set[str] = set()
    for problem in reasoning_gym.create_dataset("gsm_symbolic", size=size, seed=seed):
        question = problem["question"].removesuffix(SUFFIX)
        key = normalise(question)
        if key in seen:
            continue
        seen.add(key)
        worked = problem["metadata"]["answer_cot"].partition("####")[0].strip()
        answer = f"{worked}\n#### {problem['answer']}"
        rows["test" if place(words(question)) < TEST_SHARE else "train"].append(
            {"question": question, "answer": answer}
        )
    return DatasetDict({split: Dataset.from_list(items) for split, items in rows.items()})
