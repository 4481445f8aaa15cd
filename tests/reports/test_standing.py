"""Means with intervals and tied groups, from predictions or from seeds alone."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from rankbench.bench.records import Metrics, RecordError
from rankbench.reports.frames import load
from rankbench.reports.render import markdown
from rankbench.reports.sections import leaderboard
from rankbench.reports.stats import standing
from rankbench.reports.stats.sequential import Staged, judged
from rankbench.reports.stats.standing import Against, Told, basis, tell
from rankbench.reports.study import Study
from rankbench.tasks.text.measure import measure
from tests.made_items import answers, save_answers, save_scored
from tests.made_records import accuracy, run_record, save


def group_of(folder):
    (group,) = load(folder).groups
    return group


def told_of(folder):
    group = group_of(folder)
    return tell(basis(group).against(group.baseline))


def standings(folder):
    return standing.standings(group_of(folder), told_of(folder))


def board(folder):
    return markdown.section(leaderboard.section(Study.read(folder)))


def by_seeds(folder, **scores):
    for adapter, values in scores.items():
        for seed, value in enumerate(values):
            save(folder, run_record("movie", adapter, seed, metrics=accuracy(value)))
    return standings(folder)


def named(main, value, lower=False):
    return Metrics(
        main=main, lower_is_better=lower, best={main: value}, last={main: value}, best_step=1, last_step=1
    )


def test_without_predictions_the_interval_is_students_over_seeds(tmp_path):
    found = by_seeds(tmp_path, lora=[0.80, 0.83, 0.79, 0.81])["lora"]
    values = np.array([0.80, 0.83, 0.79, 0.81])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert (found.n, found.beside) == (4, None)


def test_one_seed_has_no_interval_and_tells_nothing(tmp_path):
    found = by_seeds(tmp_path, lora=[0.8], scalora=[0.9])
    for one in found.values():
        assert (one.low, one.high, one.n, one.beside) == (None, None, 1, None)
    assert told_of(tmp_path).unjudged == {"scalora": "one seed to compare by; a spread needs two"}


def test_an_interval_ends_where_scores_do(tmp_path):
    assert by_seeds(tmp_path, lora=[0.99, 0.90])["lora"].high == 1.0
    for seed, value in enumerate((0.001, 0.1)):
        save(tmp_path, run_record("movie", "lora", seed, metrics=named("mse", value, lower=True)))
    assert standings(tmp_path)["lora"].low == 0.0


def test_an_interval_that_spans_the_metric_is_none(tmp_path):
    for seed, value in enumerate((0.0, 0.5)):
        save(tmp_path, run_record("movie", "lora", seed, metrics=named("pearson", value)))
    found = standings(tmp_path)["lora"]
    assert (found.mean, found.low, found.high) == (0.25, None, None)


def test_only_a_planted_difference_is_marked(tmp_path):
    generator = np.random.default_rng(0)
    easiness = generator.standard_normal(400)
    for adapter, gain in (("lora", 0.0), ("rslora", 0.0), ("scalora", 1.0), ("full", -1.0)):
        save_answers(tmp_path, adapter, answers(generator, easiness + gain, 5, luck=0.05))
    found = {adapter: one.beside for adapter, one in standings(tmp_path).items()}
    assert found == {"lora": None, "rslora": None, "scalora": "above", "full": "below"}
    told = told_of(tmp_path)
    assert (told.above, told.below, [*told.open]) == (["scalora"], ["full"], ["rslora"])
    text = board(tmp_path)
    rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    assert [cells[1].strip() for cells in rows if "**" in cells[2]] == ["scalora"]


def test_how_far_methods_may_be_apart_is_the_simultaneous_interval(tmp_path):
    """Two gains over three seeds, against Student's t at 1 - 5 % / 2."""
    values = {"lora": [0.80, 0.83, 0.79], "scalora": [0.81, 0.83, 0.80], "rslora": [0.80, 0.82, 0.80]}
    by_seeds(tmp_path, **values)
    told = told_of(tmp_path)
    assert set(told.open) == {"scalora", "rslora"}
    ends = []
    for label in told.open:
        gains = np.array(values[label]) - np.array(values["lora"])
        ends += stats.t.interval(1 - 0.05 / 2, 2, gains.mean(), stats.sem(gains))
    assert list(told.open.values()) == pytest.approx(np.abs(ends).reshape(2, 2).max(axis=1))
    shown = ", ".join(f"{label} ({100 * size:.2f})" for label, size in told.open.items())
    assert shown in board(tmp_path)


def test_without_an_entry_called_lora_it_is_known_by_its_adapter(tmp_path):
    for label, name, values in (("b-r8", "lora", (0.5, 0.52, 0.51)), ("lora-all", "full", (0.8, 0.81, 0.83))):
        for seed, value in enumerate(values):
            config = {"adapter": {"name": name}}
            save(tmp_path, run_record("movie", label, seed, config=config, metrics=accuracy(value)))
    group = group_of(tmp_path)
    assert group.baseline == "b-r8"
    assert standings(tmp_path)["lora-all"].beside == "above"


def test_without_lora_nothing_is_marked_and_that_is_said(tmp_path):
    found = by_seeds(tmp_path, scalora=[0.8, 0.9, 0.85], full=[0.1, 0.2, 0.3])
    assert {one.beside for one in found.values()} == {None}
    assert "No lora to compare with on movie; nothing is marked there." in board(tmp_path)


def test_seeds_that_are_not_shared_tell_nothing(tmp_path):
    for seed in range(3):
        save(tmp_path, run_record("movie", "lora", seed, metrics=accuracy(0.8 + seed / 50)))
        save(tmp_path, run_record("movie", "full", 10 + seed, metrics=accuracy(0.9 + seed / 50)))
    assert told_of(tmp_path).unjudged == {"full": "no seed to compare by; a spread needs two"}


def test_smaller_errors_are_better(tmp_path):
    for seed in range(4):
        for adapter, error in (("lora", 0.9), ("scalora", 0.1)):
            value = error + 0.01 * (seed * (1 + (adapter == "lora")) % 3)
            save(tmp_path, run_record("movie", adapter, seed, metrics=named("mse", value, lower=True)))
    assert standings(tmp_path)["scalora"].beside == "above"


def test_differences_all_alike_are_not_judged(tmp_path):
    by_seeds(tmp_path, lora=[0.80, 0.82], scalora=[0.85, 0.87])
    (reason,) = told_of(tmp_path).unjudged.values()
    assert reason == "the difference is the same in all 2 seeds, so its spread is unknown"


def test_intervals_over_seeds_and_items_cover_the_truth(tmp_path):
    """95 %, give or take four standard deviations of 300 rounds; over seeds alone 82 % cover it."""
    generator = np.random.default_rng(1)
    truth = stats.norm.cdf(0.5 / math.sqrt(1 + 1 + 0.05**2))
    covered, rounds = 0, 300
    for _ in range(rounds):
        easiness = 0.5 + generator.standard_normal(120)
        table = answers(generator, easiness, 4, luck=0.05)
        group = GroupOf({"lora": dict(enumerate(table.astype(np.float64)))})
        found = standing.standings(group, Told())["lora"]
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / rounds <= 0.99
    save_answers(tmp_path, "lora", table)
    assert standings(tmp_path)["lora"] == found


class GroupOf:
    """Scores without the records behind them: three hundred folders would take a minute."""

    lower_is_better = False
    scale = accuracy(0.5).scale
    baseline = "lora"

    def __init__(self, scores):
        self.scores = scores


def pearson(x, y):
    return stats.pearsonr(x, y).statistic


@pytest.mark.parametrize(
    ("main", "classes"), [("pearson", 0), *(("matthews_correlation", n) for n in (2, 3, 5))]
)
def test_correlations_are_split_over_items(tmp_path, main, classes):
    generator = np.random.default_rng(2)
    items = 300
    target = generator.standard_normal(items)
    prediction = 0.7 * target + 0.5 * generator.standard_normal(items)
    score = pearson
    if main == "matthews_correlation":
        borders = [0.5, -0.5, 0.0, 1.0][: classes - 1]  # three classes whose numbers do not go by size
        target, prediction = (sum(values > border for border in borders) for values in (target, prediction))
        target, prediction = (np.array([1, 0, 2, 4, 3])[values] for values in (target, prediction))
        score = metrics.matthews_corrcoef
    frame = pd.DataFrame({"item": [str(i) for i in range(items)], "target": target, "prediction": prediction})
    for seed in range(2):
        save_scored(tmp_path, "lora", seed, frame, named(main, float(score(target, prediction))))
    parts = group_of(tmp_path).scores["lora"][0]
    assert parts.mean() == pytest.approx(score(target, prediction))
    drawn = [generator.integers(items, size=items) for _ in range(400)]
    error = np.std([score(target[rows], prediction[rows]) for rows in drawn])
    assert parts.std() / math.sqrt(items) == pytest.approx(error, rel=0.12)


def test_a_correlation_near_0_is_its_items(tmp_path):
    """Encoder tasks measure on targets in single precision, of which predictions have more digits."""
    target = np.random.default_rng(3).integers(0, 26, 400) / 5
    noise = np.random.default_rng(4).standard_normal(400)
    said = (1 + 1e-3 * (noise - stats.linregress(target, noise).slope * target)).astype(np.float32)
    score = measure(["pearson"], target.tolist(), said.tolist())["pearson"]
    assert abs(score) < 1e-5
    frame = pd.DataFrame({"item": [str(i) for i in range(400)], "target": target, "prediction": said})
    save_scored(tmp_path, "lora", 0, frame, named("pearson", score))
    assert group_of(tmp_path).scores["lora"][0].mean() == pytest.approx(score, abs=1e-7)


def test_a_correlation_of_other_predictions_is_refused(tmp_path):
    target, said = np.random.default_rng(3).standard_normal((2, 400))
    frame = pd.DataFrame({"item": [str(i) for i in range(400)], "target": target, "prediction": said + 2})
    save_scored(tmp_path, "lora", 0, frame, named("pearson", float(pearson(target, said)) + 1e-4))
    with pytest.raises(RecordError, match="delete both"):
        _ = group_of(tmp_path).scores


def test_a_constant_prediction_scores_nothing_on_any_items(tmp_path):
    frame = pd.DataFrame({"item": ["a", "b", "c"], "target": [0, 1, 1], "prediction": [1, 1, 1]})
    save_scored(tmp_path, "lora", 0, frame, named("matthews_correlation", 0.0))
    assert group_of(tmp_path).scores["lora"][0].tolist() == [0.0, 0.0, 0.0]


def test_scores_and_squared_errors_are_read_as_they_are(tmp_path):
    scored = pd.DataFrame({"item": ["a", "b"], "prediction": ["x", "y"], "score": [1.0, 0.0]})
    save_scored(tmp_path / "lm", "lora", 0, scored, named("exact_match", 0.5))
    assert group_of(tmp_path / "lm").scores["lora"][0].tolist() == [1.0, 0.0]
    errors = pd.DataFrame({"item": ["a", "b"], "squared_error": [0.1, 0.3]})
    save_scored(tmp_path / "mse", "lora", 0, errors, named("mse", 0.2, lower=True))
    assert group_of(tmp_path / "mse").scores["lora"][0].tolist() == [0.1, 0.3]


def test_mnli_is_scored_on_its_matched_items(tmp_path):
    frame = pd.DataFrame(
        {"item": ["matched/1", "matched/2", "mismatched/1"], "target": [0, 1, 2], "prediction": [0, 0, 0]}
    )
    save_scored(tmp_path, "lora", 0, frame, accuracy(0.5))
    assert group_of(tmp_path).scores["lora"][0].tolist() == [1.0, 0.0]


def test_other_items_or_absent_predictions_leave_the_seeds_alone(tmp_path):
    right = np.ones((2, 4), dtype=bool)
    right[0, 0] = False
    save_answers(tmp_path, "lora", right)
    assert group_of(tmp_path).scores["lora"][0].shape == (4,)
    other = pd.DataFrame({"item": ["i9", "i1", "i2", "i3"], "target": [1] * 4, "prediction": [1] * 4})
    save_scored(tmp_path, "scalora", 0, other, accuracy(1.0))
    assert group_of(tmp_path).scores["lora"] == {0: 0.75, 1: 1.0}
    (tmp_path / "runs" / "movie--scalora--0.parquet").unlink()
    assert group_of(tmp_path).scores["scalora"] == {0: 1.0}


def test_predictions_of_another_run_and_broken_files_are_refused(tmp_path):
    save_answers(tmp_path, "lora", np.array([[True, False]]))
    save(
        tmp_path,
        run_record("movie", "lora", 0, metrics=accuracy(0.9), predictions="movie--lora--0.parquet"),
    )
    with pytest.raises(RecordError, match=r"gives accuracy 0\.5, its record 0\.9; delete both"):
        _ = group_of(tmp_path).scores
    (tmp_path / "runs" / "movie--lora--0.parquet").write_bytes(b"not parquet")
    with pytest.raises(RecordError, match=r"cannot read .*delete it with its record"):
        _ = group_of(tmp_path).scores


def test_errors_are_told_apart_by_their_ratio(tmp_path):
    """A tenth of the error on every seed is a gain, however small both are beside a third's."""
    errors = {"lora": (1e-3, 4e-3, 2e-3), "full": (1e-8, 4.1e-8, 1.9e-8), "scalora": (0.8, 0.81, 0.79)}
    for adapter, values in errors.items():
        for seed, value in enumerate(values):
            save(tmp_path, run_record("movie", adapter, seed, metrics=named("mse", value, lower=True)))
    assert {name: one.beside for name, one in standings(tmp_path).items()} == {
        "lora": None, "full": "above", "scalora": "below",
    }  # fmt: skip


def test_a_constant_answer_is_the_commonest_class_and_no_correlation(tmp_path):
    right = np.arange(10) < 7
    save_answers(tmp_path, "lora", right[None])
    group = group_of(tmp_path)
    assert group.constant_score == pytest.approx(0.5), "targets alternate"
    frame = pd.DataFrame({"item": list("abcd"), "target": [1, 1, 1, 0], "prediction": [1, 0, 1, 0]})
    save_scored(tmp_path / "more", "lora", 0, frame, accuracy(0.75))
    assert group_of(tmp_path / "more").constant_score == pytest.approx(0.75)
    save(tmp_path / "mcc", run_record("movie", "lora", 0, metrics=named("matthews_correlation", 0.2)))
    assert group_of(tmp_path / "mcc").constant_score == 0.0
    save(tmp_path / "bare", run_record("movie", "lora", 0))
    assert group_of(tmp_path / "bare").constant_score is None, "without predictions it is not known"


def test_what_a_stage_has_shown_keeps_its_direction():
    """Three seeds gain alike; the next two lose more than these have gained."""
    gains = [1.0, 1.001, 0.999, -2.0, -3.0]
    found = judged(gains, (3, 5, 8))
    assert isinstance(found, Staged)
    assert found.estimate < 0
    assert found.p_value() < 0.05
    told = tell({"other": Against(found, float(found.p_value()))})
    assert (told.above, told.below) == (["other"], [])
