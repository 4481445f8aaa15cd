"""Choices on the disk: where they are kept, when they hold, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rankbench.bench.records import Folders
from rankbench.bench.suite import ConfigError, Suite, plan
from rankbench.bench.suite.files import BUILT_IN, load_suite
from rankbench.bench.tune import next_trials, settled
from rankbench.bench.tune.choices import read
from tests.tune.made_trials import EXPERIMENT, end, experiment, suite_of
from tests.tune.test_trials import bowl, steep, through


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "results" / "mine")


@pytest.fixture
def shipped(tmp_path: Path, folders: Folders) -> Path:
    """The choices of a suite, beside it."""
    suite = suite_of(tmp_path, one=experiment())
    through(suite, folders, steep)
    settled(suite, folders)
    path = tmp_path / "mine.choices.yaml"
    assert suite.choices == path
    path.write_bytes(folders.choices.read_bytes())
    return path


def test_choices_say_what_was_chosen_and_by_which_trials(tmp_path, folders, shipped):
    choice = read(shipped)["one"]["rslora"]
    assert (choice.trial, choice.trials, choice.metric) in [
        ("rslora-t04", 6, "nll"), ("rslora-t05", 6, "nll"),
    ]  # fmt: skip
    finals = plan(settled(suite_of(tmp_path, one=experiment()), folders))
    final = next(spec for spec in finals if spec.label == "rslora")
    assert choice.chosen == {"learning_rate": final.adapter.learning_rate}
    assert tuple(choice.by) == final.adapter.chosen_by


def test_kept_choices_stand_for_the_trials(tmp_path, shipped):
    suite, fresh = suite_of(tmp_path, one=experiment()), Folders(tmp_path / "fresh" / "mine")
    assert next_trials(suite, fresh) == []
    finals = {spec.label: spec.adapter for spec in plan(settled(suite, fresh))}
    for label, choice in read(shipped)["one"].items():
        assert finals[label].learning_rate == choice.chosen["learning_rate"]
        assert finals[label].chosen_by == tuple(choice.by)
        assert finals[label].tuned
    assert fresh.choices.read_bytes() == shipped.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"tune": {"trials": 5}},
        {"tune": {"trials": 4, "seed": 7}},
        {"tune": {"trials": 4, "widen": 0}},
        {"tune": {"trials": 4, "space": {"learning_rate": [1e-4, 1e-1, "log"]}}},
        {"task": {"name": "tiny-classification", "train": 64}},
        {"targets": ["query", "value"]},
        {"training": EXPERIMENT["training"] | {"steps": 9}},
        {"model": {"name": "tiny-bert", "head": "keep"}},
    ],
)
def test_no_choice_holds_where_the_suite_says_something_else(tmp_path, shipped, changes):
    suite = suite_of(tmp_path, one=experiment(**changes))
    due = next_trials(suite, Folders(tmp_path / "fresh" / "mine"))
    assert {spec.adapter.method for spec in due} == {"lora", "rslora"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("table", {"text": "text", "label": "label"}),
        ("instruct", {"prompt": "{text}", "answer": "{label}", "score": ["perplexity"]}),
    ],
)
def test_no_choice_holds_for_other_rows(tmp_path, folders, name, options):
    """Which file is in no option of the task: it may lie elsewhere, and be the same."""
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"sentence {n} of these,{'ab'[n % 2]}\n" for n in range(60)))

    def of(path: Path) -> Suite:
        return suite_of(tmp_path, one=experiment(task={"name": name, "train": str(path), **options}))

    through(of(rows), folders, bowl)
    settled(of(rows), folders)
    (tmp_path / "mine.choices.yaml").write_bytes(folders.choices.read_bytes())
    fresh = Folders(tmp_path / "fresh" / "mine")
    elsewhere = tmp_path / "elsewhere" / "rows.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(rows.read_bytes())
    assert not next_trials(of(elsewhere), fresh)
    elsewhere.write_text(rows.read_text().replace("these", "others"))
    assert len(next_trials(of(elsewhere), fresh)) == 8


def test_an_entry_that_is_changed_or_new_has_as_many_trials_as_the_kept_ones(tmp_path, shipped):
    adapters = {"lora": {"rank": 2}, "rslora": {"rank": 3}, "dora": {"rank": 2}}
    suite, fresh = suite_of(tmp_path, one=experiment(adapters=adapters)), Folders(tmp_path / "fresh" / "mine")
    rounds = through(suite, fresh, bowl)  # at no edge, but the kept ones have had two rounds
    assert [len(specs) for specs in rounds] == [8, 4]
    assert {spec.adapter.method for specs in rounds for spec in specs} == {"rslora", "dora"}
    assert set(read(fresh.choices)["one"] if settled(suite, fresh) else {}) == {"lora", "rslora", "dora"}


def test_choices_for_what_is_no_more_do_no_harm(tmp_path, shipped):
    suite = suite_of(tmp_path, one=experiment(adapters={"lora": {"rank": 2}}))
    fresh = Folders(tmp_path / "fresh" / "mine")
    assert next_trials(suite, fresh) == []
    settled(suite, fresh)
    assert set(read(fresh.choices)["one"]) == {"lora"}


def test_a_built_in_suite_has_its_choices_in_the_package():
    assert load_suite("smoke").choices == BUILT_IN / "choices" / "smoke.yaml"
    assert load_suite(str(BUILT_IN / "smoke.yaml")).choices == BUILT_IN / "choices" / "smoke.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one: [", r"mine\.choices\.yaml is not YAML: .*; take it from version control, or delete it"),
        ("one: 3", r"mine\.choices\.yaml: one: .*dictionary; take it from version control"),
        ("one: {lora: {chosen: {}}}", r"mine\.choices\.yaml: one\.lora\.trial: Field required; take it"),
        ("one: {lora: {choosen: {}}}", r"unknown key 'choosen'; did you mean 'chosen'\?; take it"),
        ("", r"mine\.choices\.yaml: the file: .*dictionary; take it"),
    ],
)
def test_a_broken_file_is_named_with_the_way_out(tmp_path, text, message):
    suite = suite_of(tmp_path, one=experiment())
    (tmp_path / "mine.choices.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        next_trials(suite, Folders(tmp_path / "results" / "mine"))


def test_values_that_the_adapter_refuses_are_named(tmp_path, folders, shipped):
    told = yaml.safe_load(shipped.read_text())
    told["one"]["lora"]["chosen"] = {"learning_rate": -1.0}
    shipped.write_text(yaml.safe_dump(told))
    with pytest.raises(
        ConfigError, match=r"mine\.choices\.yaml: one: lora: learning_rate: Input should be gr"
    ):
        settled(suite_of(tmp_path, one=experiment()), folders)


def test_nothing_is_written_where_all_is_as_it_was(tmp_path, folders):
    suite = suite_of(tmp_path, one=experiment())
    end(next_trials(suite, folders), folders, bowl)
    settled(suite, folders)
    before = folders.choices.stat().st_mtime_ns, folders.choices.read_bytes()
    settled(suite, folders)
    assert (folders.choices.stat().st_mtime_ns, folders.choices.read_bytes()) == before
