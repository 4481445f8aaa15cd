"""The rule of what tuning may draw of an adapter."""

from __future__ import annotations

from rankbench import adapters
from rankbench.adapters.errors import nearest
from rankbench.bench.conformance.rules import Broken, demand
from rankbench.bench.conformance.subject import STEPS
from rankbench.bench.suite import AdapterSpec
from rankbench.bench.suite.tuning import Span, refused


def has_a_space_that_it_takes(name: str) -> None:
    """Every key of `space` is a hyperparameter or the learning rate, and the adapter takes both ends."""
    kind = adapters.kind(name)
    known = ["learning_rate", *adapters.hyperparameters(name)]
    for key, ends in kind.space_of(kind.example).items():
        demand(key in known, f"space: it has no hyperparameter {key!r}{nearest(key, known)}")
        try:
            span = Span.model_validate(ends)
        except ValueError as error:
            fault = error.errors()[0]["msg"].removeprefix("Value error, ")  # type: ignore[attr-defined]
            raise Broken(f"space: {key}: {fault}") from None
        for end in (span.at(0), span.at(1)):
            why = refused(AdapterSpec(name=name, **kind.example), {key: end}, STEPS)
            demand(not why, f"space: it refuses {key} {end:g}: {why}")
