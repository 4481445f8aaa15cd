"""Whether a curve has levelled off, on curves whose answer is known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from rankbench.reports.render import markdown
from rankbench.reports.sections.convergence import section
from rankbench.reports.stats.evidence import Unjudged
from rankbench.reports.stats.flattened import Flattened, flattened
from rankbench.reports.study import Study
from tests.made_records import curve, run_record, save

STEPS = 400


def falling(rate: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """From 0.7 towards 0.35, `rate` time constants long."""
    at = np.arange(STEPS) / STEPS
    return 0.35 + 0.35 * np.exp(-rate * at) + noise * np.random.default_rng(seed).standard_normal(STEPS)


def judged(losses: ArrayLike) -> Flattened:
    found = flattened(losses)
    assert isinstance(found, Flattened)
    return found


def test_a_straight_line_falls_by_a_tenth_in_its_last_tenth() -> None:
    found = judged(np.linspace(1, 0, STEPS))
    # Means of tenths stand a tenth apart; those of the first fiftieth and the last tenth 0.94.
    assert found.share == pytest.approx(0.1 / 0.94, rel=0.01)
    assert (found.is_flat, found.is_sure) == (False, True)


@pytest.mark.parametrize(("rate", "flat"), [(1, False), (2, True), (4, True), (8, True)])
def test_an_exponential_has_the_share_of_its_closed_form(rate: float, flat: bool) -> None:
    def mean(start: float, end: float) -> float:
        return (np.exp(-rate * start) - np.exp(-rate * end)) / rate / (end - start)

    found = judged(falling(rate))
    of_means = (mean(0.8, 0.9) - mean(0.9, 1.0)) / (mean(0.0, 0.02) - mean(0.9, 1.0))
    assert found.share == pytest.approx(of_means, rel=0.01)
    exact = (np.exp(-0.9 * rate) - np.exp(-rate)) / (1 - np.exp(-rate))
    assert found.share > exact, "it errs to the side of not yet"
    assert found.is_flat is flat


def test_the_share_spreads_over_batches_as_its_noise_says() -> None:
    found = [judged(falling(4, 0.06, seed)) for seed in range(200)]
    shares = np.array([one.share for one in found])
    assert shares.mean() == pytest.approx(judged(falling(4)).share, abs=0.01)
    assert np.mean([one.noise for one in found]) == pytest.approx(shares.std(), rel=0.15)
    assert np.mean([one.is_sure for one in found]) < 0.2


def test_seeds_tell_what_one_cannot() -> None:
    curves = [falling(8, 0.06, seed) for seed in range(16)]
    one, all_ = judged(curves[0]), judged(curves)
    # Either scatter is itself known to a tenth, from eighty steps.
    assert all_.noise == pytest.approx(one.noise / 4, rel=0.3)
    assert (one.is_sure, all_.is_sure, all_.is_flat) == (False, True, True)


def test_one_that_does_not_fall_and_one_that_is_short_are_not_judged() -> None:
    level = falling(0, 0.06)
    assert flattened(level) == Unjudged("the loss does not fall")
    assert flattened(level[:99]) == Unjudged("99 steps, of 100 that it takes to tell")


def test_the_report_says_which_curves_were_long_enough(tmp_path: Path) -> None:
    rates = {"lora": 8.0, "scalora": 1.0, "full": 0.0}
    for label, rate in rates.items():
        for seed in range(3):
            losses = falling(rate, 0.002, seed).tolist()
            save(tmp_path, run_record("movie", label, seed, curve=curve(losses)))
            save(tmp_path, run_record("short", label, seed, curve=curve(losses[:60])))
    found = section(Study.read(tmp_path))
    assert found is not None
    (line,) = (one for one in markdown.section(found).splitlines() if one.startswith("Long enough?"))
    assert "less than 5% of its whole fall" in line
    assert re.search(r"losses\)\. Flattened: `lora` \(0\.\d ± 0\.\d %\)", line)
    assert re.search(r"not yet: `scalora` \([67]\.\d ± 0\.\d %\)", line)
    assert "the loss does not fall: `full`" in line
