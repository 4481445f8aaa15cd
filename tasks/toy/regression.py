"""Synthetic linear regression, after figure 1 of the ScaLoRA paper (arXiv 2510.23818).

A linear layer starts from a "pretrained" weight W₀ and must become W₀ + D, D a full-rank Gaussian
matrix: no increment of low rank can fit it, so what is seen is how far a method gets. Targets are
noise-free, `y = x (W₀ + D)ᵀ` with Gaussian `x`. The paper does not print its sizes; these are ours.
Everything is drawn from `data_seed`: the run's own seed changes the adapter only. Drawn and multiplied in
double precision, then rounded, the data are the same on every processor: in single precision both
PyTorch's normal numbers and the products depend on its instruction set, and with them the data's hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from rankbench.tasks.base import Batch, Head, Prepared, Score, Split, Task
from rankbench.tasks.data.splits import digest
from rankbench.tasks.options import check_counts, check_seed
from rankbench.tasks.scoring import evaluating

SPREAD = 1.0
"""Standard deviation of D's entries times √width, against 1 for W₀'s."""
PARITY_ITEMS = 16


class Linear(nn.Module):
    """One bias-free linear layer, `linear`, to attach an adapter to."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) → (batch, width)."""
        return self.linear(x)


class LinearRegression(Task):
    """The loss is half the squared error, summed over outputs and items; scored by mean squared error."""

    version = 2
    head = Head("own")
    metric = "mse"
    licence = "none: generated"
    source = "generated"

    def __init__(
        self,
        name: str = "linear-regression",
        *,
        width: int = 64,
        train: int = 256,
        selection: int = 128,
        test: int = 256,
        data_seed: int = 0,
    ) -> None:
        check_counts(name, width=width, train=train, selection=selection, test=test)
        check_seed(name, data_seed)
        self.name, self.width, self.data_seed = name, width, data_seed
        self.sizes = {"train": train, "selection": selection, "test": test}
        self._data: dict[str, tuple[Tensor, Tensor]] = {}

    def _draw(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """W₀ and W₀ + D, (width, width), and the inputs of each split, (items, width)."""
        generator = torch.Generator().manual_seed(self.data_seed)

        def normal(rows: int) -> Tensor:
            return torch.randn((rows, self.width), dtype=torch.float64, generator=generator)

        scale = self.width**-0.5
        pretrained = normal(self.width) * scale
        target = pretrained + normal(self.width) * scale * SPREAD
        inputs = {split: normal(count).float() for split, count in self.sizes.items()}
        return pretrained.float(), target.float(), inputs

    def options(self) -> dict[str, Any]:
        """Sizes and the seed of the data."""
        return {"width": self.width, "data_seed": self.data_seed, "sizes": self.sizes}

    def protocol(self) -> dict[str, Any]:
        """What must agree between two results."""
        loss = "half the squared error, summed over outputs, per item"
        return {"width": self.width, "data_seed": self.data_seed, "loss": loss}

    @override
    def prepare(self, tokenizer: PreTrainedTokenizerBase | None) -> Prepared:
        """Draw the data; no tokenizer is used."""
        _, target, inputs = self._draw()
        self._data = {split: (x, (x.double() @ target.T.double()).float()) for split, x in inputs.items()}
        x, y = self._data["train"]
        return Prepared(
            train=[{"x": x[i], "y": y[i]} for i in range(len(x))],
            lengths=[1] * len(x),
            sha256=digest(tensor.tolist() for pair in self._data.values() for tensor in pair),
            sizes=dict(self.sizes),
        )

    def collate(self, examples: Sequence[dict[str, Any]]) -> Batch:
        """x and y, both (batch, width)."""
        inputs = {key: torch.stack([example[key] for example in examples]) for key in ("x", "y")}
        return Batch(inputs, len(examples))

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """½ Σ (ŷ − y)²."""
        return 0.5 * (model(inputs["x"]) - inputs["y"]).square().sum()

    def score(self, model: nn.Module, split: Split) -> Score:
        """The error averaged over items and outputs, and per item: the outputs themselves are noise."""
        import pandas as pd  # scoring alone needs it: training goes without

        x, y = self._data[split]
        with evaluating(model) as device:
            predicted = model(x.to(device)).cpu()
        errors = (predicted - y).square().mean(-1)
        items = [str(i) for i in range(len(x))]
        frame = pd.DataFrame({"item": items, "squared_error": errors.tolist()})
        return Score({"mse": errors.mean().item()}, frame)

    def logits(self, model: nn.Module) -> Tensor:
        """Outputs (items, width) on the first selection items."""
        with evaluating(model) as device:
            return model(self._data["selection"][0][:PARITY_ITEMS].to(device)).cpu()

    @override
    def build_model(self, seed: int) -> nn.Module:
        """The pretrained layer, the same for every seed."""
        return Linear(self._draw()[0])
