"""Where in a model's files each of its weights stands, so that one of them can be read again."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rankbench.bench.models.loading import plain_errors, quiet
from rankbench.bench.models.weights import safetensors
from rankbench.bench.suite import Model


class Source(NamedTuple):
    """A tensor of a file."""

    file: Path
    key: str


def sources(built: PreTrainedModel, model: Model, folder: Path) -> dict[str, Source]:
    """Name of a parameter -> the tensor that it is, of the safetensors files in `folder`; without those that
    the loader puts together from several, and those that the files or the model have in another type than
    most: they may have been rounded on their way.

    The loader says so itself: it is handed the mapped files, of which nothing is read, and leaves each tensor
    where it is.
    """
    mapped = {file: load_file(file) for file in safetensors(folder)}
    held: dict[str, Tensor] = {key: tensor for tensors in mapped.values() for key, tensor in tensors.items()}
    if not held:
        return {}
    floats = Counter(tensor.dtype for tensor in held.values() if tensor.is_floating_point())
    with quiet(), plain_errors(model):
        loaded: Any = type(built).from_pretrained(
            None,
            config=copy.deepcopy(built.config),
            state_dict=held,
            dtype=floats.most_common(1)[0][0],
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
    places = {
        t.data_ptr(): Source(file, key) for file, tensors in mapped.items() for key, t in tensors.items()
    }
    alike = {name for name, parameter in built.named_parameters() if parameter.dtype == built.dtype}
    found = {name: places.get(parameter.data_ptr()) for name, parameter in loaded.named_parameters()}
    return {name: source for name, source in found.items() if source is not None and name in alike}


def read_again(built: nn.Module, names: Collection[str], where: Mapping[str, Source]) -> None:
    """Put the values of their files into these parameters, one after the other, where they lie: a file is one
    piece of mapped memory, which stays, with all that was written into it, as long as any tensor is there."""
    for file in {where[name].file for name in names}:
        tensors = load_file(file)
        for name in names:
            if where[name].file == file:
                built.get_parameter(name).data.copy_(tensors[where[name].key])
