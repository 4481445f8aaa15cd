"""The regression gate: planted regressions caught, re-runs left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rankbench.reports.stats.evidence import StatsError
from rankbench.reports.stats.gate import Cell, Checked, check_cells, log_ratios

TASKS, METHODS = 4, 5
RERUNS = 500
Spread = Callable[[int, int], float]


def alike(task: int, method: int) -> float:
    return 1.0


def one_unstable_method(task: int, method: int) -> float:
    return 3.0 if method == 0 else 1.0


def suite(
    rng: np.random.Generator,
    seeds: int,
    *,
    shared: float = 0.5,
    plant: dict[tuple[int, int], float] | None = None,
    spread: Spread = alike,
    again: int | None = None,
) -> list[Cell]:
    """20 cells run twice. `shared`: the correlation of the two runs of a seed; `plant`: shifts of the
    re-run in units of the spread over seeds; `again`: how many of the seeds were run again."""
    cells = []
    for task in range(TASKS):
        for method in range(METHODS):
            sd = 0.01 * spread(task, method)
            luck = rng.standard_normal(seeds) * shared**0.5
            before, after = 0.8 + sd * (luck + rng.standard_normal((2, seeds)) * (1 - shared) ** 0.5)
            after += sd * (plant or {}).get((task, method), 0.0)
            rerun = dict(enumerate(after[:again]))
            cells.append(Cell(f"t{task}", f"m{method}", dict(enumerate(before)), rerun))
    return cells


def regressed(checked: list[Checked]) -> list[tuple[str, str]]:
    return [(one.cell.task, one.cell.method) for one in checked if one.verdict == "regressed"]


@pytest.mark.parametrize(
    ("seeds", "again", "shared", "spread"),
    [
        (3, 3, 0.0, alike),
        (5, 5, 0.5, alike),
        (3, 3, 0.95, alike),
        (3, 3, 0.5, one_unstable_method),
        (5, 5, 0.0, one_unstable_method),
        (3, 1, 0.0, alike),
        (3, 1, 0.5, one_unstable_method),
    ],
)
def test_reruns_raise_few_alarms(seeds: int, again: int, shared: float, spread: Spread) -> None:
    rng = np.random.default_rng(7)
    reruns = (suite(rng, seeds, shared=shared, spread=spread, again=again) for _ in range(RERUNS))
    alarms = sum(bool(regressed(check_cells(cells))) for cells in reruns)
    assert alarms / RERUNS <= 0.05


@pytest.mark.parametrize(("seeds", "again", "size"), [(3, 3, 4.0), (5, 5, 3.0), (3, 1, 9.0)])
def test_planted_regressions_are_caught(seeds: int, again: int, size: float) -> None:
    rng = np.random.default_rng(8)
    plant = {(1, 2): -size}
    found = [regressed(check_cells(suite(rng, seeds, plant=plant, again=again))) for _ in range(200)]
    assert np.mean([("t1", "m2") in one for one in found]) >= 0.9
    assert np.mean([one not in ([], [("t1", "m2")]) for one in found]) <= 0.05


def test_a_regression_everywhere_is_caught() -> None:
    rng = np.random.default_rng(9)
    plant = {(task, method): -2.5 for task in range(TASKS) for method in range(METHODS)}
    found = [len(regressed(check_cells(suite(rng, 5, plant=plant)))) for _ in range(50)]
    assert min(found) >= 15


def test_improvements_and_tiny_losses_are_no_regressions() -> None:
    rng = np.random.default_rng(10)
    for shift in (3.0, -0.5):
        plant = {(task, method): shift for task in range(TASKS) for method in range(METHODS)}
        checked = check_cells(suite(rng, 5, shared=0.999, plant=plant))
        assert {one.verdict for one in checked} == {"not inferior"}


def cell(before: list[float], after: list[float], **options: float) -> Cell:
    return Cell("task", "m", dict(enumerate(before)), dict(enumerate(after)), **options)


def test_identical_runs_hide_nothing() -> None:
    """What few changed cells lack in degrees of freedom, the spread over seeds lends, twice its
    variance; that changes of exactly zero surround them does not count as calm."""
    noisy = cell([0.80, 0.82, 0.78], [0.78, 0.83, 0.74])
    still = [cell([0.80, 0.82, 0.78], [0.80, 0.82, 0.78]) for _ in range(9)]
    first, *others = check_cells([noisy, *still])
    assert {one.verdict for one in others} == {"identical"}
    changes = np.array([-0.02, 0.01, -0.04])
    squares = ((changes - changes.mean()) ** 2).sum() + 10 * 2 * 0.0008
    error = max(squares / 22, changes.var(ddof=1)) ** 0.5 / 3**0.5
    assert first.standard_error == pytest.approx(error)
    assert first.p == pytest.approx(stats.t.cdf(changes.mean() / error, 22))
    assert first.verdict == "inconclusive"
    assert first.margin == pytest.approx(0.02)


def one_changed(rng: np.random.Generator, seeds: int, shift: float) -> list[Cell]:
    """A re-run in which all but one method came out bit for bit."""
    cells = suite(rng, seeds, shared=0.0, plant={(task, 2): shift for task in range(TASKS)})
    return [c if c.method == "m2" else Cell(c.task, c.method, c.baseline, c.baseline) for c in cells]


def test_one_touched_method_is_caught_among_identical_ones_and_seldom_accused() -> None:
    rng = np.random.default_rng(0)
    caught = [bool(regressed(check_cells(one_changed(rng, 3, -5.0)))) for _ in range(200)]
    accused = [bool(regressed(check_cells(one_changed(rng, 3, 0.0)))) for _ in range(RERUNS)]
    assert np.mean(caught) >= 0.95
    assert np.mean(accused) <= 0.05


def test_a_method_that_collapses_now_and_then_excuses_no_other() -> None:
    """One seed in five of one method at the constant answer: 15 points of spread, where others have 0.3."""
    rng = np.random.default_rng(5)
    cells = [
        replace(cell(*(30 + 0.3 * rng.standard_normal((2, 5)))), method=f"m{place}", least_margin=0.5)
        for place in range(4)
    ]
    unstable = replace(cell([30.0, 30.2, 0.0, 29.9, 30.1], [30.1, 30.0, 0.0, 30.0, 30.2]), method="unstable")
    worse = cell(*(np.array([[30.0], [25.0]]) + 0.3 * rng.standard_normal((2, 5))))
    checked = check_cells([*cells, unstable, replace(worse, method="worse")])
    assert regressed(checked) == [("task", "worse")]
    assert checked[-1].margin is not None
    assert checked[-1].margin < 1


@pytest.mark.parametrize(("learned", "stuck"), [(3, 12), (3, 28), (1, 8)])
def test_methods_at_the_constant_answer_do_not_make_others_look_sure(learned: int, stuck: int) -> None:
    """They have no spread over seeds, before or after."""
    rng, alarms, count = np.random.default_rng(0), 0, 400
    for _ in range(count):
        scores = 30 + 5 * rng.standard_normal((learned, 2, 3))
        cells = [replace(cell(*both), method=f"m{place}") for place, both in enumerate(scores)]
        cells += [replace(cell([0.0] * 3, [0.0] * 3), method=f"s{place}") for place in range(stuck)]
        alarms += bool(regressed(check_cells(cells)))
    assert alarms / count < 0.05 + 2 * (0.05 * 0.95 / count) ** 0.5


def test_the_same_loss_on_every_seed() -> None:
    (lost,) = check_cells([cell([1.0, 1.0, 1.0], [0.9, 0.9, 0.9])])
    assert lost.verdict == "regressed"
    assert lost.p is not None
    assert lost.p < 1e-100
    (small,) = check_cells([cell([1.0, 1.0, 1.0], [0.9, 0.9, 0.9], least_margin=0.2)])
    assert small.verdict == "not inferior"
    (better,) = check_cells([cell([1.0, 1.0, 1.0], [0.9, 0.9, 0.9], lower_is_better=True)])
    assert better.verdict == "not inferior"


def test_a_single_seed_is_judged_by_the_spread_of_the_baseline() -> None:
    """Its own and that of the task's other cells: two baselines of three seeds, 4 degrees of freedom."""
    once = cell([0.80, 0.82, 0.78], [0.70])
    first, other = check_cells([once, cell([0.70, 0.71, 0.72], [0.70, 0.71, 0.72])])
    assert other.verdict == "identical"
    error = (2 * 0.0004) ** 0.5
    assert first.standard_error == pytest.approx(error), "its own, which is above the pooled one"
    assert first.p == pytest.approx(stats.t.cdf(-0.1 / error, 4))
    assert (first.verdict, first.seeds, first.margin) == ("regressed", 1, pytest.approx(0.02))


def test_a_spread_is_lent_to_a_cell_of_one_seed_on_both_sides() -> None:
    (first, _) = check_cells([cell([0.8], [0.1]), cell([0.80, 0.82, 0.78], [0.81, 0.82, 0.79])])
    assert first.verdict == "regressed"
    assert first.margin == pytest.approx(0.02)


def test_what_cannot_be_judged() -> None:
    one_seed, none_shared = check_cells([cell([0.8], [0.1]), Cell("task", "m", {0: 0.8}, {1: 0.8})])
    assert (one_seed.verdict, one_seed.seeds) == ("cannot be judged", 1)
    assert (none_shared.verdict, none_shared.seeds) == ("cannot be judged", 0)
    elsewhere = Cell("other task", "m", {0: 1.0, 1: 1.1}, {0: 1.0, 1: 1.2})
    assert check_cells([cell([0.8], [0.1]), elsewhere])[0].verdict == "cannot be judged"
    assert check_cells([]) == []


def test_costs_of_zero_have_no_ratio() -> None:
    for costs in ({0: 0.0}, {0: -1.0}):
        with pytest.raises(StatsError, match="zero or less"):
            log_ratios(costs, {0: 1.0})
        with pytest.raises(StatsError, match="zero or less"):
            log_ratios({0: 1.0}, costs)


def test_timings_as_ratios_to_lora() -> None:
    """A machine twice as slow changes nothing; a method that alone takes longer does."""
    rng = np.random.default_rng(11)

    def run(slow: float, own: float) -> dict[int, float]:
        lora = {seed: slow * 0.1 * np.exp(0.01 * rng.standard_normal()) for seed in range(5)}
        method = {seed: own * slow * 0.12 * np.exp(0.01 * rng.standard_normal()) for seed in range(5)}
        return log_ratios(method, lora)

    def verdict(before: dict[int, float], after: dict[int, float]) -> Checked:
        return check_cells([Cell("step", "m", before, after, lower_is_better=True, least_margin=0.05)])[0]

    assert verdict(run(1, 1), run(2, 1)).verdict != "regressed"
    slower = verdict(run(1, 1), run(2, 1.3))
    assert slower.verdict == "regressed"
    assert slower.change is not None
    assert np.exp(-slower.change) == pytest.approx(1.3, abs=0.03)
