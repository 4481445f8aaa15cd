"""my-task: whether a sum in words is right. An example: half of the sums are off by one; all is generated.

    rankbench check my-task.py                        does it keep the rules that every task keeps?
    rankbench new suite trial --plugin my-task.py     a suite that trains on it
    rankbench run trial.yaml                          then `rankbench report trial.yaml`

Every edit of this file is another task: its runs are done again, those of others are not.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import product

from rankbench.tasks.base import Head
from rankbench.tasks.data.splits import place, split_of
from rankbench.tasks.options import Sizes
from rankbench.tasks.text.encoder import EncoderTask, Item, Items


class MyTask(EncoderTask):
    """Whether a sum is right."""

    licence = "none: generated"
    source = "generated"
    head = Head("sequence", 2, ("wrong", "right"))
    metrics = ("accuracy", "f1")  # of tasks/metrics.py, or of METRICS below; the first is the main one

    # What stands after `*` are the options of the task in a suite, all with a default.
    def __init__(
        self,
        name: str,
        *,
        train: int | None = None,
        selection: int | None = None,
        test: int | None = None,
        max_length: int = 32,
        scoring_batch: int = 64,
    ) -> None:
        super().__init__(name, Sizes(train, selection, test, max_length, scoring_batch))

    def items(self) -> Items:
        """Every sum of two numbers below 30. A text's split is decided by its hash: none stands in two."""
        splits: dict[str, list[Item]] = {"train": [], "selection": [], "test": []}
        for a, b in product(range(30), repeat=2):
            right = place(f"is {a} + {b} right?") < 0.5
            text = f"{a} and {b} make {a + b if right else a + b + 1}"
            splits[split_of(text)].append(Item(f"{a}+{b}", (text,), float(right)))
        sizes = asdict(self.sizes)
        return Items({split: items[: sizes[split]] for split, items in splits.items()})


# What a suite may name: `plugins: [my-task.py]`, then `task: {name: my-task, test: 64}`.
TASKS = {"my-task": MyTask}
