"""What a task is: data for the loop, a loss to sum, and a score with its evidence.

A task knows nothing of adapters, suites or records. `bench/` asks it, in this order:
`fingerprint()` (no download) -> `prepare(tokenizer)` -> `collate` and `loss` per batch -> `score`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rankbench.tasks.options import TaskError

if TYPE_CHECKING:  # listing tasks loads none of these
    import pandas as pd
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Split = Literal["selection", "test"]


class Batch(NamedTuple):
    """One micro-batch: tensors on the CPU, and what one unit of its summed loss stands for."""

    inputs: dict[str, Tensor]
    weight: int
    """Number of terms in the summed loss: examples, or answer tokens for a causal model."""

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        moved = {key: value.to(device, non_blocking=True) for key, value in self.inputs.items()}
        return self._replace(inputs=moved)


@dataclass(frozen=True)
class Head:
    """Which model a task needs.

    `kind`: "sequence" (encoder with a classification or regression head of `outputs` units),
    "causal" (decoder), or "own" (the task builds its model itself: `Task.build_model`).
    """

    kind: Literal["sequence", "causal", "own"]
    outputs: int = 1
    labels: tuple[str, ...] = ()
    """The classes by name, in the order of the outputs; empty where there are none or they have no names."""


@dataclass(frozen=True)
class Prepared:
    """Encoded data: `train` feeds the loop; `lengths[i]` is the token count of `train[i]`."""

    train: Sequence[dict[str, Any]]
    lengths: Sequence[int]
    sha256: str
    """Hash over the texts and labels of every split that is used, in order."""
    sizes: dict[str, int]
    """Items used per split: train, selection, test."""
    truncated: dict[str, int] = field(default_factory=dict)
    """Items per split that are cut to the maximum length, in training or in scoring (never silent)."""
    dropped: int = 0
    """Training examples left out because the same text is in the selection or test split, and all that are
    left out because nothing of them can be learned or scored."""
    asked: dict[str, int] = field(default_factory=dict)
    """What was asked for of each split that has fewer items."""
    unanswered: dict[str, int] = field(default_factory=dict)
    """Rows per split that have no answer within the maximum length; among `dropped`."""
    told: Sequence[str] = ()
    """What else of the data a user should know, a line each."""

    def notes(self) -> list[str]:
        """What a user should know before the runs: splits smaller than asked, items left out or cut, and
        what the task tells of its data."""
        short = [
            f"{split}: {asked} items asked for, {self.sizes[split]} used: there are no more"
            for split, asked in self.asked.items()
        ]
        cut = [
            f"{split}: {count} of {self.sizes[split]} items are longer than max_length and cut"
            for split, count in self.truncated.items()
            if count
        ]
        unanswered = [
            f"{split}: {count} rows have no answer within max_length and are left out, "
            f"{self.sizes[split]} items are used"
            for split, count in self.unanswered.items()
            if count
        ]
        return short + unanswered + cut + [*self.told]


@dataclass(frozen=True)
class Score:
    """Metrics as fractions (0.83, not 83), and one row of evidence per item."""

    metrics: dict[str, float]
    predictions: pd.DataFrame = field(repr=False)
    """Columns: item (str); those that `tasks.metrics` splits the main metric by (target, prediction), or
    `score`, each item's part of it; then task-specific ones (logits …)."""


class Task(ABC):
    """One task at one configuration; cheap to construct, loads nothing before `prepare`."""

    name: str
    version: ClassVar[int] = 1
    """Raised when the same options would give another number: part of every fingerprint."""
    head: Head
    metric: str
    """The key of `Score.metrics` that models are selected and ranked by; `tasks.metrics` knows it."""
    selection_metric: str | None = None
    """The key to select by where `metric` is too costly on the selection split (generation)."""
    metrics: tuple[str, ...] = ()
    """What else it reports, where that is known before it scores."""
    max_length: int | None = None
    """Most tokens of one example; None where there is no text."""
    deadline: float | None = None
    """Seconds that a split may take to score; no number depends on it, and so no fingerprint."""
    licence: str = ""
    source: str = ""
    data_are_named: ClassVar[bool] = False
    """Whether a suite names the files that it learns from: `source_pin` alone tells what is in them."""

    @property
    def reported(self) -> list[str]:
        """Every metric that it names, the main one first."""
        named = (self.metric, self.selection_metric, *self.metrics)
        return list(dict.fromkeys(name for name in named if name))

    def fingerprint(self) -> dict[str, Any]:
        """What the task's numbers depend on; downloads nothing, reads at most a local mirror's files."""
        named = {"task": self.name, "version": self.version}
        return named | {"options": self.options(), "source": self.source_pin()}

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Everything that a user can choose of it, defaults too."""

    def source_pin(self) -> Any:
        """What fixes the data: a package's hash, a hub revision, the hashes of files."""
        return self.source

    def fetch(self) -> None:  # noqa: B027 -- what is generated needs none
        """Make the data available offline; nothing to do where it already is, or is generated."""

    @abstractmethod
    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Load and encode the splits. Raises TaskError on an empty or missing split."""

    @abstractmethod
    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """Pad examples of `Prepared.train` to the longest of them."""

    @abstractmethod
    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The *sum* of the loss over the batch (a scalar); the loop divides by the weights."""

    @abstractmethod
    def score(self, model: nn.Module, split: Split) -> Score:
        """Score the model, in evaluation mode, without gradients, with a fixed batch size."""

    def check_split(self, split: Split) -> None:  # noqa: B027 -- most metrics are defined on any items
        """Raise TaskError where a metric is not defined on the items of a split that has been prepared."""

    def check_model(self, model: nn.Module) -> None:
        """Raise TaskError where `max_length` is above the positions the model has for tokens."""
        positions = usable_positions(model)
        if self.max_length is not None and positions is not None and self.max_length > positions:
            raise TaskError(
                f"{self.name}: max_length {self.max_length} is above the {positions} tokens this model "
                f"allows; lower max_length"
            )

    @property
    def unit(self) -> tuple[float, float]:
        """Of a task of numbers, once it is prepared: what outputs of 0 and 1 stand for."""
        return 0.0, 1.0

    def score_in(self, unit: tuple[float, float]) -> None:
        """Take outputs of a model that has learnt another task for what they stood for there. Raises
        TaskError where this task cannot."""
        if unit != self.unit:
            raise TaskError(
                f"{self.name}: its numbers are the model's outputs; the run has learnt them in standard "
                "deviations from a mean: score it on a table"
            )

    def protocol(self) -> dict[str, Any]:
        """The choices that must agree before two results may share a column (length, masking, template,
        scoring batch …), beside the data that were used, which `Prepared` holds."""
        return {}

    def logits(self, model: nn.Module) -> Tensor:
        """Outputs (items, outputs) on a few fixed selection items, for the merge-parity check."""
        raise NotImplementedError(f"{self.name} defines no parity outputs")

    def build_model(self, seed: int) -> nn.Module:
        """Only where `head.kind` is "own"."""
        raise NotImplementedError(f"{self.name} uses a pretrained model")


def usable_positions(model: nn.Module) -> int | None:
    """The most tokens of one text; None where the model sets no limit. A table of positions with a padding
    row counts from after it: RoBERTa, whose padding is row 1, has 514 rows for 512 tokens."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "get_text_config"):
        return None
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            rows: int = module.num_embeddings
            return rows - padding - 1
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit if limit is not None and limit > 0 else None  # XLNet, without one, says -1
