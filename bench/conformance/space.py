"""The rule of what tuning may draw of an adapter."""

from __future__ import annotations

from rankbench import adapters
from rankbench.bench.conformance.rules import Broken, demand
from rankbench.bench.conformance.subject import STEPS
from rankbench.bench.suite import AdapterSpec
from rankbench.bench.suite.tuning import declared, refused


def has_a_space_that_it_takes(name: str) -> None:
    """Every key of `space` is a hyperparameter or the learning rate, and the adapter takes both ends."""
    spec = AdapterSpec(name=name, **adapters.kind(name).example)
    try:
        space = declared(spec)
    except ValueError as error:
        raise Broken(str(error)) from None
    for key, span in space.items():
        for end in (span.at(0), span.at(1)):
            why = refused(spec, {key: end}, STEPS)
            demand(not why, f"space of {name}: it refuses {key} {end:g}: {why}")
