"""Our own extensions beside ScaLoRA: planted gains, losses, and too few seeds to say."""

from __future__ import annotations

import itertools
import math

import pytest
from scipy import stats

from rankbench.bench.records import Metrics
from rankbench.reports.render import markdown
from rankbench.reports.sections import extensions
from rankbench.reports.study import Study
from tests.made_records import accuracy, run_record, save

SCALORA = (0.80, 0.82, 0.81, 0.80)


def made(folder, **scores):
    for adapter, values in scores.items():
        for seed, value in enumerate(values):
            # Labels say nothing: an extension is known by its adapter and settings.
            name, smoothness = ("scalora", "auto") if adapter == "scalora_auto" else (adapter, 300)
            config = {"adapter": {"name": name.replace("_", "-"), "smoothness": smoothness}}
            label = f"mine-{adapter[::-1]}".replace("_", "-")
            save(folder, run_record("movie", label, seed, config=config, metrics=accuracy(value)))
    return told(folder)


def told(folder):
    made = extensions.section(Study.read(folder))
    return markdown.section(made) if made else ""


def rows(section):
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def shifted(*points):
    return [value + point / 100 for value, point in zip(SCALORA, points, strict=True)]


def test_each_extension_is_tested_with_holm_over_the_rows(tmp_path):
    auto, nnls = (0.3, -0.2, 0.1, 0.2), (-5.0, -6.0, -5.5, -6.5)
    section = made(tmp_path, scalora=SCALORA, scalora_auto=shifted(*auto), scalora_nnls=shifted(*nnls))
    first, second = rows(section)
    assert [first[0], first[4], second[0], second[4]] == [
        "scalora-nnls",
        "below",
        "scalora-auto",
        "not below",
    ]
    p = stats.ttest_1samp(auto, -1, alternative="greater").pvalue
    assert float(second[3]) == pytest.approx(2 * p, abs=5e-4)
    low, high = stats.t.interval(0.90, 3, sum(auto) / 4, stats.sem(auto))
    assert second[2] == f"{sum(auto) / 4:+.2f} [{low:+.2f}, {high:+.2f}]"
    assert "REPRODUCED" not in section


@pytest.mark.parametrize("tuned", [False, True])
def test_entries_of_other_ranks_and_of_other_rates_that_nobody_chose_are_not_set_beside(tmp_path, tuned):
    for rank, (name, rate) in itertools.product((4, 64), (("scalora", 1e-3), ("scalora-nnls", 5e-3))):
        for seed in range(2):
            config = {"adapter": {"name": name, "rank": rank, "smoothness": 300}, "learning_rate": rate}
            score = accuracy(0.8 + rank / 1000 + 0.01 * seed)
            save(
                tmp_path,
                run_record("movie", f"{name}-{rank}", seed, config=config, metrics=score, tuned=tuned),
            )
    found = [row[0] for row in rows(told(tmp_path))]
    assert found == [f"scalora-nnls-{rank} beside scalora-{rank}" for rank in (4, 64) if tuned]


def test_a_wide_spread_leaves_it_open_and_one_seed_untested(tmp_path):
    section = made(tmp_path, scalora=SCALORA, scalora_auto=shifted(5, -5, 4, -4), scalora_nnls=[0.9])
    nnls, auto = rows(section)
    assert nnls[2:] == ["+10.00", "–", "–", "1"]
    assert auto[4] == "open"
    assert "chosen at the first scaling" in section


def test_errors_have_no_points(tmp_path):
    for adapter, errors in (("scalora", (0.5, 0.6)), ("scalora-nnls", (0.4, 0.45))):
        for seed, error in enumerate(errors):
            best = {"mse": error}
            metrics = Metrics(
                main="mse", lower_is_better=True, best=best, last=best, best_step=1, last_step=1
            )
            save(tmp_path, run_record("movie", adapter, seed, metrics=metrics))
    ((*_, gain, p, outcome, _seeds),) = rows(told(tmp_path))
    assert gain.startswith(f"÷ {math.sqrt(0.4 / 0.5 * 0.45 / 0.6):.2f} [")
    assert (p, outcome) == ("–", "–")


def test_without_the_original_there_is_nothing_to_show(tmp_path):
    assert made(tmp_path, scalora_nnls=SCALORA) == ""
