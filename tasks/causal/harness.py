"""The only module that imports lm-eval: it builds its tasks, asks, encodes and scores with it."""

from __future__ import annotations

import io
import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import DEFAULT, patch

import lm_eval.tasks
import numpy as np
import torch
from datasets import Dataset, DatasetDict
from lm_eval import evaluator
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankbench.tasks.causal.chat import on_one_day
from rankbench.tasks.causal.definitions import flat_name
from rankbench.tasks.causal.index import OWN_FOLDER as OWN_FOLDER
from rankbench.tasks.data.hub import without_bars
from rankbench.tasks.options import TaskError

SEED = 1234
GENERATED = 256
"""Tokens that `HFLM` generates where a task's YAML does not say how many."""
STOCK_FOLDER = Path(lm_eval.tasks.__file__).parent


def build(name: str, folder: Path, data: dict[str, Dataset] | None = None) -> ConfigurableTask:
    """One lm-eval task from the YAML files below `folder`; nothing else is indexed.

    `data` replaces what the YAML would download. The task is rendered zero-shot: a model that was
    fine-tuned on it needs no examples.
    """
    manager = TaskManager(include_defaults=False, include_path=folder)
    member: dict[str, Any] = {"task": name, "num_fewshot": 0}
    if data is not None:
        member["custom_dataset"] = lambda **_: DatasetDict(data)
    with quiet(), without_bars():
        return manager.load({"group": "rankbench", "task": [member]})["tasks"][name]


def build_file(path: Path, data: dict[str, Dataset] | None, fewshot: int | None) -> ConfigurableTask:
    """One lm-eval task from a YAML file. `data` replaces what it would download, `fewshot` (None: the YAML's)
    the number of examples before each question."""
    config = {
        key: value for key, value in load_yaml(path).items() if key not in ("tag", "group", "task_list")
    }
    if data is not None:
        config["custom_dataset"] = lambda **_: DatasetDict(data)
    if fewshot is not None:
        config["num_fewshot"] = fewshot
    with quiet(), without_bars():
        task = TaskManager(include_defaults=False).load(config)["tasks"][config["task"]]
    task.set_fewshot_seed(SEED)
    return task


def documents(task: ConfigurableTask) -> tuple[Dataset, Dataset]:
    """What a task trains on, and what it scores, after its own preprocessing, row for row."""
    with quiet(), without_bars():
        return task.training_docs(), task.eval_docs


@contextmanager
def quiet() -> Iterator[None]:
    """Hide lm-eval's own bars and notes, and put the generators that it seeds back."""
    logger = logging.getLogger("lm_eval")
    level, python, numpy = logger.level, random.getstate(), np.random.get_state()
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        random.setstate(python)
        np.random.set_state(numpy)


def requests(task: ConfigurableTask, doc: dict[str, Any]) -> list[Instance]:
    """What lm-eval would ask the model about `doc`, zero-shot."""
    context = task.fewshot_context(doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc))
    asked = task.construct_requests(doc=doc, ctx=context, metadata=(task.task_name, 0, 1))
    return asked if isinstance(asked, list) else [asked]


def all_requests(
    task: ConfigurableTask, indices: list[int], chat: PairEncoder | None
) -> list[list[Instance]]:
    """What lm-eval asks about each of the documents `indices`, with its examples, in the chat template of
    `chat`'s tokenizer where there is one."""
    with quiet(), on_one_day():
        task.build_all_requests(
            samples=indices,
            apply_chat_template=chat is not None,
            fewshot_as_multiturn=True,
            chat_template=chat.apply_chat_template if chat else None,
        )
    asked: dict[Any, list[Instance]] = {}
    for instance in task.instances:
        asked.setdefault(instance.doc_id, []).append(instance)
    return list(asked.values())


def found_right(task: ConfigurableTask, doc: dict[str, Any], instances: list[Instance], answer: str) -> bool:
    """Whether a model that writes the answer word for word scores: by the first filter, which counts."""
    instances[0].resps = [answer]
    filtering = task._filters[0]
    filtering.apply(instances)
    return all(task.process_results(doc, [instances[0].filtered_resps[filtering.name]]).values())


def cause(error: Exception) -> str:
    """What a task's own code raised, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def room(options: dict[str, Any]) -> int:
    """Tokens that a written answer may take, by a request's options."""
    return int(normalize_gen_kwargs(options, GENERATED)["max_gen_toks"])


class PairEncoder(HFLM):
    """lm-eval's own tokenisation of (prompt, answer) pairs, without a model; `chat` as in `wrap`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False) -> None:
        """Raises TaskError for a tokenizer that ends every text with a token of its own."""
        _check_end(tokenizer)
        self.tokenizer = tokenizer
        # Long texts are cut and counted; that they "will result in indexing errors" is not so.
        tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
        self.backend = "causal"
        self.add_bos_token = _add_bos(chat)
        self.custom_prefix_token_id = None
        self.enable_thinking = None
        self.chat_template_args: dict[str, Any] = {}

    def _loglikelihood_tokens(self, requests: Sequence[Any], *_: Any, **__: Any) -> list[Any]:
        return [(context, continuation) for _, context, continuation in requests]

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Token ids of each prompt and of each answer."""
        asked = [Instance("loglikelihood", {}, arguments, 0) for arguments in pairs]
        return self.loglikelihood(asked, disable_tqdm=True)


def _check_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """A prompt would end as a whole text does, so that the answer follows its end, and where the two are
    divided would be miscounted."""
    text = "a text"
    whole, bare = tokenizer(text)["input_ids"], tokenizer(text, add_special_tokens=False)["input_ids"]
    if whole[-1:] != bare[-1:]:
        raise TaskError(
            f"this model's tokenizer ends every text, and so each prompt, with "
            f"{tokenizer.convert_ids_to_tokens(whole[-1])!r}; load it with add_eos_token=False and save it "
            "beside the model"
        )


def _add_bos(chat: bool) -> bool | None:
    """A chat template writes the tokens before a text itself, or has none; a text has its tokenizer's."""
    return False if chat else None


def wrap(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, batch: int, length: int, *, chat: bool = False
) -> HFLM:
    """The model as lm-eval calls it, in its own precision, with a fixed batch size. Likelihoods are taken in
    float32 at least: bfloat16 tells choices apart by steps of a sixteenth or more. `chat`: what is asked will
    be laid out by the tokenizer's chat template."""
    given: Any = model
    exact = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    # It ties the weights, which makes the bias of a tied output layer anew: within inference mode one that
    # cannot be trained.
    with torch.inference_mode(False):
        return HFLM(
            given,
            backend="causal",
            tokenizer=tokenizer,
            batch_size=batch,
            max_length=length,
            softmax_dtype=exact,
            add_bos_token=_add_bos(chat),
        )


class Scored(NamedTuple):
    """lm-eval's metrics, and its samples for one filter."""

    metrics: dict[str, float]
    samples: list[dict[str, Any]]


def evaluate(
    lm: HFLM, task: ConfigurableTask, indices: list[int], filtered: str | None = None, *, chat: bool = False
) -> Scored:
    """`simple_evaluate` on the given documents of the split that lm-eval scores; samples are those of the
    filter `filtered` (None: the first). `chat`: in the tokenizer's chat template."""
    name = task.task_name
    # Its report of the environment costs a second or two a call, and git complains outside a repository;
    # records hold their own. Processes that share a run score each by itself; only the first one of a machine
    # would be given results.
    told = patch.multiple(evaluator, add_env_info=DEFAULT, get_git_commit_hash=DEFAULT)
    with told, on_one_day(), patch.dict(os.environ, LOCAL_RANK="0"):
        results = evaluator.simple_evaluate(
            model=lm,
            tasks=[task],
            samples={name: indices},
            bootstrap_iters=0,
            log_samples=True,
            random_seed=SEED,
            numpy_random_seed=SEED,
            torch_random_seed=SEED,
            fewshot_random_seed=SEED,
            apply_chat_template=chat,
            task_manager=TaskManager(include_defaults=False),
        )
    assert results is not None
    samples = results["samples"][name]
    filtered = filtered or samples[0]["filter"]
    chosen = [sample for sample in samples if sample["filter"] == filtered]
    return Scored(flatten(results["results"][name]), chosen)


def flatten(results: dict[str, Any]) -> dict[str, float]:
    """`{"acc,none": …}` → `{"acc": …}`; named filters stay apart: `exact_match_strict_match`."""
    flat = {}
    for key, value in results.items():
        metric, _, kind = key.partition(",")
        if kind and not metric.endswith("_stderr"):
            flat[flat_name(metric, kind)] = float(value)
    return flat


def choose(
    lm: HFLM, task: ConfigurableTask, docs: Sequence[dict[str, Any]]
) -> tuple[dict[str, float], list[list[float]]]:
    """The metrics of a multiple-choice task on any documents, and each choice's log-likelihood."""
    asked = [requests(task, doc) for doc in docs]
    answers = iter(lm.loglikelihood([request for group in asked for request in group], disable_tqdm=True))
    results = [[next(answers) for _ in group] for group in asked]
    rows = [task.process_results(doc, result) for doc, result in zip(docs, results, strict=True)]
    metrics = {key: float(task.aggregation()[key]([row[key] for row in rows])) for key in rows[0]}
    return metrics, [[likelihood for likelihood, _ in result] for result in results]
