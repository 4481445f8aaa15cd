"""Which weights of a model its checkpoint does not hold: they are new, drawn from the run's stream, and
trained beside any adapter. The loader's own report says which, not a list of names."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import category

import torch
from torch import nn
from transformers import PreTrainedModel

from rankbench.adapters.targets import ends_with, task_head
from rankbench.bench.models.loading import plain_errors, quiet
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head
from rankbench.tasks.data.splits import normalise


class _Report(NamedTuple):
    """Names of parameters that the checkpoint lacks, those that it holds in another shape with both shapes
    (its own, the model's), and those that it has of layers which the model has not."""

    missing: set[str]
    mismatched: dict[str, tuple[torch.Size, torch.Size]]
    beyond: list[str]

    @property
    def lost(self) -> set[str]:
        return self.missing | self.mismatched.keys()


def fresh_modules(built: PreTrainedModel, model: Model, folder: Path) -> list[str]:
    """The modules whose weights are not taken from the checkpoint in `folder`, in the model's order.

    Those that it lacks. Where it holds a whole head, that head is not the task's: it is new as well,
    unless `model.head` is "keep"; then it is trained on from where it is.

    Raises ConfigError where the checkpoint lacks weights of the model itself or has more layers than it,
    where a language model lacks its output layer, and where there is no head of the task's size to keep.
    """
    report = _report(built, model, folder)
    if report.beyond:
        raise ConfigError(
            f"model {model.name}: its config.json has fewer layers than its checkpoint, which holds "
            f"{report.beyond[0]} as well; fetch both again"
        )
    outside = task_head(built)
    lost = [name for name, module in built.named_modules() if _own(name, module) & report.lost]
    inside = [name for name in lost if name not in outside and not _is_pooler(built, name, report)]
    if inside:
        raise ConfigError(f"model {model.name}: {_fault(built, report, inside)}")
    if model.head == "keep":
        _refuse_no_head(model, report, outside, lost)
        return [*outside, *lost]
    if any(name.rpartition(".")[0] in outside for name in report.missing):
        return lost
    return [*(name for name in lost if name not in outside), *outside]


def refuse_other_classes(model: Model, config: Any, head: Head) -> None:
    """Raise ConfigError where the checkpoint names the classes of its head, and they are not the task's
    in the task's order. Case and punctuation do not count where words are left that tell the classes apart;
    LABEL_0 is no name."""
    theirs = [str(config.id2label[i]) for i in sorted(config.id2label)]
    folded = [[normalise(name) for name in names] for names in (theirs, head.labels)]
    worded = [[_words(name) for name in names] for names in folded]
    unnamed = all(re.fullmatch(r"label_\d+", name) for name in worded[0])
    told = all(len({*names}) == len(names) and "_" not in names for names in worded)
    kept, asked = worded if told else folded
    if head.labels and not unnamed and kept != asked:
        raise ConfigError(
            f"model {model.name}: `head: keep`, but the classes of its checkpoint are {', '.join(theirs)}, "
            f"and the task's {', '.join(head.labels)}; leave `head` out for a fresh one"
        )


def _words(name: str) -> str:
    """Letters of any script with their marks, and digits; `_` for all between."""
    return re.sub("_+", "_", "".join(sign if category(sign)[0] in "LMN" else "_" for sign in name))


def redraw(built: PreTrainedModel, names: list[str]) -> None:
    """Initial values for these modules as the model's class draws them, from the global generator of the CPU
    wherever they lie."""
    modules = [built.get_submodule(name) for name in names]
    device = next(built.parameters()).device
    for module in modules:
        module.cpu()
        for inside in module.modules():
            inside._is_hf_initialized = False  # type: ignore[assignment]
        for parameter in module.parameters():
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
    built.initialize_weights()
    for module in modules:
        module.to(device)


def _report(built: PreTrainedModel, model: Model, folder: Path) -> _Report:
    """Shapes and names only: on the "meta" device no weight is read."""
    with quiet(), plain_errors(model):
        loaded: Any = type(built).from_pretrained(
            folder,
            config=copy.deepcopy(built.config),
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
    found = loaded[1]
    names = {name for name, _ in built.named_parameters()}
    mismatched = {name: (theirs, ours) for name, theirs, ours in found["mismatched_keys"]}
    # The same weight of another layer; a head or buffer that the model has no use for is none.
    known = {_unnumbered(name) for name in names}
    beyond = [
        name
        for name in sorted(found["unexpected_keys"])
        if re.search(r"\d", name) and any(ends_with(each, _unnumbered(name)) for each in known)
    ]
    return _Report(found["missing_keys"] & names, mismatched, beyond)


def _unnumbered(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _own(name: str, module: nn.Module) -> set[str]:
    """Names of the parameters that belong to a module and to none inside it."""
    return {f"{name}.{key}" if name else key for key, _ in module.named_parameters(recurse=False)}


def _is_pooler(built: PreTrainedModel, name: str, report: _Report) -> bool:
    """Whether a module belongs to the last part of the backbone and that part consists of linear layers
    which are missing to the last: what some classes put on top, and checkpoints are saved without."""
    parts = [part for part in built.base_model.children() if any(True for _ in part.parameters())]
    weights = {id(p): n for n, p in built.named_parameters()}
    held = [m for m in parts[-1].modules() if any(True for _ in m.parameters(recurse=False))]
    return (
        built.get_submodule(name) in held
        and all(isinstance(module, nn.Linear) for module in held)
        and all(weights[id(p)] in report.missing for p in parts[-1].parameters())
    )


def _fault(built: PreTrainedModel, report: _Report, inside: list[str]) -> str:
    names = [n for name in inside for n in sorted(_own(name, built.get_submodule(name)) & report.lost)]
    backbone = {id(p) for p in built.base_model.parameters()}
    if not any(id(built.get_parameter(name)) in backbone for name in names):
        return f"its checkpoint holds no output layer ({names[0]}): name one of the whole language model"
    for name in names:
        if name in report.mismatched:
            theirs, ours = (tuple(shape) for shape in report.mismatched[name])
            return f"its checkpoint does not fit its config.json: {name} is {theirs}, not {ours}"
    total = sum(1 for _ in built.named_parameters())
    return (
        f"its checkpoint lacks {len(names)} of the model's {total} weights, {names[0]} among them; "
        "fetch it again, or name one of this architecture"
    )


def _refuse_no_head(model: Model, report: _Report, outside: list[str], lost: list[str]) -> None:
    if not outside:
        raise ConfigError(f"model {model.name}: `head: keep` is for tasks with a classification head")
    for name, (theirs, ours) in report.mismatched.items():
        raise ConfigError(
            f"model {model.name}: `head: keep`, but the head of its checkpoint is of another size: {name} is "
            f"{tuple(theirs)}, the task needs {tuple(ours)}; leave `head` out for a fresh one"
        )
    for name in lost:
        if name in outside:
            raise ConfigError(
                f"model {model.name}: `head: keep`, but its checkpoint holds no {name}; "
                "leave `head` out for a fresh head"
            )
