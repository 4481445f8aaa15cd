"""What the first screen says of runs that score no better than a constant answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rankbench.bench.records import Metrics
from tests.made_items import save_answers, save_scored
from tests.made_records import run_record, save
from tests.reports.test_in_brief import answer, brief, scores


def test_nothing_learned_is_said(tmp_path: Path) -> None:
    guesses = np.random.default_rng(0).random((2, 3, 200)) < 0.5
    for label, right in zip(("lora", "scalora"), guesses, strict=True):
        save_answers(tmp_path, label, right)
    told = answer(brief(tmp_path), "Where nothing was learned.")
    assert "On movie no method is shown to beat a constant answer" in told


@pytest.mark.parametrize(("noise", "learned"), [(0.2, True), (1.1, False)])
def test_nothing_learned_is_said_of_errors_too(tmp_path: Path, noise: float, learned: bool) -> None:
    errors(tmp_path, dict.fromkeys(("lora", "scalora"), (noise,) * 3))
    assert ("no method is shown to beat a constant answer" not in brief(tmp_path)) == learned


def test_a_score_of_one_seed_beyond_it_is_something_learned(tmp_path: Path) -> None:
    correlation = {"main": "matthews_correlation", "best_step": 1, "last_step": 1}
    for label, values in (("lora", (0.0, 0.01, -0.01)), ("scalora", (0.55,))):
        for seed, value in enumerate(values):
            best = {"matthews_correlation": value}
            save(
                tmp_path,
                run_record("cola", label, seed, metrics=Metrics(**correlation, best=best, last=best)),
            )
    assert "Where nothing was learned" not in brief(tmp_path)


def errors(folder: Path, noises: dict[str, tuple[float, ...]]) -> None:
    """A run for each noise, whose mean absolute error is 0.8 times that; a constant answer's is 0.8."""
    generator = np.random.default_rng(0)
    target = generator.standard_normal(200)
    for label, of_seeds in noises.items():
        for seed, noise in enumerate(of_seeds):
            prediction = target + noise * generator.standard_normal(200)
            frame = pd.DataFrame(
                {"item": [f"i{i}" for i in range(200)], "target": target, "prediction": prediction}
            )
            frame["score"] = abs(target - prediction)
            name = "sklearn/mean_absolute_error"
            found = {name: float(frame["score"].mean())}
            made = Metrics(main=name, lower_is_better=True, best=found, last=found, best_step=1, last_step=1)
            save_scored(folder, label, seed, frame, made)


CONSTANT = "Which runs score no better than a constant answer."


def test_runs_that_score_as_a_constant_answer_are_named_with_how_many_of_them_there_are(
    tmp_path: Path,
) -> None:
    """The commonest of two classes alike answers half of the items."""
    right = np.arange(200) < np.array([[178], [180], [181]])
    constant = np.arange(200) % 2 == 0
    save_answers(tmp_path, "lora", right)
    save_answers(tmp_path, "scalora", np.array([right[0], constant, right[2]]))
    save_answers(tmp_path, "dora", np.array([constant, ~constant, constant]))
    told = answer(brief(tmp_path), CONSTANT)
    assert told.endswith(f"**{CONSTANT}** On movie every run of `dora` and some of `scalora` (1 of 3).")


def test_errors_of_a_constant_answer_are_those_that_are_no_lower(tmp_path: Path) -> None:
    errors(tmp_path, {"lora": (0.2, 0.21, 0.2), "scalora": (0.2, 1.1, 0.2)})
    assert answer(brief(tmp_path), CONSTANT).endswith("** On movie some of `scalora` (1 of 3).")


def test_where_all_runs_learned_something_none_is_named(tmp_path: Path) -> None:
    save_answers(tmp_path, "lora", np.arange(200) < np.array([[178], [180], [181]]))
    assert CONSTANT not in brief(tmp_path)


def test_a_task_that_taught_nothing_and_one_without_such_an_answer_name_no_runs(tmp_path: Path) -> None:
    save_answers(tmp_path, "lora", np.random.default_rng(0).random((3, 200)) < 0.4)
    text = brief(scores(tmp_path, task="summaries"))
    assert "On movie no method is shown to beat a constant answer" in text
    assert CONSTANT not in text
