"""Which trials are due, what follows from those that ended, and what goes into the final runs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from rankbench.bench.records import Folders
from rankbench.bench.suite import ConfigError, RunSpec, Suite, plan
from rankbench.bench.suite.tuning import Span
from rankbench.bench.tune import next_trials, settled, trial_rounds, trials
from rankbench.bench.tune.draw import point, sequence
from tests.tune.made_trials import Loss, end, experiment, suite_of


def bowl(spec: RunSpec) -> float:
    """Best at a rate of 1e-3, inside of the range."""
    return abs(math.log10(spec.adapter.point["learning_rate"] / 1e-3))


def steep(spec: RunSpec) -> float:
    """Best at the highest rate of all, for rslora alone."""
    return -math.log(spec.adapter.point["learning_rate"]) if "rslora" in spec.label else bowl(spec)


def through(suite: Suite, folders: Folders, loss: Loss) -> list[list[RunSpec]]:
    """Every round of a suite's trials, ended by this loss."""
    rounds = []
    for specs in trial_rounds(suite, folders):
        end(specs, folders, loss)
        rounds.append(specs)
    return rounds


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "results" / "mine")


def test_trials_are_runs_of_their_own_on_the_selection_split(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    trials, finals = next_trials(suite, folders), list(plan(suite))
    assert [spec.cell for spec in trials][:3] == [
        "one-trials--lora-t00--s1000", "one-trials--rslora-t00--s1000", "one-trials--lora-t01--s1000",
    ]  # fmt: skip
    assert len(trials) == 8
    for spec in trials:
        assert (spec.scored_on, spec.adapter.method) == ("selection", spec.label.rpartition("-t")[0])
        assert spec.adapter.point == {"learning_rate": spec.adapter.learning_rate}
        same = ("suite", "task", "model", "targets", "training")
        assert all(getattr(spec, key) == getattr(finals[0], key) for key in same)


def test_the_best_of_each_method_goes_into_its_final_runs(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    (trials,) = through(suite, folders, bowl)
    finals = list(plan(settled(suite, folders)))
    assert [spec.cell for spec in finals] == [spec.cell for spec in plan(suite)]
    for spec in finals:
        own = [trial for trial in trials if trial.adapter.method == spec.label]
        assert spec.adapter.learning_rate == min(own, key=bowl).adapter.learning_rate
        assert spec.adapter.tuned
        assert len(spec.adapter.chosen_by) == 4
        assert spec.scored_on == "test"


def test_what_an_entry_sets_itself_is_not_drawn(tmp_path, folders):
    adapters = {"scalora": {"rank": 2, "smoothness": 50}, "lora": {"learning_rate": 2e-3}}
    space = {"smoothness": [10, 1000, "log"], "learning_rate": [1e-3, 1e-2, "log"]}
    both = {**adapters, "scalora-nnls": {"rank": 2}}
    suite = suite_of(tmp_path, one=experiment(adapters=both, tune={"trials": 4, "space": space}))
    drawn = {spec.adapter.method: set(spec.adapter.point) for spec in next_trials(suite, folders)}
    assert drawn == {"scalora": {"learning_rate"}, "scalora-nnls": {"learning_rate", "smoothness"}}
    through(suite, folders, bowl)
    final = {spec.label: spec.adapter for spec in plan(settled(suite, folders))}
    assert (final["lora"].learning_rate, final["lora"].tuned) == (2e-3, False)
    assert final["scalora"].hyperparameters == {"rank": 2, "smoothness": 50}


def test_a_best_at_an_edge_gives_every_method_the_same_further_trials(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    first, second = through(suite, folders, steep)
    assert [len(first), len(second)] == [8, 4]
    rates = {spec.label: spec.adapter.learning_rate for spec in second}
    assert list(rates) == ["lora-t04", "rslora-t04", "lora-t05", "rslora-t05"]
    assert all(1e-2 <= rates[label] <= 1e-1 for label in rates if label.startswith("rslora"))
    assert all(1e-4 <= rates[label] <= 1e-2 for label in rates if label.startswith("lora"))
    final = {spec.label: spec.adapter.learning_rate for spec in plan(settled(suite, folders))}
    assert final["rslora"] == max(rate for label, rate in rates.items() if label.startswith("rslora"))


def test_a_space_grows_as_often_as_the_suite_says(tmp_path, folders):
    for widen, rounds in ((0, 1), (2, 3)):
        place = Folders(folders.root / str(widen))
        suite = suite_of(tmp_path, one=experiment(tune={"trials": 4, "widen": widen}))
        assert len(through(suite, place, steep)) == rounds


def test_who_is_not_at_the_edge_goes_on_in_its_own_space(tmp_path, folders):
    """Lora's further points are those that a longer first round would have had."""
    _, second = through(suite_of(tmp_path, one=experiment()), folders, steep)
    longer = next_trials(suite_of(tmp_path, one=experiment(tune={"trials": 8})), Folders(tmp_path))
    points = {spec.label: spec.adapter.point for spec in longer}
    assert all(points[spec.label] == spec.adapter.point for spec in second if spec.label < "m")


def test_who_has_grown_once_goes_on_in_the_whole_of_its_space(tmp_path, folders):
    """And not in the part alone that was added: its best lies within now."""

    def loss(spec: RunSpec) -> float:
        rate = spec.adapter.point["learning_rate"]
        return -math.log(rate) if "rslora" in spec.label else abs(math.log10(rate / 0.02))

    suite = suite_of(tmp_path, one=experiment(tune={"trials": 8, "widen": 2}))
    rounds = through(suite, folders, loss)
    rates = [
        [spec.adapter.point["learning_rate"] for spec in specs if spec.label.startswith("lora")]
        for specs in rounds
    ]
    assert len(rates) == 3
    assert max(rates[0]) <= 0.01 < min(rates[1])
    assert min(rates[2]) < 0.01


PRUNED = {
    "adapters": {"lora2": {"learning_rate": 1e-3, "orthogonality": 0.1}, "lora": {"rank": 2}},
    "tune": {"trials": 8, "space": {"rank": [2, 8], "target_rank": [2, 8]}},
}
"""LoRA² takes both ends of both ranges, and refuses a target above its rank."""


def test_points_that_an_adapter_refuses_are_passed_over(tmp_path, folders):
    """And every method has as many trials, of the points that come next."""
    suite = suite_of(tmp_path, one=experiment(**PRUNED))
    drawn = [spec.adapter.point for spec in next_trials(suite, folders) if spec.adapter.method == "lora2"]
    ends = {"rank": Span(low=2, high=8, whole=True), "target_rank": Span(low=2, high=8, whole=True)}
    points = [point(ends, place) for place in itertools.islice(sequence(2, "one", "lora2", 1000), 30)]
    assert drawn == [one for one in points if one["target_rank"] <= one["rank"]][:8] != points[:8]


def test_what_is_added_to_one_range_goes_with_what_another_one_has(tmp_path, folders):
    space = {"rank": [4, 8], "target_rank": [1, 4]}
    suite = suite_of(tmp_path, one=experiment(**PRUNED | {"tune": {"trials": 12, "space": space}}))
    rounds = through(suite, folders, lambda spec: -sum(spec.adapter.point.values()))
    second = [spec.adapter.point for spec in rounds[1] if spec.adapter.method == "lora2"]
    assert len(second) == 6
    assert any(one["target_rank"] > 4 for one in second)
    assert all(one["target_rank"] <= one["rank"] for one in second)


def test_ranges_of_which_an_adapter_takes_no_point_are_refused(tmp_path, folders, monkeypatch):
    suite = suite_of(tmp_path, one=experiment())
    monkeypatch.setattr(trials, "refused", lambda spec, point, steps: "too late")
    with pytest.raises(ConfigError, match=r"tune: lora refuses 1000 points in a row, .*: too late; give"):
        next_trials(suite, folders)


def test_a_killed_search_goes_on_where_it_was(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    whole = [spec.cell for specs in through(suite, Folders(folders.root / "whole"), steep) for spec in specs]
    done = []
    while due := next_trials(suite, folders):
        end(due[:1], folders, steep)  # killed after every single trial
        done.append(due[0].cell)
    assert sorted(done) == sorted(whole)
    assert settled(suite, folders) == settled(suite, Folders(folders.root / "whole"))


def test_another_trial_is_due_where_what_it_is_made_from_changed(tmp_path, folders):
    through(suite_of(tmp_path, one=experiment()), folders, bowl)
    longer = experiment(training={"steps": 9, "batch_size": 4, "learning_rate": 1e-3})
    assert len(next_trials(suite_of(tmp_path, one=longer), folders)) == 8
    adapters = {"lora": {"rank": 2}, "rslora": {"rank": 3}}
    changed = next_trials(suite_of(tmp_path, one=experiment(adapters=adapters)), folders)
    assert {spec.adapter.method for spec in changed} == {"rslora"}


def test_a_trial_over_narrow_weights_is_none_over_whole_ones(tmp_path, folders):
    """Only narrow weights are named in an identity: a suite that drops them says less, and another thing."""
    narrow = suite_of(tmp_path, one=experiment(model={"name": "tiny-bert", "weights": "bfloat16"}))
    through(narrow, folders, bowl)
    assert not next_trials(narrow, folders)
    assert len(next_trials(suite_of(tmp_path, one=experiment()), folders)) == 8


def test_a_trial_of_one_revision_of_a_model_is_none_of_another(tmp_path, folders):
    """An identity names it by the weights, which trials are not told apart by."""
    old, new = ({"name": "owner/name", "revision": digit * 40} for digit in "01")
    through(suite_of(tmp_path, one=experiment(model=old)), folders, bowl)
    assert not next_trials(suite_of(tmp_path, one=experiment(model=old)), folders)
    assert len(next_trials(suite_of(tmp_path, one=experiment(model=new)), folders)) == 8


def test_a_trial_on_a_folder_is_none_once_its_weights_are_others(tmp_path, folders):
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text("{}")
    (own / "model.safetensors").write_bytes(b"first")
    suite = suite_of(tmp_path, one=experiment(model=str(own)))
    through(suite, folders, bowl)
    settled(suite, folders)
    (tmp_path / "mine.choices.yaml").write_bytes(folders.choices.read_bytes())
    fresh = Folders(tmp_path / "fresh" / "mine")
    assert not next_trials(suite, fresh)
    (own / "model.safetensors").write_bytes(b"other")
    assert len(next_trials(suite, fresh)) == 8
    assert len(next_trials(suite, folders)) == 8


def test_what_diverged_is_never_chosen_and_ends_its_trial(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment(tune={"trials": 4, "widen": 0}))

    def loss(spec: RunSpec) -> float | str:
        return "diverged" if spec.adapter.point["learning_rate"] > 1e-3 else steep(spec)

    (trials,) = through(suite, folders, loss)
    rates = [spec.adapter.learning_rate for spec in trials if spec.adapter.method == "rslora"]
    final = {spec.label: spec.adapter.learning_rate for spec in plan(settled(suite, folders))}
    assert final["rslora"] == max(rate for rate in rates if rate <= 1e-3)
    assert next_trials(suite, folders) == []
    failed = [spec for specs in trial_rounds(suite, folders) for spec in specs]
    assert {spec.cell for spec in failed} == {path.stem for path in folders.root.glob("failed/*.json")}


def test_an_entry_without_a_finished_trial_is_left_out_and_said(tmp_path, folders, capsys):
    suite = suite_of(tmp_path, one=experiment())
    through(suite, folders, lambda spec: "diverged" if spec.adapter.method == "rslora" else bowl(spec))
    assert {spec.label for spec in plan(settled(suite, folders))} == {"lora"}
    assert "one: no trial of rslora has finished" in capsys.readouterr().err


def test_an_experiment_without_a_finished_trial_is_refused(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    through(suite, folders, lambda spec: "diverged")
    message = r"no trial of lora, rslora has finished .*; give other ranges .* or mend what"
    with pytest.raises(ConfigError, match=message):
        settled(suite, folders)


def test_nothing_is_chosen_before_all_trials_have_ended(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    end(next_trials(suite, folders)[1:], folders, bowl)
    with pytest.raises(ConfigError, match="one: trials still to be done: 1; `rankbench tune` does them"):
        settled(suite, folders)


def test_what_failed_for_want_of_memory_is_tried_once_a_command(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())

    def loss(spec: RunSpec) -> float | str:
        return "memory" if spec.label == "rslora-t03" else bowl(spec)

    assert [len(specs) for specs in through(suite, folders, loss)][:1] == [8]
    settled(suite, folders)
    assert [spec.label for spec in next_trials(suite, folders)] == ["rslora-t03"]
    (again,) = through(suite, folders, bowl)
    assert [spec.label for spec in again] == ["rslora-t03"]


def test_halving_gives_every_method_the_same_rungs(tmp_path, folders):
    tune = {"trials": 4, "widen": 0, "halving": {"rungs": 2}}
    rounds = through(suite_of(tmp_path, one=experiment(tune=tune)), folders, bowl)
    assert [[spec.training.steps for spec in specs] for specs in rounds] == [[2] * 8, [4] * 4, [8] * 2]
    assert {spec.label for spec in rounds[0] if "t00" in spec.label} == {"lora-t00-r0", "rslora-t00-r0"}
    for shorter, longer in itertools.pairwise(rounds):
        for method in ("lora", "rslora"):
            own = sorted((spec for spec in shorter if spec.adapter.method == method), key=bowl)
            best = [spec.adapter.point for spec in own[: len(own) // 2]]
            assert [spec.adapter.point for spec in longer if spec.adapter.method == method] == best
    assert all(spec.label[-3] == "t" for spec in rounds[-1])


def test_of_equals_the_first_is_best_however_shorter_trials_ranked_them(tmp_path, folders):
    tune = {"trials": 4, "widen": 0, "halving": {"rungs": 1}}
    suite = suite_of(tmp_path, one=experiment(tune=tune))
    rounds = through(suite, folders, lambda spec: 1.0 if spec.training.steps == 8 else -int(spec.label[-4]))
    assert [spec.label for spec in rounds[1]] == ["lora-t03", "rslora-t03", "lora-t02", "rslora-t02"]
    third = {spec.label.removesuffix("-t02"): spec.adapter.learning_rate for spec in rounds[1][2:]}
    assert {spec.label: spec.adapter.learning_rate for spec in plan(settled(suite, folders))} == third
