"""Methods by the loss of their test items: the ratio of two means with seeds and items as its levels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import stats

from rankbench.reports.claims.decide import decide, effects
from rankbench.reports.claims.judge import Verdict, judge
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.frames import load
from rankbench.reports.stats.evidence import Evidence, evidence
from rankbench.reports.stats.items import _ByItem, _grouped
from tests.made_items import save_scored
from tests.made_records import accuracy

Array = NDArray[np.float64]
SEEDS, ITEMS = 3, 400
TWIN = {
    "id": "twin", "paper": "rankbench", "sentence": "s", "source": "s", "measurement": "item_loss",
    "method": "scalora", "against": "lora", "direction": "superior", "tolerance": 0, "margin": 0.02,
    "unit": "× LoRA's loss", "why": "w", "test": "paired seeds and items",
}  # fmt: skip
BY_SCORE = TWIN | {"measurement": "score", "margin": 1, "unit": "points"}


def claim(given: dict[str, object] = TWIN, **changes: object) -> Claim:
    return Claim.model_validate(given | changes)


def only(folder: Path, made: Claim) -> Verdict:
    (verdict,) = judge(load(folder), [made])
    return verdict


def logits(generator: np.random.Generator, gain: float, seeds: int, items: int) -> tuple[Array, Array]:
    """How far two methods lean to the right class, (seeds, items) each: alike in how hard an item is, each
    with tastes and seeds of its own, the first by `gain` surer."""
    hardness = 1.2 + 1.5 * generator.standard_normal(items)

    def lean(shift: float) -> Array:
        taste, luck = 0.15 * generator.standard_normal(items), 0.02 * generator.standard_normal((seeds, 1))
        return shift + hardness + taste + luck + 0.3 * generator.standard_normal((seeds, items))

    return lean(gain), lean(0.0)


def losses(lean: Array) -> Array:
    return np.logaddexp(0, -lean)


def save_lean(folder: Path, adapter: str, leans: Array, *, groups: Array | None = None) -> None:
    """Runs of two classes whose logits lean so far to the right one, that of a group being the same."""
    target = (np.arange(leans.shape[1]) if groups is None else groups) % 2
    for seed, lean in enumerate(leans):
        sign = np.where(target == 1, 0.5, -0.5) * lean
        both = np.stack([-sign, sign], axis=1)
        frame = pd.DataFrame({"item": [f"i{i}" for i in range(len(target))], "target": target})
        frame["prediction"], frame["logits"] = both.argmax(1), both.tolist()
        if groups is not None:
            frame["group"] = groups
        save_scored(folder, adapter, seed, frame, accuracy(float((lean > 0).mean())))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own, other = logits(np.random.default_rng(1), 0.1, SEEDS, ITEMS)
    save_lean(tmp_path, "scalora", own)
    save_lean(tmp_path, "lora", other)
    return tmp_path


def test_records_that_state_no_loss_are_judged_by_their_logits(folder: Path) -> None:
    own, other = map(losses, logits(np.random.default_rng(1), 0.1, SEEDS, ITEMS))
    found = only(folder, claim()).found
    assert found is not None
    assert (found.n, found.items) == (SEEDS, ITEMS)
    ratio = own.mean(axis=1) / other.mean(axis=1)
    assert found.estimate == pytest.approx(math.exp(np.log(ratio).mean()))


def test_items_of_a_group_are_no_items_of_their_own(tmp_path: Path) -> None:
    """Four times each: what is known of 60 groups of alike items is what is known of 60 items."""
    pair = logits(np.random.default_rng(4), 0.1, SEEDS, 60)
    groups = np.random.default_rng(5).permutation(np.repeat(np.arange(60), 4))
    found = {}
    for name, of in (("once", None), ("often", groups)):
        for adapter, leans in zip(("scalora", "lora"), pair, strict=True):
            save_lean(tmp_path / name, adapter, leans if of is None else leans[:, of], groups=of)
        loss, score = only(tmp_path / name, claim()).found, only(tmp_path / name, claim(BY_SCORE)).found
        assert loss is not None
        assert score is not None
        assert (loss.items, score.items) == (60, 60)
        found[name] = [loss.estimate, loss.low, loss.high, score.estimate, score.low, score.high]
    assert found["often"] == pytest.approx(found["once"])


def test_groups_of_other_sizes_cover_as_often_as_they_say() -> None:
    """A mean over items whose groups are of any size, each with a mean of its own."""
    generator, covered = np.random.default_rng(6), 0
    for _ in range(300):
        of = np.repeat(np.arange(80), generator.integers(1, 12, 80))
        parts = generator.standard_normal(80)[of] + generator.standard_normal(len(of))
        table = pa.table({"group": of})
        grouped = _grouped(table, _ByItem([f"i{i}" for i in range(len(of))], parts)).parts
        assert grouped.mean() == pytest.approx(parts.mean())
        reach = stats.t.ppf(0.975, 79) * grouped.std(ddof=1) / math.sqrt(80)
        covered += abs(parts.mean()) < reach
    assert 0.91 * 300 < covered < 0.98 * 300


def test_an_item_counts_as_its_influence_on_the_ratio() -> None:
    """Against the jackknife: how the logarithm of the ratio moves as each item is left out."""
    own, other = map(losses, logits(np.random.default_rng(2), 0.1, 1, ITEMS))
    (found,) = effects(dict(enumerate(own)), dict(enumerate(other)), ratio=True)
    whole = np.log(own.mean() / other.mean())
    without = [np.log(np.delete(own, i).mean() / np.delete(other, i).mean()) for i in range(ITEMS)]
    jackknife = whole + (ITEMS - 1) * (whole - np.array(without))
    assert found.mean() == pytest.approx(whole)
    assert found == pytest.approx(jackknife, rel=0.02, abs=0.02)
    assert found.std() == pytest.approx(jackknife.std(), rel=0.01)


def test_about_the_difference_over_the_others_mean_and_the_reciprocal_its_negative() -> None:
    own, other = map(losses, logits(np.random.default_rng(3), 0.05, SEEDS, ITEMS))
    pair = dict(enumerate(own)), dict(enumerate(other))
    there, back = effects(*pair, ratio=True), effects(*pair[::-1], ratio=True)
    assert there == pytest.approx(-back)
    relative = (own - other) / other.mean(axis=1, keepdims=True)
    assert there.mean() == pytest.approx(relative.mean(), rel=0.05)
    assert there.std() == pytest.approx(relative.std(), rel=0.1)


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    """90 % of 300 rounds, less three standard deviations at most: two levels may make them wider than they
    need be, but not by half of what they leave out. New seeds and new items in each round."""
    generator = np.random.default_rng(4)
    big = [losses(one).mean() for one in logits(generator, 0.1, 200, 50_000)]
    truth, held = math.log(big[0] / big[1]), 0
    for _ in range(300):
        own, other = map(losses, logits(generator, 0.1, 5, 300))
        found = evidence(effects(dict(enumerate(own)), dict(enumerate(other)), ratio=True))
        assert isinstance(found, Evidence)
        low, high = found.interval(0.90)
        held += bool(low < truth < high)
    assert 0.90 - 3 * math.sqrt(0.90 * 0.10 / 300) < held / 300 < 0.95


@pytest.mark.slow
def test_the_twin_needs_fewer_seeds_than_the_accuracy() -> None:
    """The same runs judged both ways: the median number of seeds until a small gain is shown."""
    generator = np.random.default_rng(5)

    def needed(made: Claim, tables: list[Array]) -> int:
        for seeds in range(2, 41):
            first = [table[:seeds] for table in tables]
            values = effects(*(dict(enumerate(one)) for one in first), ratio=made.is_ratio)
            if decide(made, [values])[0].outcome is Outcome.REPRODUCED:
                return seeds
        return 41

    by_score, by_loss = [], []
    for _ in range(30):
        leans = logits(generator, 0.1, 40, 400)
        by_score.append(needed(claim(BY_SCORE), [100.0 * (lean > 0) for lean in leans]))
        by_loss.append(needed(claim(), [losses(lean) for lean in leans]))
    # Two seeds are the fewest that tell a spread; the accuracy takes four here, and up to 29.
    assert np.median(by_loss) == 2, by_loss
    assert np.median(by_score) >= 4, by_score
