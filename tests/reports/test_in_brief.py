"""The first screen: each sentence against what the made records are known to hold."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rankbench import reports
from rankbench.bench.records import FailureRecord, Metrics, Observation, Scale
from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Claim, Outcome, load_claims
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.sections import in_brief, leaderboard
from rankbench.reports.sections.verdicts import JUDGED
from rankbench.reports.study import Study
from tests.made_records import accuracy, curve, overhead_record, run_record, save

BASE = [0.80, 0.82, 0.84]
GAINS = {"scalora": [0.05, 0.052, 0.051], "full": [-0.05, -0.052, -0.051], "rslora": [0.01, -0.02, 0.015]}
FAILED: dict[str, Any] = {
    "suite": "made",
    "task": "movie",
    "fingerprint": "0" * 64,
    "config": {},
    "provenance": {},
}


def brief(folder: Path, **given: Any) -> str:
    return markdown.section(in_brief.section(Study(load(folder), **given)))


def answer(text: str, lead: str) -> str:
    """The sentences under a bold lead."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"- **{lead}**"))
    return line


def scores(folder: Path, task: str = "movie", **changes: Any) -> Path:
    save(
        folder,
        *(
            run_record(task, "lora", seed, metrics=accuracy(score), **changes)
            for seed, score in enumerate(BASE)
        ),
    )
    for label, gains in GAINS.items():
        for seed, (score, gain) in enumerate(zip(BASE, gains, strict=True)):
            save(folder, run_record(task, label, seed, metrics=accuracy(score + gain), **changes))
    return folder


def test_what_helps_hurts_and_stays_open_is_told_with_its_size(tmp_path: Path) -> None:
    text = brief(scores(tmp_path))
    p = {label: stats.ttest_1samp(gains, 0).pvalue for label, gains in GAINS.items()}
    assert 2 * max(p["scalora"], p["full"]) < 0.05 < p["rslora"], "by Holm's rule"
    low, high = stats.t.interval(0.95, 2, 5.1, stats.sem([5.0, 5.2, 5.1]))
    assert f"`scalora` on movie (+5.10 [{low:+.2f}, {high:+.2f}] points of accuracy)" in answer(
        text, "What helps."
    )
    assert f"`full` on movie (-5.10 [{-high:+.2f}, {-low:+.2f}] points of accuracy)" in answer(
        text, "What hurts."
    )
    ends = stats.t.interval(1 - 0.05 / 3, 2, *_mean_and_error([100 * gain for gain in GAINS["rslora"]]))
    left = answer(text, "What cannot be told apart.")
    assert "In 1 of 3 comparisons the data show no difference from `lora`." in left
    assert f"by {max(map(abs, ends)):.2f} points (`rslora`) on movie" in left


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(stats.sem(values))


def test_nothing_that_helps_is_said_too(tmp_path: Path) -> None:
    for label, offset in (("lora", 0.0), ("rslora", 0.01)):
        for seed, score in enumerate(BASE):
            save(tmp_path, run_record("movie", label, seed, metrics=accuracy(score + offset * (-1) ** seed)))
    text = brief(tmp_path)
    assert "on no task does a method beat `lora`" in answer(text, "What helps.")
    assert "What hurts." not in text


def test_what_was_compared_stands_first(tmp_path: Path) -> None:
    scores(tmp_path)
    save(tmp_path, run_record("amazon", "lora", 0, model="none"))
    first = brief(tmp_path).splitlines()[2]
    assert first.startswith(
        "Compared: 4 methods (`lora`, `full`, `rslora` and `scalora`) on 2 tasks (`amazon` and `movie`), "
        "trained with the task's own model and `tiny`, 1 to 3 seeds each,"
    )


def test_of_one_seed_nothing_is_told(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0), run_record("movie", "dora", 0, metrics=accuracy(0.9)))
    text = brief(tmp_path)
    assert "one seed each" in text
    assert "one comparison with `lora`: one seed to compare by" in answer(text, "What cannot be judged.")
    assert "What helps." not in text
    assert "told apart" not in text
    assert "of one seed nothing follows ([claims](#verdicts))" in answer(text, "What holds of the papers.")


def test_without_the_baseline_nothing_is_compared(tmp_path: Path) -> None:
    for seed, score in enumerate(BASE):
        save(
            tmp_path,
            run_record("movie", "dora", seed),
            run_record("movie", "full", seed, metrics=accuracy(score)),
        )
    text = brief(tmp_path)
    assert "No `lora` ran on movie." in answer(text, "What is not compared.")
    assert "What helps." not in text


def test_another_baseline_is_named(tmp_path: Path) -> None:
    text = brief(scores(tmp_path, baseline="full"))
    assert "All are set beside `full`." in text
    assert "`scalora`, `rslora` and `lora` on movie (`scalora` most: +10.20" in answer(text, "What helps.")


def test_errors_are_told_as_ratios(tmp_path: Path) -> None:
    errors = {"lora": [0.40, 0.42, 0.41], "scalora": [0.020, 0.022, 0.020]}
    for label, values in errors.items():
        for seed, value in enumerate(values):
            error = {"mse": value}
            metrics = Metrics(
                main="mse", lower_is_better=True, best=error, last=error, best_step=1, last_step=1
            )
            save(tmp_path, run_record("regression", label, seed, metrics=metrics))
    logs = np.log(errors["scalora"]) - np.log(errors["lora"])
    low, high = np.exp(stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs)))
    found = answer(brief(tmp_path), "What helps.")
    (told,) = re.findall(r"\(([\d.]+) \[([\d.]+), ([\d.]+)\] times the mse of `lora`\)", found)
    assert [float(number) for number in told] == pytest.approx([math.exp(logs.mean()), low, high], rel=0.02)


def test_errors_that_may_be_anything_apart_are_said_to_be_so(tmp_path: Path) -> None:
    """Two seeds whose errors differ by orders of magnitude bound nothing: no figure is told."""
    errors = {"lora": [0.40, 0.41], "scalora": [0.02, 2e-6]}
    for label, values in errors.items():
        for seed, value in enumerate(values):
            metrics = Metrics(
                main="mse", lower_is_better=True, best={"mse": value}, last={"mse": value}, best_step=1,
                last_step=1,
            )  # fmt: skip
            save(tmp_path, run_record("regression", label, seed, metrics=metrics))
    assert "by anything (`scalora`) on regression" in answer(brief(tmp_path), "What cannot be told apart.")


def test_protocols_are_told_apart(tmp_path: Path) -> None:
    scores(tmp_path)
    for seed in range(3):
        save(tmp_path, run_record("movie", "dora", seed, metrics=accuracy(0.99), protocol={"length": 8}))
    text = brief(tmp_path)
    assert "`scalora` on movie (A)" in answer(text, "What helps.")
    assert "No `lora` ran on movie (B)." in text
    assert "dora" not in answer(text, "What helps.")


def test_step_times_are_told_where_processes_agree(tmp_path: Path) -> None:
    seconds = {"lora": [[1.0], [1.0], [1.0]], "dora": [[1.5], [1.6], [1.55]], "full": [[0.8], [0.81], [0.8]]}
    seconds |= {"rslora": [[0.9], [1.1], [1.0]], "floor": [[0.1], [0.1], [0.1]]}
    sizes = {"lora": 12, "dora": 12, "full": 99, "rslora": 12, "floor": 0}
    peaks = {name: [100.0, 101.0, 99.0] for name in seconds}
    save(tmp_path, overhead_record(seconds, parameters=sizes, peak_resident=peaks))
    text = brief(tmp_path)
    assert (
        "what a training step costs with 4 methods (`lora`, `dora`, `full` and `rslora`) on `tiny`." in text
    )
    logs = np.log([1.5, 1.6, 1.55])
    low, high = np.exp(stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs)))
    told = answer(text, "What a step costs.")
    assert (
        f"more for `dora` ({np.exp(logs.mean()):.2f} times [{low:.2f}, {high:.2f}]), less for `full` (0.80"
        in told
    )
    assert "no difference shown for `rslora`" in told
    assert "floor" not in told
    assert "no difference shown for" in answer(text, "What memory it takes.")
    assert "What helps." not in text


def test_processes_that_agree_to_the_last_bit_show_a_difference(tmp_path: Path) -> None:
    """As the peaks of a card's allocator do."""
    peaks = {"lora": [800.0] * 3, "dora": [1200.0] * 3, "full": [400.0] * 3, "rslora": [800.0] * 3}
    seconds = {label: [[1.0, 1.0]] * 3 for label in peaks}
    save(tmp_path, overhead_record(seconds, peak_resident=peaks, parameters=dict.fromkeys(peaks, 12)))
    told = answer(brief(tmp_path), "What memory it takes.")
    assert (
        "more for `dora` (1.50 times in every process), less for `full` (0.50 times in every process)" in told
    )
    assert "no difference shown for `rslora`" in told


def test_a_rate_of_errors_that_falls_is_told_with_a_minus(tmp_path: Path) -> None:
    """From 10 to 6 of a hundred words, which is better: "+4 points of wer" reads as four more."""
    rates = {"lora": (100, 101, 102, 100), "dora": (61, 60, 62, 62), "scalora": (132, 132, 130, 131)}
    for method, errors in rates.items():
        for seed, thousandths in enumerate(errors):
            best = {"wer": thousandths / 1000}
            scale = Scale(low=0.0, high=1.0, lower_is_better=True, percent=True)
            metrics = {"main": "wer", "lower_is_better": True, "best": best, "last": best}
            metrics |= {"best_step": 1, "last_step": 1, "scales": {"wer": scale}}
            save(tmp_path, run_record("speech", method, seed, metrics=metrics))
    text = brief(tmp_path)
    helps, hurts = answer(text, "What helps."), answer(text, "What hurts.")
    assert re.search(r"`dora` on speech \(-[34]\.\d\d \[-\d\.\d\d, -\d\.\d\d\] points of wer\)", helps)
    assert re.search(r"`scalora` on speech \(\+[23]\.\d\d \[", hurts)


def test_what_takes_a_thousandth_more_is_not_listed_as_taking_more(tmp_path: Path) -> None:
    """Surely so, but "more for `scalora` (1.00 times in every process)" tells nobody anything."""
    peaks = {"lora": [52473.0] * 3, "dora": [53000.0] * 3, "scalora": [52480.0] * 3, "full": [52300.0] * 3}
    seconds = {label: [[1.0, 1.0]] * 3 for label in peaks}
    save(tmp_path, overhead_record(seconds, peak_resident=peaks, parameters=dict.fromkeys(peaks, 12)))
    told = answer(brief(tmp_path), "What memory it takes.")
    assert "more for `dora` (1.01 times in every process)," in told
    assert "the same to half a percent for `scalora` and `full`" in told
    assert "less for" not in told


def test_a_measurement_that_failed_is_no_run(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0))
    fields = {"suite": "made", "fingerprint": "", "reason": "no room", "config": {}, "provenance": {}}
    save(
        tmp_path,
        FailureRecord(task="encoder", **fields),
        FailureRecord(task="movie", adapter="dora", seed=1, **fields),
    )
    told = answer(brief(tmp_path), "What failed.")
    assert "one run: `dora` on `movie`; one measurement: `encoder`" in told


def test_whole_loops_are_no_methods(tmp_path: Path) -> None:
    sizes = {"rankbench": 12, "trainer": 12}
    loops = overhead_record({"rankbench": [1.0], "trainer": [2.0]}, name="loop", parameters=sizes)
    first = brief(save(tmp_path, loops)).splitlines()[2]
    assert first.startswith("Whole training loops are set beside Hugging Face's Trainer")
    save(tmp_path, overhead_record({"lora": [1.0], "scalora": [2.0]}))
    first = brief(tmp_path).splitlines()[2]
    assert "with 2 methods (`lora` and `scalora`) on `tiny`. Whole training loops" in first


def test_growth_alone_counts_no_methods(tmp_path: Path) -> None:
    shape = {"axis": "rank", "rank": 4, "width": 8, "layers": 1, "rescale": {}}
    points = [{**shape, "seconds": {"floor": [1.0], "lora": [2.0]}}]
    save(tmp_path, overhead_record({}, name="growth", growth=points, parameters={}, peak_resident={}))
    first = brief(tmp_path).splitlines()[2]
    assert first.startswith("How the cost of scaling grows with rank, width and layers is measured")


def test_the_fewest_and_most_parameters_are_those_of_any_task(tmp_path: Path) -> None:
    for task, more in (("amazon", 0), ("movie", 10)):
        for label, size in (("lora", 100), ("full", 900)):
            count = {"total": 1000, "trainable": size + more, "adapter": size}
            save(tmp_path, run_record(task, label, 0, parameters=count))
    assert "100 (`lora`) to 910 (`full`) parameters of `tiny`" in answer(brief(tmp_path), "What is trained.")


def test_the_rank_that_a_sweep_is_set_beside_is_named(tmp_path: Path) -> None:
    for rank in (16, 4):
        config = {"adapter": {"name": "lora", "rank": rank}}
        save(tmp_path, *(run_record("ranks", f"lora-r{rank}", seed, config=config) for seed in range(2)))
    save(tmp_path, run_record("movie", "lora", 0), run_record("movie", "lora", 1))
    assert "All are set beside `lora` (`lora-r4` on ranks)." in brief(tmp_path)


def test_one_process_is_no_evidence(tmp_path: Path) -> None:
    save(tmp_path, overhead_record({"lora": [1.0, 1.0], "scalora": [2.0, 1.0], "full": [1.0, 1.0]}))
    told = answer(brief(tmp_path), "What a step costs.")
    assert "on encoder 1.00 times (`full`) to 1.50 times (`scalora`)" in told
    assert "there is no evidence of a difference" in told


def test_failures_are_told(tmp_path: Path) -> None:
    failures = [FailureRecord(**FAILED, adapter=label, seed=0, reason="x") for label in ("lora", "dora")]
    save(tmp_path, *failures)
    text = brief(tmp_path)
    assert "Nothing finished: 2 failures." in text
    assert "2 runs: `dora` on `movie` and `lora` on `movie`" in answer(text, "What failed.")


def test_sweeps_that_end_at_their_edge_are_counted(tmp_path: Path) -> None:
    for method, best in (("lora", 0.002), ("dora", 0.004)):
        for rate in (0.001, 0.002, 0.004):
            seen = [Observation(step=5, selection=0.9 if rate == best else 0.5)]
            grid = {"method": method, "point": {"learning_rate": rate}}
            save(tmp_path, run_record("movie", f"{method}-{rate}", 0, observations=seen, **grid))
    text = brief(tmp_path)
    assert "In 1 of 2 sweeps" in answer(text, "What was tuned.")
    assert "the other 4 stand under" in text


def test_every_tested_claim_is_in_one_line(tmp_path: Path) -> None:
    scores(tmp_path)
    like = {
        "paper": "2510.23818", "source": "s", "hand": "first", "measurement": "score", "against": "lora",
        "direction": "superior", "tolerance": 0, "unit": "points", "why": "w",
        "test": "paired seeds and items",
    }  # fmt: skip
    methods = ("scalora", "full", "rslora", "hira")
    made = [Claim(id=name, sentence=f"It is {name}.", method=name, **like) for name in methods]
    text = brief(tmp_path, claims=made)
    assert "Of 3 claims that these runs can test" in answer(text, "What holds of the papers.")
    lines = [line for line in text.splitlines() if line.startswith("  - ")]
    assert [line.split(":")[0][4:] for line in lines] == [
        "1 held wherever tested",
        "1 failed in some settings, and held in none",
        "1 stayed open, for too few seeds or items or for want of a difference",
    ]
    assert [re.findall(r"\(#claim-(\w+)\)", line) for line in lines] == [["scalora"], ["full"], ["rslora"]]
    assert "These runs test none" in answer(brief(tmp_path, claims=made[3:]), "What holds of the papers.")


def test_however_a_claims_settings_came_out_one_line_has_it() -> None:
    made = load_claims()[0]
    for count in range(1, len(JUDGED) + 1):
        for outcomes in itertools.combinations(JUDGED, count):
            verdicts = [Verdict(made, outcome, where="movie") for outcome in outcomes]
            told: Any = SimpleNamespace(judges_papers=True, verdicts=verdicts)
            (text,) = in_brief.claims(told)
            _, *lines = text.splitlines()
            assert len(lines) == 1, outcomes
            assert ("no difference that matters" in lines[0]) is (
                Outcome.EQUIVALENT in outcomes
                and Outcome.NOT_REPRODUCED not in outcomes
                and {*outcomes} != {Outcome.REPRODUCED, Outcome.EQUIVALENT, Outcome.UNDERPOWERED}
            )


def test_every_link_of_a_report_leads_to_its_evidence(laptop: Path, tmp_path: Path) -> None:
    folders = [save(tmp_path / "cost", overhead_record({"lora": [1.0], "full": [2.0]}))]
    folders.append(save(tmp_path / "failed", FailureRecord(**FAILED, adapter="lora", seed=0, reason="x")))
    folders.append(save(tmp_path / "alone", run_record("movie", "dora", 0, curve=curve([1.0]))))
    for report in [laptop / "report.md", *map(reports.write, folders)]:
        text = report.read_text(encoding="utf-8")
        links = set(re.findall(r"\]\(#([^)]+)\)", text))
        assert links
        assert links <= set(re.findall(r'<a id="([^"]+)"></a>', text)), report


def test_a_single_claim_is_one_claim(tmp_path: Path) -> None:
    fields = {
        "paper": "1", "source": "s", "hand": "first", "measurement": "score", "method": "scalora",
        "against": "lora", "direction": "superior", "tolerance": 0, "unit": "points", "why": "w",
        "test": "paired seeds and items",
    }  # fmt: skip
    text = brief(scores(tmp_path), claims=[Claim(id="made", sentence="It is.", **fields)])
    assert "Of one claim that these runs can test" in answer(text, "What holds of the papers.")


def test_the_baseline_is_named_only_where_it_ran_beside_another(tmp_path: Path) -> None:
    alone = save(tmp_path / "alone", *(run_record("movie", "dora", seed) for seed in range(2)))
    failed = save(tmp_path / "failed", FailureRecord(**FAILED, adapter="lora", seed=0, reason="x"))
    loops = save(tmp_path / "loops", overhead_record({"rankbench": [1.0], "trainer": [2.0]}, name="loop"))
    costs = save(tmp_path / "costs", overhead_record({"lora": [1.0], "scalora": [2.0]}))
    said = [brief(folder).splitlines()[2] for folder in (alone, failed, loops)]
    assert not any("set beside `lora`" in each or "cost is set beside" in each for each in said)
    assert "Each method's cost is set beside that of `lora`." in brief(costs)
    save(alone, *(run_record("amazon", name, seed) for name in ("lora", "dora") for seed in range(2)))
    assert "All are set beside `lora` where that ran." in brief(alone)


def test_brackets_are_explained_where_there_are_some(tmp_path: Path) -> None:
    one_seed = [run_record("movie", label, 0) for label in ("lora", "dora")]
    assert "[brackets]" not in brief(save(tmp_path / "none", *one_seed))
    assert "Numbers in [brackets] are" in brief(scores(tmp_path / "some"))
    seconds = {"lora": [[1.0], [1.0], [1.0]], "dora": [[1.5], [1.6], [1.55]]}
    assert "Numbers in [brackets] are" in brief(save(tmp_path / "costs", overhead_record(seconds)))


def test_the_caution_of_one_process_is_said_once(tmp_path: Path) -> None:
    record = overhead_record({"lora": [1.0], "scalora": [2.0]}, peak_resident={"lora": 8.0, "scalora": 9.0})
    text = brief(save(tmp_path, record))
    assert answer(text, "What memory it takes.")
    assert text.count("there is no evidence of a difference") == 1


def test_several_that_cannot_be_told_apart_are_a_range(tmp_path: Path) -> None:
    for label, gains in {"lora": [0, 0, 0], "dora": [1, -2, 1.5], "hira": [2, -4, 3]}.items():
        for seed, gain in enumerate(gains):
            save(tmp_path, run_record("movie", label, seed, metrics=accuracy(0.8 + gain / 100)))
    ends = [
        max(map(abs, stats.t.interval(1 - 0.05 / 2, 2, np.mean(gains), stats.sem(gains))))
        for gains in ([1, -2, 1.5], [2, -4, 3])
    ]
    told = answer(brief(tmp_path), "What cannot be told apart.")
    assert f"by {ends[0]:.2f} to {ends[1]:.2f} points on movie" in told


def test_letters_of_protocols_are_explained(tmp_path: Path) -> None:
    scores(tmp_path)
    assert "A letter after" not in brief(tmp_path)
    save(tmp_path, run_record("movie", "dora", 0, protocol={"length": 8}))
    assert "A letter after a task's name tells its protocols apart" in brief(tmp_path)


def test_protocols_have_letters_however_many_they_are(tmp_path: Path) -> None:
    for length in range(28):
        save(tmp_path, run_record("movie", f"lora-{length}", 0, protocol={"length": length}))
    letters = [group.letter for group in load(tmp_path).groups]
    assert letters[:2] == ["A", "B"]
    assert letters[25:] == ["Z", "AA", "AB"]


def test_a_chosen_trial_is_called_by_its_method(tmp_path: Path) -> None:
    for method in ("lora", "dora"):
        for rate in (0.001, 0.002):
            seen = [Observation(step=5, selection=rate)]
            grid = {"method": method, "point": {"learning_rate": rate}}
            save(tmp_path, run_record("movie", f"{method}-{rate}", 0, observations=seen, **grid))
    told = markdown.section(leaderboard.section(Study(load(tmp_path)))).partition("What the data tell")[2]
    assert "| dora (unknown: one seed to compare by" in told
    assert "dora-0.002" not in told
