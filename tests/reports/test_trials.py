"""Trials of a suite's own: they choose, are drawn and counted as such, and are no results."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from rankbench import reports
from rankbench.bench.records import FailureRecord
from rankbench.reports.compare.judge import compare
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.render.blocks import pictures
from rankbench.reports.render.figure import Points
from rankbench.reports.sections import all_sections, in_brief, introduction, tuning
from rankbench.reports.sections.tuning.trials import METHODS
from rankbench.reports.stats.trials import tunings
from rankbench.reports.study import Study
from tests.made_records import accuracy, run_record, save
from tests.made_trials import RATES, board, chosen, trial

LOSSES = [0.9, 0.7, 0.5, 0.4, 0.6, 0.45]


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """LoRA by six trials and ScaLoRA by four over two hyperparameters, each with two runs."""
    lora = [trial("movie", "lora", number, loss) for number, loss in enumerate(LOSSES)]
    scalora = [
        trial(
            "movie", "scalora", at, 0.3 + 0.1 * at, point={"learning_rate": RATES[at], "smoothness": smooth}
        )
        for at, smooth in enumerate((30, 10, 300, 100))
    ]
    runs = [
        chosen("movie", name, seed, trials, metrics=accuracy(0.8 + 0.01 * seed, nll=0.5))
        for name, trials in (("lora", lora), ("scalora", scalora))
        for seed in range(2)
    ]
    return save(tmp_path, *lora, *scalora, *runs)


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_a_trial_is_no_result(tuned: Path) -> None:
    suite = load(tuned)
    assert [group.name for group in suite.groups] == ["movie"]
    assert {record.seed for record in suite.records} == {0, 1}
    assert (len(suite.tried), {record.seed for record in suite.tried}) == (10, {1000})
    study = Study(suite)
    assert study.shown.labels == ["lora", "scalora"]
    assert {verdict.where for verdict in study.verdicts} <= {"", "movie"}
    for name, section in all_sections(study).items():
        if name not in ("tuning", "times", "protocol"):
            assert "-t0" not in markdown.section(section), name
            assert "movie-trials" not in markdown.section(section), name
    assert "Beside them lie 10 trials" in markdown.section(introduction.section(study))


def test_without_the_trials_everything_else_says_the_same(tuned: Path) -> None:
    def told(folder: Path) -> dict[str, str]:
        return {name: markdown.section(one) for name, one in all_sections(Study.read(folder)).items()}

    before = told(tuned)
    for path in tuned.glob("runs/*-trials--*.json"):
        path.unlink()
    after = told(tuned)
    differing = {name for name in before if before[name] != after.get(name)}
    assert differing == {"in-brief", "introduction", "board", "tuning", "protocol", "times", "provenance"}
    assert "Of movie the settings came chosen with the suite" in after["tuning"]


def test_what_was_tried_chosen_and_used_is_told(tuned: Path) -> None:
    save(tuned, chosen("other", "lora-wide", 0, [trial("movie", "lora", 3, 0.4)]))
    found = tunings(load(tuned))["movie"]
    lora, scalora = found["lora"], found["scalora"]
    assert (lora.best.adapter, lora.best.point) == ("lora-t03", {"learning_rate": 3e-3})
    assert lora.edges == []
    assert lora.into == {("movie", "lora"): 2, ("other", "lora-wide"): 1}
    assert (scalora.best.adapter, scalora.drawn) == ("scalora-t00", ["learning_rate", "smoothness"])
    assert scalora.edges == ["learning_rate"], "the lowest of the rates, and 30 between 10 and 300"
    table = rows(markdown.section(tuning.section(Study.read(tuned))))
    assert table[2] == [
        "lora", "learning rate 0.0001 to 0.008", "learning rate 0.003", "no", "lora-t03",
        "lora (2), other: lora-wide (1)", "6", *(f"{best(LOSSES, k):.4g}" for k in (1, 2, 4, 6)),
    ]  # fmt: skip
    assert table[3][1:5] == [
        "learning rate 0.0001 to 0.003; smoothness 10 to 300",
        "learning rate 0.0001, smoothness 30",
        "learning rate (lowest)",
        "scalora-t00",
    ]


def best(scores: list[float], k: int) -> float:
    return float(np.mean([min(subset) for subset in itertools.combinations(scores, k)]))


def failure(label: str) -> FailureRecord:
    blank = {"suite": "made", "seed": 1000, "fingerprint": "", "provenance": {}, "reason": "loss is NaN"}
    config = {"scored_on": "selection", "adapter": {"name": label.rpartition("-t")[0]}}
    return FailureRecord(task="movie-trials", adapter=label, config=config, **blank)


def test_a_failed_trial_counts_as_the_worst_and_is_no_failed_run(tuned: Path) -> None:
    save(tuned, failure("lora-t06"), failure("lora-wide-t00"))
    study = Study.read(tuned)
    lora = tunings(study.suite)["movie"]["lora"]
    assert (lora.failed, lora.best.adapter) == (1, "lora-t03")
    assert lora.expected == pytest.approx([best([*LOSSES, 0.9], k) for k in range(1, 8)])
    assert "What failed" not in markdown.section(in_brief.section(study))
    assert "by 4 to 7 trials" in markdown.section(in_brief.section(study))


def test_trials_that_were_stopped_early_are_counted_and_not_compared(tuned: Path) -> None:
    short = {"protocol": {"length": 64, "steps": 5}, "steps": 5}
    for number in range(2):
        save(tuned, trial("movie", "lora", number, 0.01, label=f"lora-t0{number}-r0", **short))
    save(tuned, trial("movie", "lora", 9, 0.01, point={"learning_rate": 0.5}, label="lora-t09-r0", **short))
    lora = tunings(load(tuned))["movie"]["lora"]
    assert (len(lora.trials), lora.stopped, lora.best.adapter) == (6, 1, "lora-t03")
    assert lora.expected == pytest.approx([best([*LOSSES, 0.9], k) for k in range(1, 8)])


def test_a_trial_that_failed_after_a_shorter_one_counts_once(tuned: Path) -> None:
    short = {"protocol": {"length": 64, "steps": 5}, "steps": 5}
    save(tuned, trial("movie", "lora", 9, 0.01, point={"learning_rate": 0.5}, label="lora-t09-r0", **short))
    save(tuned, failure("lora-t09"))
    lora = tunings(load(tuned))["movie"]["lora"]
    assert (len(lora.trials), lora.stopped, lora.failed, len(lora.expected)) == (6, 0, 1, 7)


def test_of_equals_the_one_that_was_drawn_first_is_the_best(tmp_path: Path) -> None:
    """As it is chosen, whichever value is the lowest."""
    points = [{"learning_rate": rate} for rate in (9e-3, 1e-4, 1e-3)]
    trials = [trial("movie", "lora", at, 0.25, point=point) for at, point in enumerate(points)]
    lora = tunings(load(save(tmp_path, *trials)))["movie"]["lora"]
    assert lora.best.adapter == "lora-t00"


def test_trials_of_before_the_suite_was_changed_count_no_more(tuned: Path) -> None:
    """They lie there still: longer ones, those of another length of texts or another rank, and those of more
    trials."""
    save(tuned, *(trial("movie", "lora", number, 0.01, steps=20) for number in (8, 9)))
    save(tuned, trial("movie", "lora", 10, 0.01))
    other = trial("movie", "lora", 11, 0.95)
    save(tuned, other.model_copy(update={"config": other.config | {"task": {"max_length": 9}}}))
    wide = failure("lora-t12")
    save(tuned, wide.model_copy(update={"config": wide.config | {"adapter": {"name": "lora", "rank": 8}}}))
    lora = tunings(load(tuned))["movie"]["lora"]
    assert (len(lora.trials), lora.best.adapter, lora.stopped, lora.failed) == (6, "lora-t03", 0, 0)
    assert lora.into == {("movie", "lora"): 2}


def test_trials_that_the_runs_do_not_name_count_no_more(tuned: Path) -> None:
    """A suite had eight, and has six now: what is left of them would make its effort look unequal. Where it
    has more, `rankbench run` writes them into the records of the runs."""
    save(tuned, trial("movie", "lora", 6, 0.95), trial("movie", "lora", 7, 0.96))
    assert len(tunings(load(tuned))["movie"]["lora"].trials) == 6


def test_a_shorter_trial_is_never_the_best(tmp_path: Path) -> None:
    short = {"protocol": {"length": 64, "steps": 5}, "steps": 5}
    trials = [trial("movie", "lora", at, 0.1, label=f"lora-t{at:02d}-r0", **short) for at in (0, 1, 100)]
    save(tmp_path, *trials, trial("movie", "scalora", 0, 0.5))
    assert [*tunings(load(tmp_path))["movie"]] == ["scalora"]


def test_an_edge_is_one_of_all_that_was_drawn(tmp_path: Path) -> None:
    """Of two trials of full length each is the lowest or the highest; others were stopped, or failed."""
    short = {"protocol": {"length": 64, "steps": 5}, "steps": 5}
    rates = [1e-3, 2e-3, 1e-4, 8e-3]
    shorter = [
        trial("movie", "lora", at, 0.5, point={"learning_rate": rate}, label=f"lora-t0{at}-r0", **short)
        for at, rate in enumerate(rates)
    ]
    whole = [
        trial("movie", "lora", at, 0.4 - 0.1 * at, point={"learning_rate": rates[at]}) for at in range(2)
    ]
    save(tmp_path, *shorter, *whole)
    study = Study.read(tmp_path)
    lora = tunings(study.suite)["movie"]["lora"]
    assert (lora.edges, lora.ends("learning_rate")) == ([], (1e-4, 8e-3))
    told = markdown.section(in_brief.section(study))
    assert "by 4 trials, 2 of all of which were stopped early, on a slice" in told
    save(tmp_path, *(trial("movie", "scalora", at, 0.4 - 0.1 * at) for at in range(2)))
    scalora = tunings(load(tmp_path))["movie"]["scalora"]
    assert scalora.edges == ["learning_rate"]
    failed = failure("scalora-t02")
    save(tmp_path, failed.model_copy(update={"config": failed.config | {"learning_rate": 8e-3}}))
    assert tunings(load(tmp_path))["movie"]["scalora"].edges == []


def test_a_range_that_grew_is_told(tuned: Path) -> None:
    assert "ranges grown" not in rows(markdown.section(tuning.section(Study.read(tuned))))[0]
    added = trial("movie", "scalora", 4, 0.7, point={"learning_rate": 3e-5, "smoothness": 50}, widened=1)
    before = tunings(load(tuned))["movie"]["scalora"].trials
    save(tuned, added, *(chosen("movie", "scalora", seed, [*before, added]) for seed in range(2)))
    header, _, lora, scalora = rows(markdown.section(tuning.section(Study.read(tuned))))
    assert [row[header.index("ranges grown")] for row in (lora, scalora)] == ["0", "1"]


def test_a_panel_for_each_hyperparameter_with_the_best_ringed(tuned: Path) -> None:
    (picture,) = pictures([tuning.section(Study.read(tuned))])
    rate, smooth, budget = picture.figure.panels
    assert [panel.x.label for panel in (rate, smooth, budget)] == ["learning rate", "smoothness", "trials k"]
    assert (rate.x.log, smooth.x.log, budget.x.log) == (10, 10, None)
    marks = [mark for mark in rate.marks if isinstance(mark, Points)]
    rings = [(mark.look.name, mark.x[0], mark.y[0]) for mark in marks if not mark.filled]
    assert rings == [("lora", 3e-3, 0.4), ("scalora", 1e-4, 0.3)]
    assert {mark.look.name for mark in smooth.marks} == {"scalora"}
    lora = next(mark for mark in rate.marks if mark.look.name == "lora")
    assert [*lora.x] == sorted(RATES)
    assert lora.joined
    assert not next(mark for mark in rate.marks if mark.look.name == "scalora").joined, (
        "no curve of one of two"
    )


def test_of_many_methods_each_is_drawn_beside_the_baseline(tmp_path: Path) -> None:
    made = tuning.section(Study.read(board(tmp_path, methods=20, seeds=2, trials=3, items=10)))
    drawn = [one for one in pictures([made]) if one.name.startswith("trials-cola--")]
    names = [{mark.look.name for panel in one.figure.panels for mark in panel.marks} for one in drawn]
    assert all("lora" in each and len(each) <= METHODS + 1 for each in names)
    assert len(set().union(*names)) == 20
    assert len({one.figure.panels[0].y.range for one in drawn}) == 1


def test_of_trials_alone_there_is_a_report(tmp_path: Path) -> None:
    save(tmp_path, *(trial("movie", "lora", number, loss) for number, loss in enumerate(LOSSES)))
    text = reports.write(tmp_path).read_text()
    assert "So far 6 trials were run" in text
    assert "best of 6" in text


def test_the_first_screen_names_the_tasks_of_which_there_are_trials_alone(tuned: Path) -> None:
    assert "trials alone" not in reports.write(tuned).read_text()
    save(tuned, *(trial("cola", "lora", number, loss) for number, loss in enumerate(LOSSES)))
    text = reports.write(tuned).read_text()
    assert "Of `cola` there are trials alone so far ([tuning](#tuning))." in text


def test_a_comparison_is_of_results_alone(tuned: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for seed, name in itertools.product(range(2), ("lora", "scalora")):
        save(other, run_record("movie", name, seed, metrics=accuracy(0.8 + 0.01 * seed, nll=0.5)))
    found = compare(load(tuned), load(other))
    assert not found.paired.new
    assert {row.verdict for row in found.rows} == {"identical"}
