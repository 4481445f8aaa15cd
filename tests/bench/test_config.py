"""Suite files: what is refused, how grids unfold, how a suite unrolls into runs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import yaml

from rankbench.bench.records.reader import read_yaml
from rankbench.bench.suite import ConfigError, Suite, load_suite, make_adapter, plan, suite_names

GOOD = {
    "seeds": [0, 1],
    "experiments": {
        "one": {
            "task": "tiny-classification",
            "model": "tiny-bert",
            "targets": ["query"],
            "training": {"steps": 2, "batch_size": 4, "learning_rate": 1e-3},
            "adapters": {"lora": {"rank": 2}, "full": None},
        }
    },
}


def changed(path: str, value) -> dict:
    suite = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = path.split("/")
    block = suite
    for key in parents:
        block = block[key]
    block[last] = value
    return suite


def write(folder, content) -> str:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("experiment", {}, "unknown key 'experiment'; did you mean 'experiments'?"),
        ("experiments/one/adaptors", {}, "unknown key 'adaptors'; did you mean 'adapters'?"),
        ("experiments/one/training/learning_rat", 1, "did you mean 'learning_rate'?"),
        ("experiments/one/training/learning_rate", -1, "greater than 0"),
        (
            "experiments/one/training/learning_rate",
            math.inf,
            "learning_rate: Input should be a finite number",
        ),
        ("experiments/one/training/clip", math.nan, "clip: Input should be a finite number"),
        ("experiments/one/adapters/lora", {"learning_rate": math.inf}, "should be a finite number"),
        ("experiments/one/adapters/lora", {"alpha": math.inf}, "alpha must be a positive number"),
        ("experiments/one/training/steps", 0, "greater than 0"),
        ("experiments/one/training/warmup", 0.9, "warmup 0.9 takes all 2 steps: the learning rate begins"),
        ("experiments/one/training/processes", 0, "greater than 0"),
        ("experiments/one/training/processes", 2, "accumulation 1 is not divisible by 2 processes"),
        ("experiments/one/training/shard", True, "shard divides the weights among processes; set processes"),
        (
            "experiments/one/adapters/peft",
            {"config": {"peft_type": "ADALORA", "total_step": 300}},
            "total_step 300 is not the run's 2 steps",
        ),
        (
            "experiments/one/adapters/reflora",
            {"total_steps": 300},
            "total_steps 300 is not the run's 2; leave",
        ),
        (
            "experiments/one/adapters/adalora",
            {"total_steps": 300},
            "total_steps 300 is not the run's 2; leave",
        ),
        (
            "experiments/one/adapters/peft",
            {"config": {"peft_type": "ADALORA"}, "total_steps": None},
            "total_steps None is not the run's 2; leave it out",
        ),
        ("experiments/one/adapters/peft", {"config": {"peft_type": "LILY"}}, "PEFT's LILY does not run here"),
        ("experiments/one/adapters/scalroa", {}, "unknown adapter 'scalroa'; did you mean 'scalora'?"),
        ("experiments/one/adapters/lora", {"rnak": 4}, "no hyperparameter 'rnak'; did you mean 'rank'?"),
        ("experiments/one/adapters/lora", {"rank": 0}, "rank"),
        ("experiments/one/adapters/scalora", {"smoothness": -1}, "smoothness must be a positive number"),
        ("experiments/one/adapters/scalora", {"smoothness": True}, "must be a positive number, not True"),
        (
            "experiments/one/adapters/lora2",
            {"rank": 2, "target_rank": 4},
            "mine.yaml: experiments.one.adapters.lora2: target_rank 4 is above rank 2",
        ),
        (
            "experiments/one/adapters/lora",
            {"rank": 2, "grid": {"alpha": [1, -1]}},
            "mine.yaml: experiments.one.adapters.lora-alpha-1: alpha must be a positive number",
        ),
        ("experiments/one/adapters/lora", {"rank": True}, "must be a positive whole number, not True"),
        ("experiments/one/adapters/lora", {"learning_rate": -1}, "greater than 0"),
        ("experiments/one/adapters/lora", {"grid": {"rank": []}}, "a grid is `key: [value, …]`, not"),
        ("experiments/one/adapters/lora", {"grid": {"alpha": [2, 2.0000001]}}, "two adapters are labelled"),
        (
            "experiments/one/adapters/lora",
            {"rank": 2, "grid": {"rank": [4, 8]}},
            "adapter lora: rank is set beside the grid that varies it; leave one out",
        ),
        ("experiments", {12: {}}, "mine.yaml: experiments.12: a name is a text; quote it"),
        ("experiments/one/adapters/lora-rank2", {"name": "lora", "grid": None}, "a grid is"),
        ("experiments/one/adapters", {}, "at least 1 item"),
        ("experiments", {}, "nothing to do; name an experiment"),
        ("seeds", [], "seeds: List should have at least 1 item"),
        ("seeds", [0, 0], "a seed is there twice"),
        ("seeds", [-1], "greater than or equal to 0"),
        ("experiments/one/seeds", [], "at least 1 item"),
        ("experiments/a--b", GOOD["experiments"]["one"], "experiment 'a--b': '--' parts a run's name"),
        ("name", "..", "begin with a letter or digit"),
        ("name", "", "begin with a letter or digit"),
        ("experiments/one/adapters/-x", {"name": "lora"}, "begin with a letter or digit"),
        ("experiments/one/adapters/No Good", {"name": "lora"}, "adapter label"),
        ("experiments/one/task", "tiny-clasification", "did you mean tiny-classification"),
        ("experiments/one/task", {"max_length": 3}, "a task needs a name"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, path, value, message):
    with pytest.raises(ConfigError) as caught:
        load_suite(write(tmp_path, changed(path, value)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "mine.yaml: overhead.small.model: Field required"),
        ({"kind": "loop"}, "mine.yaml: overhead.small.model: Field required"),
        ({"kind": "growth"}, "mine.yaml: overhead.small.adapters: Field required"),
        ({"kind": "walk"}, "mine.yaml: overhead.small: "),
    ],
)
def test_a_fault_of_a_measurement_is_named_by_the_files_own_keys(tmp_path, entry, message):
    with pytest.raises(ConfigError) as error:
        load_suite(write(tmp_path, changed("overhead", {"small": entry})))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [([4, 3], "rank 3 is no multiple"), ([4, 2, 4], "rank, width and layers: a value is")],
)
def test_what_cannot_grow_is_found_before_it_is_measured(tmp_path, ranks, message):
    """GraLoRA refuses a rank of 3; of a point that is there twice `compare` misses one."""
    growth = {"kind": "growth", "adapters": ["lora", "gralora"], "tokens": 8, "rank": ranks, "width": []}
    entry = growth | {"base": {"rank": 2, "width": 16, "layers": 1}, "layers": []}
    with pytest.raises(ConfigError, match=rf"overhead\.small: {message}"):
        load_suite(write(tmp_path, changed("overhead", {"small": entry})))


def test_a_repeated_key_is_refused_where_it_stands(tmp_path):
    lines = yaml.safe_dump(GOOD, sort_keys=False).splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == "lora:")
    lines[at:at] = [lines[at].replace("lora:", "lora: {rank: 1}")]
    with pytest.raises(ConfigError) as caught:
        load_suite(write(tmp_path, "\n".join(lines)))
    assert str(caught.value) == f"mine.yaml: line {at + 2} repeats the key 'lora'; keep one"


def test_a_key_repeated_beside_a_merge_is_refused(tmp_path):
    lines = ["seeds: [0]", "experiments:", "  one: &one {task: toy}", "  two:", "    <<: *one"]
    lines += ["    targets: [query]", "    targets: [value]"]
    with pytest.raises(ConfigError, match=r"mine\.yaml: line 7 repeats the key 'targets'; keep one"):
        load_suite(write(tmp_path, "\n".join(lines)))


def test_merged_keys_may_be_given_anew(tmp_path):
    """Also those of a block that is merged before it is read, and merges another one itself."""
    content = """
    experiments:
      one: &one
        task: tiny-classification
        model: tiny-bert
        targets: [query]
        training: {steps: 2, batch_size: 4, learning_rate: 1e-3}
        adapters: {lora: {rank: 2}}
      two: &two
        <<: *one
        adapters: {lora: {rank: 3}}
      three:
        <<: *two
        targets: [value]
    """
    found = load_suite(write(tmp_path, content)).experiments
    assert [one.adapters["lora"].hyperparameters["rank"] for one in found.values()] == [2, 3, 3]
    assert [one.targets for one in found.values()] == [["query"], ["query"], ["value"]]


@pytest.mark.parametrize(
    ("written", "value"), [("1e-3", 1e-3), ("-2E+5", -2e5), ("1.5e3", 1.5e3), ("e-3", "e-3"), ("1e", "1e")]
)
def test_numbers_need_no_point(tmp_path, written, value):
    path = tmp_path / "number.yaml"
    path.write_text(f"key: {written}")
    read = read_yaml(path)["key"]
    assert (read, type(read)) == (value, type(value))


def test_a_key_is_a_word_and_a_value_may_be_none(tmp_path):
    """YAML 1.1 reads `on`, a key of `tune`, as true."""
    path = tmp_path / "key.yaml"
    path.write_text("tune: {on: selection, off: on}")
    assert read_yaml(path) == {"tune": {"on": "selection", "off": True}}


@pytest.mark.parametrize("written", ["no", "'no'", "bf16"])
def test_a_precision_needs_no_quotation_marks(tmp_path, written):
    """YAML 1.1 reads `no` as false."""
    path = write(tmp_path, GOOD)
    text = Path(path).read_text().replace("steps: 2", f"steps: 2\n      precision: {written}")
    Path(path).write_text(text)
    assert load_suite(path).experiments["one"].training.precision == written.strip("'")


@pytest.mark.parametrize("content", ["a: [", "just text", ""])
def test_what_is_no_suite_is_refused(tmp_path, content):
    with pytest.raises(ConfigError, match=r"mine\.yaml is not"):
        load_suite(write(tmp_path, content))


def test_unknown_suites_get_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'smoke'"):
        load_suite("smok")
    with pytest.raises(ConfigError, match="cannot read suite"):
        load_suite("nowhere.yaml")


def test_plan_has_seeds_outermost_and_follows_the_options():
    suite = Suite.model_validate({"name": "x", **GOOD})
    cells = [spec.cell for spec in plan(suite)]
    assert cells == ["one--lora--s0", "one--full--s0", "one--lora--s1", "one--full--s1"]
    assert [s.cell for s in plan(suite, only="*lora*", seeds=3)] == [f"one--lora--s{i}" for i in range(3)]


def test_a_grid_is_one_entry_per_combination():
    grid = {"rank": 2, "grid": {"learning_rate": [1e-3, 1e-2], "smoothness": [10, 100.0]}}
    suite = Suite.model_validate({"name": "x", **changed("experiments/one/adapters", {"scalora": grid})})
    specs = suite.experiments["one"].adapters
    assert list(specs) == [
        f"scalora-learning-rate{rate}-smoothness{smoothness}"
        for rate in ("0.001", "0.01")
        for smoothness in (10, 100)
    ]
    last = specs["scalora-learning-rate0.01-smoothness100"]
    assert (last.name, last.learning_rate, last.hyperparameters) == (
        "scalora",
        0.01,
        {"rank": 2, "smoothness": 100.0},
    )


@pytest.mark.parametrize("keys", list(itertools.permutations(["learning_rate", "smoothness", "rank"])))
def test_the_order_of_a_grids_keys_is_free(keys):
    values = {"learning_rate": [1e-3, 1e-2], "smoothness": [10], "rank": [2, 4]}
    block = changed("experiments/one/adapters", {"scalora": {"grid": {key: values[key] for key in keys}}})
    specs = Suite.model_validate({"name": "x", **block}).experiments["one"].adapters
    assert list(specs)[1] == "scalora-learning-rate0.001-rank4-smoothness10"
    found = specs["scalora-learning-rate0.01-rank2-smoothness10"]
    assert found.method == "scalora"
    assert found.point == {"learning_rate": 1e-2, "rank": 2, "smoothness": 10}


@pytest.mark.parametrize("key", ["method", "point"])
def test_what_the_grid_decides_cannot_be_given(tmp_path, key):
    block = changed("experiments/one/adapters", {"lora": {key: "x"}})
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        load_suite(write(tmp_path, block))


def test_a_grid_may_hold_words_and_large_numbers(tmp_path):
    grid = {"smoothness": ["auto", 30, 1e7], "carry_moments": [True, False]}
    suite = load_suite(write(tmp_path, changed("experiments/one/adapters", {"scalora": {"grid": grid}})))
    specs = suite.experiments["one"].adapters
    assert {label: tuple(spec.hyperparameters.values()) for label, spec in specs.items()} == {
        f"scalora-carry-moments{str(carried).lower()}-smoothness{shown}": (carried, value)
        for shown, value in [("auto", "auto"), ("30", 30), ("1e07", 1e7)]
        for carried in (True, False)
    }


def test_an_entry_may_not_take_a_grids_label(tmp_path):
    block = {"lora": {"grid": {"rank": [2]}}, "lora-rank2": {"name": "lora"}}
    with pytest.raises(ConfigError, match="two adapters are labelled lora-rank2"):
        load_suite(write(tmp_path, changed("experiments/one/adapters", block)))


def test_what_sees_its_own_gradients_only_is_refused_where_processes_share_a_run(tmp_path):
    training = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "accumulation": 2, "processes": 2}
    suite = changed("experiments/one/training", training)
    load_suite(write(tmp_path, suite))
    suite["experiments"]["one"]["adapters"]["scalora-svd"] = {"rank": 2}
    with pytest.raises(ConfigError) as caught:
        load_suite(write(tmp_path, suite))
    assert "adapter scalora-svd sees the gradients of its own process only; leave it or" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_that_comes_along_is_valid(name):
    suite = load_suite(name)
    assert list(plan(suite)) or suite.overhead


def test_adalora_of_peft_takes_the_runs_steps(tmp_path):
    """Given or left out; a wrong number is refused (above)."""
    for steps in ({}, {"total_step": 20}):
        data = changed("experiments/one/training/steps", 20)
        data["experiments"]["one"]["adapters"]["peft"] = {
            "config": {"peft_type": "ADALORA", "tinit": 2, "tfinal": 5, **steps}
        }
        adapter = load_suite(write(tmp_path, data)).experiments["one"].adapters["peft"]
        assert make_adapter(adapter, learning_rate=1e-3, steps=20).peft_settings()["total_step"] == 20
