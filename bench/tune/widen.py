"""How a space grows where the best trial lies at its edge.

A best trial is at an edge where no trial of its method has a lower, or no one a higher, value of a
hyperparameter. That range then grows beyond that side by half of its width, on its own scale, and half as
many trials as before are drawn in what was added: as close together as the first ones were. A side stays
where it is if the adapter refuses the farther end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rankbench.bench.suite.tuning import Span
from rankbench.bench.tune.draw import Shares

GROWTH = 0.5


def grown(
    space: Mapping[str, Span],
    best: Mapping[str, Any],
    drawn: Sequence[Mapping[str, Any]],
    allows: Callable[[Mapping[str, Any]], bool],
) -> dict[str, Span]:
    """The space after all `drawn` points of it, one of them the `best`; the same where that is at no edge.
    `allows` says whether the adapter takes a value."""
    wider = dict(space)
    for key, span in space.items():
        values = [point[key] for point in drawn]
        for name, edge, share in (("low", min(values), -GROWTH), ("high", max(values), 1 + GROWTH)):
            end = beyond(span, share)
            if best[key] == edge and end != getattr(span, name) and allows({**best, key: end}):
                wider[key] = wider[key].model_copy(update={name: end})
    return wider


def beyond(span: Span, share: float) -> float:
    """The end of a range that reaches to a share below 0 or above 1: rounded as `Span.at` does, a range of
    whole numbers outwards, on the logarithm to no less than 1."""
    end = span.unbounded(share)
    if not span.whole:
        return end
    return max(math.floor(end), 1 if span.log else -math.inf) if share < 0 else math.ceil(end)


def added(space: Mapping[str, Span], wider: Mapping[str, Span], shares: Shares) -> bool:
    """Whether a place in the wider space lies outside the one that it has grown from."""
    return any(
        not wider[key].share(span.low) <= share <= wider[key].share(span.high)
        for (key, span), share in zip(space.items(), shares, strict=True)
    )
