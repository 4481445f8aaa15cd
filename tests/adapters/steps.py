"""Steps of training on the tiny models, as the conformance rules make them."""

from rankbench.bench.conformance.models import optimizer_for, outputs, train

__all__ = ["optimizer_for", "outputs", "train"]
