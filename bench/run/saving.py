"""The trained adapter of a run as a file of its own (safetensors): written where it was trained, read where
it is exported or scored. It says what it belongs to: the run's spec, and its task's head and data."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rankbench.bench.records import RecordError, Saved
from rankbench.bench.records.files import hash_of
from rankbench.bench.run.checkpoint import put_together
from rankbench.bench.run.order import Order
from rankbench.bench.suite import RunSpec
from rankbench.tasks import Head, Task

ABOUT = "rankbench"
"""Of the file's metadata, the entry that is ours, in JSON."""
TENSOR = "tensor of this file"
"""Stands in `extra`, before the tensor's name there."""
EXTRA = "extra: "
"""Before the names of tensors that are no weights."""


@dataclass(frozen=True)
class Trained:
    """What such a file holds."""

    spec: RunSpec
    head: Head
    """Which model the run's task needs."""
    source: str
    licence: str
    """Of the data that it was trained on."""
    state: dict[str, Any]
    """As `Adapter.state_dict` gives it."""
    unit: tuple[float, float] = (0.0, 1.0)
    """The task's: what the model's outputs stand for, where they are numbers."""
    plugins: tuple[str, ...] = ()
    """Files of the plug-ins that the run used; their code is not kept here, where nobody looks for code."""

    @property
    def about(self) -> dict[str, Any]:
        """All but the state, as JSON."""
        told = {"spec": self.spec.model_dump(mode="json"), "head": asdict(self.head)}
        data = {"source": self.source, "licence": self.licence, "unit": list(self.unit)}
        return told | data | {"plugins": list(self.plugins)}

    @classmethod
    def of(cls, about: dict[str, Any], state: dict[str, Any]) -> Trained:
        """From what `about` gave. Raises KeyError, TypeError or ValidationError for anything else."""
        head = Head(**about["head"] | {"labels": tuple(about["head"]["labels"])})
        spec, plugins = RunSpec.model_validate(about["spec"]), tuple(about["plugins"])
        mean, deviation = about["unit"]
        return cls(spec, head, about["source"], about["licence"], state, (mean, deviation), plugins)


def save(order: Order, task: Task, state: dict[str, Any]) -> Saved | None:
    """Write an adapter's state to `order.trained`, from where its tensors lie, if that is asked for.

    Of several processes the first one writes; all have to ask for it together. Raises RecordError where the
    disk is full or not writable.
    """
    if not order.job.spec.save:
        return None
    state = put_together(state)
    if not PartialState().is_main_process:
        return None
    tensors = dict(state["tensors"])
    spec = order.job.spec
    plugins = tuple(plugin.path for plugin in spec.plugins)
    trained = Trained(spec, task.head, task.source, task.licence, state, task.unit, plugins)
    about = trained.about | {"extra": _apart(state["extra"], EXTRA, tensors)}
    path = order.trained
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        # One entry: safetensors writes several in any order, and the file would have another hash each time.
        save_file(packed, path, metadata={ABOUT: json.dumps(about)})
        path.chmod(0o644)  # as a record's; safetensors lets nobody else read what it writes
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        path.unlink(missing_ok=True)
        raise RecordError(f"cannot write {path}: {error}; choose another folder or free space") from error
    return Saved(sha256=hash_of(path), bytes=path.stat().st_size)


def read(path: Path) -> Trained:
    """What `save` wrote, its tensors mapped. Raises RecordError for another file."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
            about = json.loads((file.metadata() or {})[ABOUT])
        state = {"extra": _together(about["extra"], tensors), "tensors": tensors}
        return Trained.of(about, state)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError, ValidationError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RecordError(f"{path} is no adapter that rankbench saved ({reason})") from error


def _apart(state: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The same as JSON; the tensors in it go to `tensors`, by names that begin so."""
    if isinstance(state, Tensor):
        tensors[name] = state
        return {TENSOR: name}
    if isinstance(state, dict):
        return {key: _apart(value, f"{name}.{key}", tensors) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_apart(value, f"{name}.{i}", tensors) for i, value in enumerate(state)]
    return state


def _together(state: Any, tensors: dict[str, Tensor]) -> Any:
    """What `_apart` took apart; its tensors are taken out of `tensors`."""
    if isinstance(state, dict):
        if TENSOR in state:
            return tensors.pop(state[TENSOR])
        return {key: _together(value, tensors) for key, value in state.items()}
    return [_together(value, tensors) for value in state] if isinstance(state, list) else state
