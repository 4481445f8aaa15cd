"""What is read out of the records, and in which order it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rankbench.bench.records import Metrics, RecordError, RunRecord
from rankbench.reports import write
from rankbench.reports.frames import Group, load
from rankbench.reports.frames.contender import in_order
from rankbench.reports.study import Study
from tests.made_records import accuracy, overhead_record, run_record, save


def group_of(folder: Path, labels: dict[str, dict[str, Any]]) -> Group:
    for label, fields in labels.items():
        save(folder, run_record("movie", label, 0, **fields))
    (group,) = load(folder).groups
    return group


@pytest.mark.parametrize(
    "labels",
    [
        ("lora", "full", "lora2", "lora-r4", "lora-r64"),
        ("lora", "lora-lr2.5e-05", "lora-lr0.001", "lora-lr0.01", "lora-r8", "lora-r64"),
    ],
)
def test_methods_are_in_the_order_of_the_numbers_in_their_names(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    group = group_of(tmp_path, {label: {} for label in labels[::-1]})
    assert tuple(group.runs) == tuple(in_order(dict(reversed(group.runs.items())))) == labels


def test_methods_stand_by_name_and_the_points_of_a_grid_by_value(tmp_path: Path) -> None:
    """Whatever the labels look like: the last two would sort the other way round."""
    entries: dict[str, dict[str, Any]] = {label: {} for label in ("lora-r64", "lora-r8", "lora", "full")}
    for rate, label in ((1e-2, "a"), (2.5e-5, "b"), (1e-3, "c")):
        entries[label] = {"method": "mine", "point": {"learning_rate": rate}}
    assert list(group_of(tmp_path, entries).runs) == ["lora", "full", "lora-r8", "lora-r64", "b", "c", "a"]


def test_settings_are_those_of_the_adapter_and_its_rate(tmp_path: Path) -> None:
    config = {"adapter": {"name": "rslora", "rank": 4, "alpha": None}, "learning_rate": 0.1}
    one = group_of(tmp_path, {"mine": {"config": config}}).contenders["mine"]
    assert (one.adapter, one.rank, one.settings) == ("rslora", 4, {"rank": 4, "learning_rate": 0.1})


@pytest.mark.parametrize(
    ("labels", "baseline"),
    [
        (("full", "lora"), "lora"),
        (("lora-r64", "lora-r8", "lora"), "lora"),
        (("lora-r64", "lora-r8", "full"), "lora-r8"),
        (("full", "rslora"), None),
    ],
)
def test_the_baseline_is_the_entry_of_its_name_or_else_the_smallest_of_its_adapter(
    tmp_path: Path, labels: tuple[str, ...], baseline: str | None
) -> None:
    ranks = {"lora-r64": 64, "lora-r8": 8}
    entries = {
        label: {"config": {"adapter": {"name": label.partition("-")[0], "rank": ranks.get(label, 16)}}}
        for label in labels
    }
    assert group_of(tmp_path, entries).baseline == baseline


def test_the_baseline_is_the_entry_of_its_name_whatever_its_adapter(tmp_path: Path) -> None:
    adapters = {"dora": {"name": "peft", "config": {"r": 8}}, "dora-r4": {"name": "dora", "rank": 4}}
    entries = {label: {"config": {"adapter": given}, "baseline": "dora"} for label, given in adapters.items()}
    assert group_of(tmp_path, entries).baseline == "dora"


def test_the_suite_says_what_its_methods_are_set_beside(tmp_path: Path) -> None:
    for label, gain in (("lora", 0.0), ("full", 0.1), ("scalora", 0.2)):
        for seed, luck in enumerate((0.0, 0.01, 0.02, 0.03)):
            score = accuracy(0.6 + gain + luck * (1 + gain))
            save(tmp_path, run_record("movie", label, seed, metrics=score, baseline="full"))
    study = Study.read(tmp_path)
    (group,) = study.shown.groups
    assert (study.suite.baseline, group.baseline, study.suite.labels[0]) == ("full", "full", "full")
    assert (study.told[group].above, study.told[group].below) == (["scalora"], ["lora"])


def test_a_suite_without_its_baseline_has_a_leaderboard(tmp_path: Path) -> None:
    for label, value in (("rslora", 0.7), ("scalora", 0.9)):
        for seed in range(3):
            save(tmp_path, run_record("movie", label, seed, metrics=accuracy(value + seed / 100)))
    study = Study.read(tmp_path)
    (group,) = study.shown.groups
    assert group.baseline is None
    assert {label: one.beside for label, one in study.standings[group].items()} == dict.fromkeys(
        ("rslora", "scalora")
    )
    text = write(tmp_path).read_text()
    assert "71.00" in text
    assert "91.00" in text
    assert "No lora to compare with on movie" in text


def test_records_that_disagree_on_the_baseline_are_refused(tmp_path: Path) -> None:
    save(tmp_path, run_record("movie", "lora", 0))
    save(tmp_path, overhead_record({"lora": [1.0]}, baseline="full"))
    with pytest.raises(RecordError, match=r"disagree on the baseline \(full, lora\); finish `rankbench run"):
        load(tmp_path)


def weighted(seed: int, adapter: str, weights: str, version: int = 1) -> RunRecord:
    return run_record(
        "movie",
        adapter,
        seed,
        identity={"weights": weights, "adapter": {"name": adapter, "version": version}},
    )


def test_runs_of_other_pretrained_weights_share_no_column(tmp_path: Path) -> None:
    """A folder's weights may change under one name."""
    save(tmp_path, *(weighted(seed, "lora", "sha256:one") for seed in range(2)))
    save(tmp_path, *(weighted(seed, "scalora", "sha256:two") for seed in range(2)))
    groups = load(tmp_path).groups
    assert [([*group.runs], group.letter, group.differing) for group in groups] == [
        (["lora"], "A", ["weights"]),
        (["scalora"], "B", ["weights"]),
    ]


def test_runs_scored_by_two_metrics_share_no_column(tmp_path: Path) -> None:
    """A suite whose main metric was changed, and half of which was run again."""
    best = {"accuracy": 0.8, "f1": 0.3}
    for name, main in (("lora", "accuracy"), ("scalora", "f1")):
        metrics = Metrics(main=main, best=best, last=best, best_step=1, last_step=1)
        save(tmp_path, *(run_record("movie", name, seed, metrics=metrics) for seed in range(2)))
    groups = load(tmp_path).groups
    assert {group.name: (group.metric, [*group.runs]) for group in groups} == {
        "movie (A)": ("accuracy", ["lora"]),
        "movie (B)": ("f1", ["scalora"]),
    }
    assert {tuple(group.differing) for group in groups} == {("main metric",)}


def test_the_best_of_three_states_and_of_thirty_share_no_column(tmp_path: Path) -> None:
    for name, training in (
        ("lora", {"select": "best", "observe": 3}),
        ("scalora", {"select": "best", "observe": 30}),
        ("full", {"select": "last", "observe": 3}),
        ("dora", {"select": "last", "observe": 30}),
    ):
        config = {"adapter": {"name": name}, "training": training}
        protocol = {"selection_rule": training["select"]}
        save(
            tmp_path, *(run_record("movie", name, seed, config=config, protocol=protocol) for seed in (0, 1))
        )
    found = [sorted(group.runs) for group in load(tmp_path).groups]
    assert sorted(found) == [["dora", "full"], ["lora"], ["scalora"]]


def test_seeds_of_two_versions_of_an_adapter_are_not_averaged(tmp_path: Path) -> None:
    save(tmp_path, weighted(0, "lora", "sha256:one", version=1), weighted(1, "lora", "sha256:one", version=2))
    told = r"the seeds of movie--lora differ in adapter\.version; finish .* and delete those that it does not"
    with pytest.raises(RecordError, match=told):
        load(tmp_path)
