"""Tasks by name: `tasks.create("movie", train=2000)`. What a task offers is in `tasks.base`.

Importing this package, and listing the names, loads neither `datasets` nor lm-eval.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

from rankbench.bench.plugins import Others
from rankbench.tasks.base import Batch, Head, Prepared, Score, Split, Task
from rankbench.tasks.options import TaskError, check_deadline, nearest

__all__ = ["OTHERS", "Batch", "Head", "Prepared", "Score", "Split", "Task", "TaskError", "create", "names"]

_GLUE = "text.glue:GlueTask"
_LM_EVAL = "causal.lm_eval:LmEvalTask"
_REGISTRY = {
    **dict.fromkeys(("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"), _GLUE),
    **dict.fromkeys(("movie", "amazon", "tweets"), "text.sentiment:SentimentTask"),
    **dict.fromkeys(("bbc", "arithmetic"), _LM_EVAL),
    "table": "text.table:TableTask",
    "instruct": "causal.instruct:InstructTask",
    "movie-text": "causal.texts:TextsTask",
    "linear-regression": "toy.regression:LinearRegression",
    "tiny-classification": "toy.synthetic:TinyClassification",
    "tiny-causal": "toy.synthetic:TinyCausal",
}
"""Places below this package, not classes: a task's file is imported when it is first asked for. lm-eval's own
tasks stand in causal/stock.yaml."""


@cache
def _registry() -> dict[str, str]:
    from rankbench.tasks.causal.stock import STOCK

    return _REGISTRY | dict.fromkeys(STOCK, _LM_EVAL)


def _fault(found: Any) -> str:
    if not (isinstance(found, type) and issubclass(found, Task)):
        return "is no subclass of tasks.Task"
    left = sorted(found.__abstractmethods__)
    return f"lacks {', '.join(left)}, which every task has" if left else ""


OTHERS: Others[type[Task]] = Others("task", "rankbench.tasks", _registry, _fault, TaskError)
"""Of packages, by entry points that name a `Task` subclass, and of plug-in files."""


def names() -> list[str]:
    """Every task that `create` knows."""
    return sorted([*_registry(), *OTHERS.names()])


def _maker(name: str) -> Callable[..., Task]:
    if name in _registry():
        module, _, kind = _registry()[name].partition(":")
        own: Callable[..., Task] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
        return own
    if name not in OTHERS.names():
        raise TaskError(f"unknown task {name!r}; {nearest(name, names())}")
    return OTHERS.load(name)


@cache
def options_of(make: Callable[..., Task]) -> dict[str, bool]:
    """What a task's class can be given but for its name -> whether it has to be. Asked once for all runs of a
    task: it takes longer than making one."""
    parameters = inspect.signature(make).parameters.values()
    return {one.name: one.default is one.empty for one in parameters if one.kind is one.KEYWORD_ONLY}


def create(name: str, *, deadline: float | None = None, **options: Any) -> Task:
    """The task of that name; what it needs is loaded by `prepare`, not here. Raises TaskError for an unknown
    name or option, naming the nearest, and for a bad value. `deadline` is every task's: `Task.deadline`."""
    make = _maker(name)
    known = [*options_of(make), "deadline"]
    for option in options:
        if option not in known:
            raise TaskError(f"task {name} has no option {option!r}; {nearest(option, known)}")
    if lacking := [option for option, needed in options_of(make).items() if needed and option not in options]:
        raise TaskError(f"task {name} needs the option {lacking[0]!r}, which has no default; say it")
    check_deadline(name, deadline)
    task = make(name, **options)
    task.deadline = deadline
    return task
