"""What every task must do: a function a rule, which raises Broken."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from rankbench.bench.conformance.rules import demand
from rankbench.bench.conformance.texts import bert, encoder_tokenizer, llama, tokenizer
from rankbench.tasks import Prepared, Score, Split, Task
from rankbench.tasks.data.divide import Entry
from rankbench.tasks.metrics import BESIDE, find, metric
from rankbench.tasks.text.encoder import EncoderTask

LONGEST = 1024
"""Tokens that the decoder and its tokenizer allow."""
FEW = 4
"""Examples of a batch."""


class Trial(NamedTuple):
    """A task with its data, and a tiny model of the kind that it asks for."""

    task: Task
    data: Prepared
    model: nn.Module


def prepared(task: Task) -> Trial:
    """Raises the task's own errors."""
    if task.head.kind == "own":
        return Trial(task, task.prepare(None), task.build_model(seed=0))
    if task.head.kind == "causal":
        return Trial(task, task.prepare(tokenizer(LONGEST)), llama())
    return Trial(task, task.prepare(encoder_tokenizer()), bert(task.head.outputs, dropout=0.5))


def says_what_it_is_without_its_data(create: Callable[[], Task], name: str) -> None:
    """Its name, its licence, its metrics, and a fingerprint that is plain JSON and always the same."""
    task = create()
    demand(task.name == name, f"`name` is {task.name!r}, not the {name!r} that it is made by")
    demand(task.licence, "`licence` is empty: say whose its data are")
    demand(task.source, "`source` is empty: say where its data come from")
    unknown = [one for one in task.reported if find(one) is None]
    demand(not unknown, f"nothing is known of its metric {', '.join(unknown)}: give it a Metric in METRICS")
    fingerprint = task.fingerprint()
    demand(fingerprint["task"] == name, f"`fingerprint` names the task {fingerprint['task']!r}")
    demand(fingerprint["version"] == type(task).version, "`fingerprint` has another version than its class")
    demand(fingerprint["source"], "`source_pin` is empty: say what fixes the data")
    plain = json.loads(json.dumps(fingerprint)) == json.loads(json.dumps(create().fingerprint()))
    demand(plain, "`fingerprint` is another one at every call")


def has_its_options_in_its_fingerprint(create: Callable[..., Task], options: Mapping[str, Any]) -> None:
    """Another value of one of these options is another fingerprint."""
    before = create().fingerprint()
    same = [name for name, value in options.items() if create(**{name: value}).fingerprint() == before]
    demand(not same, f"`options` leaves out {', '.join(same)}: a run with another value would count as done")


def has_no_text_in_two_splits(create: Callable[[], Task]) -> None:
    """Of texts that are classified or rated: what is scored is neither trained on nor selected by, nor is
    what is selected by trained on."""
    task = create()
    if not isinstance(task, EncoderTask):
        return
    place: dict[str, str] = {}
    for split, items in task.items().splits.items():
        use = split if split in ("train", "selection") else "test"  # MNLI has two to test
        for item in items:
            other = place.setdefault(Entry(item.texts, None).key, use)
            told = f"the text of item {item.id} stands in {other} and {use}; split by a hash of it (split_of)"
            demand(other == use, told)


def prepares_the_same_again(create: Callable[[], Task], trial: Trial) -> None:
    """Whatever has been drawn since."""
    torch.rand(1)
    again = prepared(create()).data.sha256
    demand(again == trial.data.sha256, "`prepare` has other data at every call: its hash is another")


def prepares_what_it_says(trial: Trial) -> None:
    """Training examples with their lengths, as many as are told."""
    data = trial.data
    demand(len(data.train) > 0, "the training split is empty")
    demand(len(data.train) == len(data.lengths), "`lengths` has not one entry for each training example")
    demand(len(data.train) == data.sizes["train"], "`sizes` says another number of training examples")


def sums_its_loss_over_what_the_weights_count(trial: Trial) -> None:
    """A batch's loss is the sum of its examples' losses, and so is its weight."""
    task, data, model = trial
    chosen = list(data.train)[:FEW]
    batch = task.collate(chosen)
    singles = [task.collate([example]) for example in chosen]
    counted = sum(single.weight for single in singles)
    demand(batch.weight == counted, f"a batch weighs {batch.weight}, its examples together {counted}")
    lengths = {len(tensor) for tensor in batch.inputs.values()}
    demand(lengths == {len(chosen)}, f"a batch of {len(chosen)} examples has tensors of {lengths} rows")
    model.eval()
    total = task.loss(model, batch.inputs)
    total.backward()
    summed = sum(task.loss(model, single.inputs).item() for single in singles)
    same = math.isclose(total.item(), summed, rel_tol=1e-4)
    demand(same, f"a batch's loss is {total.item():.6g}, the sum of its examples' {summed:.6g}")


def scores_with_its_evidence_and_changes_nothing(trial: Trial, split: Split) -> Score:
    """Metrics in their ranges, a row an item whose parts give the main one, mode and generators as they were;
    the score."""
    task, data, model = trial
    model.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    score = task.score(model, split)
    same = torch.equal(torch.rand(2), expected)
    demand(same, "`score` moves PyTorch's generator; use tasks.scoring.evaluating")
    demand(model.training, "`score` leaves the model in evaluation mode; use tasks.scoring.evaluating")
    main = task.metric if split == "test" else task.selection_metric or task.metric
    demand(main in score.metrics, f"`score` has no {main}, which is the main metric")
    for name, value in score.metrics.items():
        known = metric(name)
        demand(known.low <= value <= known.high, f"{name} is {value}, outside {known.low} to {known.high}")
    rows = score.predictions
    demand("item" in rows, "the predictions have no column `item`")
    counted = rows[~rows["item"].str.startswith(BESIDE)]
    told = f"the predictions have {len(counted)} items, the {split} split {data.sizes[split]}"
    demand(len(counted) == data.sizes[split], told)
    demand(rows["item"].is_unique, "two rows of the predictions are of one item")
    if "score" in rows:
        parts = rows["score"].to_numpy(float)
    elif split_by := metric(main).parts:
        lacking = [column for column in split_by.columns if column not in counted]
        demand(not lacking, f"the predictions have no {', '.join(lacking)}, of which the parts of {main} are")
        parts = split_by.of(*(counted[column].to_numpy(float) for column in split_by.columns))
    elif main == "acc":
        parts = (rows["target"] == rows["prediction"]).to_numpy(float)
    else:  # a mean over something else than items
        return score
    mean, value = float(np.mean(parts)), score.metrics[main]
    same = math.isclose(mean, value, rel_tol=1e-5, abs_tol=metric(main).slack)
    demand(same, f"{main} is {value:.6g}, the mean of its items' {mean:.6g}")
    return score


def compares_outputs_of_a_few_selection_items(trial: Trial) -> None:
    """Two-dimensional, and the same at every call."""
    task, data, model = trial
    outputs = task.logits(model)
    demand(outputs.ndim == 2, f"`logits` has the shape {tuple(outputs.shape)}, not (items, outputs)")
    few = 0 < len(outputs) <= data.sizes["selection"]
    demand(few, f"`logits` has {len(outputs)} items, the selection split {data.sizes['selection']}")
    demand(torch.equal(outputs, task.logits(model)), "`logits` differs from call to call")
