"""The six matrices of a transformer's layer by the names that papers give them."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping

MATRICES = {
    "query": re.compile(r"(query(_proj)?|q_proj)$"),
    "key": re.compile(r"(key(_proj)?|k_proj)$"),
    "value": re.compile(r"(value(_proj)?|v_proj)$"),
    "attention output": re.compile(r"(attention\.output\.dense|o_proj)$"),
    "feed-forward 1": re.compile(r"(intermediate\.dense|gate_proj|up_proj)$"),
    "feed-forward 2": re.compile(r"((?<!attention\.)output\.dense|down_proj)$"),
}
"""Matrix -> the end of a module's name, in BERT's family and in Llama's, whose first is in two parts."""


def by_matrix(ranks: Mapping[str, int]) -> dict[str, list[int]]:
    """Matrix -> what the modules (name -> rank) of all layers have of it; others, a pooler, are left out."""
    found: dict[str, list[int]] = defaultdict(list)
    for name, rank in ranks.items():
        for matrix, pattern in MATRICES.items():
            if pattern.search(name):
                found[matrix].append(rank)
    return found


def first_feed_forward_lead(ranks: Mapping[str, int]) -> float | None:
    """What a layer's first feed-forward matrix has, on average, less what that one of the other five has that
    has most; None unless all six are there."""
    means = {matrix: statistics.fmean(found) for matrix, found in by_matrix(ranks).items()}
    if means.keys() != MATRICES.keys():
        return None
    first = means.pop("feed-forward 1")
    return first - max(means.values())
