"""All that a suite's `score` asks of a model, and the main score among or over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankbench.tasks.base import Score
from rankbench.tasks.causal.asked import Asked, asked
from rankbench.tasks.causal.means import Part, linearised, mean
from rankbench.tasks.causal.scorer import Scorer
from rankbench.tasks.data.hub import load_hub
from rankbench.tasks.metrics import metric
from rankbench.tasks.options import TaskError, nearest

if TYPE_CHECKING:
    from rankbench.tasks.causal import harness

MEAN, PERPLEXITY = "mean", "perplexity"


class Several:
    """lm-eval's tasks and the perplexity of held-out answers; `main` is a score, or the mean of lm-eval's."""

    def __init__(self, entries: Any, main: str, mirror: Any, most: int | None) -> None:
        if not isinstance(entries, list) or not entries:
            raise TaskError(f"instruct: say what to score, a list: score: [gsm8k, {PERPLEXITY}]")
        self.asked = [asked(entry) for entry in entries if entry != PERPLEXITY]
        self.perplexity = PERPLEXITY in entries
        self.mirror, self.most = mirror, most
        self.metric = self._main(main)

    def _main(self, main: str) -> str:
        """The metric that runs are ranked by. Raises TaskError where it is not known or there is no mean."""
        scores = {each.name: each.metric_of(each.name) for each in self.asked}
        counts = Counter(member.name for each in self.asked for member in each.group.members)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise TaskError(f"instruct: {', '.join(twice[:3])} would be scored twice; leave one out")
        scores |= {PERPLEXITY: PERPLEXITY} if self.perplexity else {}
        if main != MEAN:
            if main not in scores:
                raise TaskError(f"instruct: main {main!r} is no score; {nearest(main, [MEAN, *scores])}")
            metric(scores[main])
            return scores[main]
        if not self.asked:
            return PERPLEXITY
        for name, score in scores.items():
            known = metric(score)
            if name != PERPLEXITY and (known.lower_is_better or not known.percent):
                raise TaskError(f"instruct: {score} is no share to be averaged; name a `main` score")
        return MEAN

    @property
    def names(self) -> list[str]:
        """Of the metrics that stand for the scores."""
        return [each.metric_of(each.name) for each in self.asked] + [PERPLEXITY] * self.perplexity

    def fingerprint(self) -> dict[str, Any]:
        """What each lm-eval score is made of."""
        return {each.name: each.fingerprint(self.mirror) for each in self.asked}

    def fetch(self) -> None:
        """Fill the cache of `datasets` with their data, unless a mirror is in use."""
        for each in self.asked:
            for stated, pin in zip(each.group.members, each.pins(), strict=True):
                if pin:
                    load_hub(pin, self.mirror, stated.splits)

    @cached_property
    def _scorers(self) -> list[list[Scorer]]:
        """By score, the tasks that it is of."""
        return [
            [Scorer(stated, each, self.mirror, self.most) for stated in each.group.members]
            for each in self.asked
        ]

    @property
    def scorers(self) -> list[Scorer]:
        """lm-eval's tasks, loaded once. Raises TaskError for one that cannot be."""
        return [each for group in self._scorers for each in group]

    def score(self, lm: harness.HFLM, chat: bool, held_out: tuple[Part, pd.DataFrame] | None) -> Score:
        """Every score of a model; `held_out` is the perplexity where that is asked, and what is known of its
        items. An item's row tells its own `value`, and its part in the main score."""
        metrics: dict[str, float] = {}
        parts: list[Part] = []
        frames: list[pd.DataFrame] = []
        for each, scorers in zip(self.asked, self._scorers, strict=True):
            found = [scorer.score(lm, chat) for scorer in scorers]
            for scorer, one in zip(scorers, found, strict=True):
                metrics |= {f"{scorer.name}/{key}": value for key, value in one.metrics.items()}
                frames.append(pd.DataFrame({"item": one.items, "value": one.values, "answer": one.answers}))
            own = _weighed(each, [np.asarray(one.values) for one in found])
            metrics[each.metric_of(each.name)] = mean(own)
            parts += [part._replace(weight=part.weight * self._weight(each)) for part in own]
        if held_out is not None:
            part, rows = held_out
            metrics[PERPLEXITY] = float(part.values.mean())
            parts.append(part._replace(weight=float(self.metric == PERPLEXITY)))
            frames.append(rows.assign(item=f"{PERPLEXITY}/" + rows["item"], value=part.values))
        if self.metric == MEAN:
            metrics[MEAN] = mean(parts)
        return Score(metrics, pd.concat(frames, ignore_index=True).assign(score=linearised(parts)))

    def _weight(self, each: Asked) -> float:
        """Of a score in the main one."""
        return 1 / len(self.asked) if self.metric == MEAN else float(self.metric == each.metric_of(each.name))


def _weighed(each: Asked, values: Sequence[NDArray[np.float64]]) -> list[Part]:
    """The tasks of a group, weighed as its own YAML says: alike, or by their items."""
    if not each.group.by_size:
        return [Part(own, 1 / len(values)) for own in values]
    items = sum(map(len, values))
    return [Part(own, len(own) / items) for own in values]
