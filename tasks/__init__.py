"""Tasks by name: `tasks.create("movie", train=2000)`. What a task offers is in `tasks.base`.

Importing this package, and listing the names, loads neither `datasets` nor lm-eval.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from rankbench.tasks.base import Batch, Head, Prepared, Score, Split, Task, TaskError
from rankbench.tasks.causal.stock import OWN, STOCK

__all__ = ["Batch", "Head", "Prepared", "Score", "Split", "Task", "TaskError", "create", "names"]

_GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
_REGISTRY: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_GLUE, ("rankbench.tasks.text.glue", "GlueTask")),
    **dict.fromkeys(("movie", "amazon", "tweets"), ("rankbench.tasks.text.sentiment", "SentimentTask")),
    **dict.fromkeys((*OWN, *STOCK), ("rankbench.tasks.causal.lm_eval", "LmEvalTask")),
    "linear-regression": ("rankbench.tasks.toy.regression", "LinearRegression"),
    "tiny-classification": ("rankbench.tasks.toy.synthetic", "TinyClassification"),
    "tiny-causal": ("rankbench.tasks.toy.synthetic", "TinyCausal"),
}


def names() -> list[str]:
    """Every task that `create` knows."""
    return sorted(_REGISTRY)


def create(name: str, **options: Any) -> Task:
    """The task of that name; what it needs is loaded by `prepare`, not here.

    Raises TaskError for an unknown name or option, naming the nearest, and for a bad value.
    """
    if name not in _REGISTRY:
        raise TaskError(f"unknown task {name!r}; {_nearest(name, names())}")
    module, attribute = _REGISTRY[name]
    kind = getattr(importlib.import_module(module), attribute)
    known = [
        key for key, value in inspect.signature(kind).parameters.items() if value.kind is value.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise TaskError(f"task {name} has no option {option!r}; {_nearest(option, known)}")
    task: Task = kind(name, **options)
    return task


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
