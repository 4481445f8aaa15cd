"""How the contenders of a measurement of steps take turns, and what each of them takes.

Round by round, all of them in one process, each with a model of its own; their memory is then seen in
processes of their own. Of a model that is too large for that: in blocks of rounds on one model, which each
contender borrows and gives back as it was; or one after the other, each with a model that it draws anew.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from rankbench.bench import models
from rankbench.bench.cost.rounds import (
    Ask,
    Measured,
    in_fresh_process,
    interleave,
    peak_memory,
    shuffled,
)
from rankbench.bench.cost.step import Contender, adapter_of, attached, built, contenders, rehearse
from rankbench.bench.cost.use import Peak, joules, peak_of
from rankbench.bench.models.shared import borrow, give_back
from rankbench.bench.records import RecordError
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.suite.costs import WARM_UP, Overhead
from rankbench.tasks import Head


def adapter_names(settings: Overhead) -> list[str]:
    """Those that are measured."""
    return [spec.name for spec in settings.adapters.values()]


def check(settings: Overhead) -> None:
    """Find what would stop a measurement before anything runs. Raises the packages' own errors."""
    models.fetch(settings.model)
    for label in settings.adapters:
        model = models.empty_model(settings.model, Head(settings.head, 2))
        adapter_of(settings, label).attach(model, settings.targets)


def measure(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, once."""
    if settings.blocks:
        return in_fresh_process(in_blocks, settings, process, ask)
    if settings.alone:
        return in_fresh_process(one_at_a_time, settings, process, ask)
    timed_apart = in_fresh_process(round_by_round, settings, process, ask)
    return timed_apart.with_peaks(peak_memory(settings, contenders(settings), rehearse, ask))


def round_by_round(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time and size of every contender, in this process."""
    labels = contenders(settings)
    accelerator = make_accelerator(settings.precision)
    # Who is built first lies elsewhere in memory: not always the same one.
    found = {label: built(settings, label, accelerator) for label in shuffled(labels, f"{process}")}
    steps = {label: found[label].step for label in labels}
    seconds = interleave(steps, settings.rounds, ask, process)
    return Measured(seconds, parameters={label: found[label].size for label in labels})


@dataclass(frozen=True)
class Turn:
    """Rounds of one contender in a row: seconds of each, the peak meanwhile, the card's joules over them all
    (None where it does not tell), and the number of the adapter's parameters."""

    seconds: list[float]
    peak: Peak
    joules: float | None
    size: int


def one_at_a_time(settings: Overhead, process: int, ask: Ask) -> Measured:
    """Time, memory and size of every contender, in this process, which never holds two of them."""
    labels = shuffled(contenders(settings), f"{process}")
    return _of_turns(settings, {label: [_alone(settings, label, _saying(ask, label))] for label in labels})


def _alone(settings: Overhead, label: str, ask: Ask) -> Turn:
    gc.collect()  # what went before hangs on itself: its wrapped `forward`
    return _turn(built(settings, label, make_accelerator(settings.precision)), settings.rounds, ask)


def in_blocks(settings: Overhead, process: int, ask: Ask) -> Measured:
    """The same on one model, which each contender borrows several times, in orders of chance.

    Raises RecordError for a contender that does not fit beside the model.
    """
    turns: dict[str, list[Turn]] = {label: [] for label in contenders(settings)}
    for block in range(settings.blocks):
        for label in shuffled(turns, f"{process} {block}"):
            told = _saying(ask, f"{label}, block {block + 1} of {settings.blocks}")
            told("borrowing the model")
            turns[label].append(_on_loan(settings, label, told))
    return _of_turns(settings, turns)


def _on_loan(settings: Overhead, label: str, ask: Ask) -> Turn:
    accelerator = make_accelerator(settings.precision)
    model = borrow(settings.model, Head(settings.head, 2), 0, accelerator.device)
    try:
        one = attached(settings, label, accelerator, model)
        turn = _turn(one, settings.rounds_in_a_row, ask)
    except torch.OutOfMemoryError as error:
        raise RecordError(
            f"{label} does not fit beside the model that all share; leave it out, or lower batch or length"
        ) from error
    give_back(one.on)
    return turn


def _turn(one: Contender, rounds: int, ask: Ask) -> Turn:
    def steps() -> tuple[list[float], float | None]:
        for turn in range(WARM_UP):
            ask(f"round {turn + 1} of {WARM_UP + rounds}")
            one.step(turn)
        before = joules()
        seconds = []
        for turn in range(WARM_UP, WARM_UP + rounds):
            ask(f"round {turn + 1} of {WARM_UP + rounds}")
            seconds.append(one.step(turn))
        after = joules()
        return seconds, None if before is None or after is None else after - before

    (seconds, used), peak = peak_of(steps)
    return Turn(seconds, peak, used, one.size)


def _saying(ask: Ask, who: str) -> Ask:
    return lambda doing: ask(f"{who}, {doing}")


def _of_turns(settings: Overhead, turns: Mapping[str, Sequence[Turn]]) -> Measured:
    """In the suite's order: rounds one after the other, the highest peak, and joules of a mean round, where
    every turn has been told any."""
    labels = contenders(settings)
    told = all(turn.joules for turn in chain(*turns.values()))
    spent = {label: sum(turn.joules or 0.0 for turn in turns[label]) / settings.rounds for label in labels}
    return Measured(
        seconds={label: [seconds for turn in turns[label] for seconds in turn.seconds] for label in labels},
        parameters={label: turns[label][0].size for label in labels},
        joules=spent if told else {},
    ).with_peaks({label: _highest([turn.peak for turn in turns[label]]) for label in labels})


def _highest(peaks: Sequence[Peak]) -> Peak:
    """Each figure for itself."""
    reserved = [peak.reserved for peak in peaks if peak.reserved is not None]
    return Peak(max(peak.used for peak in peaks), max(reserved, default=None))
