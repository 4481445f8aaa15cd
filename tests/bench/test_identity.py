"""A run's fingerprint holds all that its numbers depend on, and a run that is done again says why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from rankbench import adapters
from rankbench.bench.cli import main
from rankbench.bench.cost import overhead
from rankbench.bench.models import weights
from rankbench.bench.records import differences, fingerprint
from rankbench.bench.records.fingerprint import same_but_for_versions
from rankbench.bench.run import job as jobs
from rankbench.bench.run import provenance
from rankbench.bench.run.job import resolve
from rankbench.bench.run.start import differing, ready
from rankbench.bench.suite import load_suite, plan
from rankbench.bench.suite.costs import Overhead
from tests.bench.tiny_suite import with_changes
from tests.plugged import install
from tests.tiny_text import llama, tokenizer


def upgrade(monkeypatch, package: str) -> str:
    """As if another version were installed; returns how that is told."""
    old = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: old | {package: "99.0"})
    return f"software.{package} {old[package]} -> 99.0"


@pytest.mark.parametrize("package", ["torch", "transformers", "peft", "lm-eval", "tokenizers", "accelerate"])
def test_an_upgrade_of_any_package_that_can_move_a_number_is_another_run(package, suite, monkeypatch):
    spec = next(plan(load_suite(str(suite))))
    before = resolve(spec).identity
    told = upgrade(monkeypatch, package)
    after = resolve(spec).identity
    assert fingerprint(before) != fingerprint(after)
    assert differences(before, after) == [told]
    assert same_but_for_versions(before, after)


def test_several_processes_are_another_run_and_one_is_the_same_as_ever(suite):
    """Each process draws a dropout of its own; one is named nowhere, as in records of before."""
    spec = next(plan(load_suite(str(suite))))
    before, config = resolve(spec).identity, resolve(spec).config
    assert {"processes", "shard"}.isdisjoint(before["training"])
    assert {"processes", "shard"}.isdisjoint(config["training"])
    two = spec.training.model_copy(update={"processes": 2, "accumulation": 2})
    after = resolve(spec.model_copy(update={"training": two})).identity
    assert differences(before, after) == ["training.accumulation 1 -> 2", "training.processes nothing -> 2"]
    shards = two.model_copy(update={"shard": True})
    sharded = resolve(spec.model_copy(update={"training": shards})).identity
    assert differences(after, sharded) == ["training.shard nothing -> true"]


def test_the_versions_are_those_installed():
    import torch
    import transformers

    assert provenance.versions()["torch"] == torch.__version__
    assert provenance.versions()["transformers"] == transformers.__version__


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """Installs another version of a package that registers adapters."""

    lora = "rankbench.adapters.lora"
    entries = {"mine": f"{lora}:Lora", "broken": "no_such:X", "gone": f"{lora}:X", "other": "json:dumps"}
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda version: install(tmp_path, version, {adapters.OTHERS.group: entries})
    adapters.OTHERS.forget()


def test_an_upgrade_of_the_package_of_an_adapter_is_another_run(plugged, suite):
    def parts(name):
        content = yaml.safe_load(suite.read_text())
        content["experiments"]["tiny"]["adapters"] = {name: {"rank": 2}}
        suite.write_text(yaml.safe_dump(content))
        return resolve(next(plan(load_suite(str(suite))))).identity

    def measured():
        block = {"model": "tiny-bert", "targets": ["query"], "batch": 2, "length": 4}
        return overhead.identity(Overhead(**block, adapters={"mine": {"rank": 2}}))

    plugged("1.0")
    before, cost = parts("mine"), measured()
    assert parts("lora")["software"] == provenance.versions(), "none of them is its"
    plugged("1.1")
    told = ["software.plugged 1.0 -> 1.1"]
    assert differences(before, parts("mine")) == differences(cost, measured()) == told


@pytest.mark.parametrize("name", ["broken", "gone", "other"])
def test_an_adapter_of_another_package_that_cannot_be_loaded_is_one_line(name, plugged, suite, run, capsys):
    plugged("1.0")
    content = yaml.safe_load(suite.read_text())
    content["experiments"]["tiny"]["adapters"] = {name: {"rank": 2}}
    suite.write_text(yaml.safe_dump(content))
    assert run() == 2
    error = capsys.readouterr().err
    assert f"adapter '{name}'" in error
    assert len(error.splitlines()) == 1


def test_the_kind_of_device_is_part_of_it_and_not_a_version(suite, monkeypatch):
    spec = next(plan(load_suite(str(suite))))
    before = resolve(spec).identity
    monkeypatch.setattr(provenance, "device", lambda: "cuda")
    assert differences(before, resolve(spec).identity) == ["device cpu -> cuda"]
    assert not same_but_for_versions(before, resolve(spec).identity)


def test_what_a_machine_has_otherwise_than_was_planned_is_named(suite, monkeypatch):
    spec = next(plan(load_suite(str(suite))))
    planned, other = resolve(spec), "cpu" if provenance.device() == "cuda" else "cuda"
    elsewhere = resolve(spec, other)
    assert elsewhere.identity == planned.identity | {"device": other}
    assert differing(elsewhere) == [f"device {other} -> {provenance.device()}"]
    assert differing(planned) == []
    told = upgrade(monkeypatch, "torch")
    assert differing(planned) == [told]


def test_a_run_that_is_done_again_says_why_in_one_line(run, suite, monkeypatch, capsys):
    assert run() == 0
    told = upgrade(monkeypatch, "torch")
    capsys.readouterr()
    assert run() == 0
    seen = capsys.readouterr()
    assert f"2 runs are done again: {told}\n" in seen.err
    assert "runs: 2 done, 0 there already" in seen.out

    content = yaml.safe_load(suite.read_text())
    content["experiments"]["tiny"]["adapters"]["lora"]["rank"] = 3
    suite.write_text(yaml.safe_dump(content))
    assert run() == 0
    seen = capsys.readouterr()
    assert "1 run is done again: adapter.rank 2 -> 3\n" in seen.err
    assert "runs: 1 done, 1 there already" in seen.out


def test_a_record_of_the_first_schema_is_said_to_be_one(run, tmp_path, capsys):
    assert run() == 0
    path = tmp_path / "results/mine/runs/tiny--lora--s0.json"
    record = json.loads(path.read_text())
    for field in ("identity", "schema_version"):
        del record[field]
    path.write_text(json.dumps(record | {"schema_version": 1, "fingerprint": "0" * 64}))
    main(["report", str(tmp_path / "results/mine")])
    report = (tmp_path / "results/mine/report.md").read_text()
    assert "**Records of earlier versions of rankbench**: of 2, 1 are of an earlier schema than 2" in report
    capsys.readouterr()
    assert run("--keep-old-versions") == 0
    assert "1 run is done again: the record is of an earlier version of rankbench" in capsys.readouterr().err
    main(["report", str(tmp_path / "results/mine")])
    assert "Records of earlier versions" not in (tmp_path / "results/mine/report.md").read_text()


def test_kept_old_versions_are_shown_as_another_protocol(run, suite, tmp_path, monkeypatch, capsys):
    assert run() == 0
    told = upgrade(monkeypatch, "torch")
    capsys.readouterr()
    assert run("--keep-old-versions", "--seeds", "2") == 0
    assert "runs: 2 done, 2 there already" in capsys.readouterr().out
    main(["report", str(tmp_path / "results/mine")])
    report = (tmp_path / "results/mine/report.md").read_text()
    assert "`tiny` was run under 2 protocols (A, B) that differ in" in report
    (row,) = [line for line in report.splitlines() if line.startswith("| software.torch")]
    assert {told.split()[1], "99.0"} <= {cell.strip() for cell in row.split("|")}
    assert "software.numpy" not in report, "what is the same for all is told under Provenance"
    # Another suite takes them over by the same rule.
    other = tmp_path / "other.yaml"
    other.write_text(suite.read_text())
    capsys.readouterr()
    assert main(["run", str(other), "--results", str(tmp_path / "results"), "--keep-old-versions"]) == 0
    assert "runs: 0 done, 2 there already" in capsys.readouterr().out
    assert main(["run", str(other), "--results", str(tmp_path / "results")]) == 0
    assert "runs: 2 done, 0 there already" in capsys.readouterr().out


def test_nothing_but_versions_is_kept(run, monkeypatch, capsys):
    assert run() == 0
    monkeypatch.setattr(jobs, "LOOP_VERSION", jobs.LOOP_VERSION + 1)
    capsys.readouterr()
    assert run("--keep-old-versions") == 0
    assert "runs: 2 done" in capsys.readouterr().out


def test_compare_judges_an_upgrade(run, tmp_path, monkeypatch, capsys):
    assert run() == 0
    upgrade(monkeypatch, "torch")
    suite = tmp_path / "mine.yaml"
    assert main(["run", str(suite), "--results", str(tmp_path / "after")]) == 0
    capsys.readouterr()
    main(["compare", str(tmp_path / "results/mine"), str(tmp_path / "after/mine")])
    assert "**Identical**: all 6 figures" in capsys.readouterr().out


def test_it_is_asked_for_once_a_run(run, monkeypatch):
    calls = []
    told = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: calls.append(1) or told)
    run()
    once_a_provenance = len(calls) - 2
    assert once_a_provenance <= 1, calls


def test_the_weights_of_a_folder_are_read_for_it_once_a_process(suite, run, tmp_path, monkeypatch):
    """They were made for ten looks at the folder in two runs; a hash is made anew where a file changes."""
    digest, read = weights.sha256_of, []
    monkeypatch.setattr(weights, "sha256_of", lambda path: read.append(path) or digest(path))
    llama().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    causal = {"task": {"name": "tiny-causal"}, "model": str(tmp_path / "model"), "targets": ["q_proj"]}
    suite.write_text(yaml.safe_dump(with_changes(**causal)))
    assert run() == run("--seeds", "2") == 0
    assert len(read) == len(set(read)) > 1


def test_prepared_data_go_by_their_content(suite):
    spec = next(plan(load_suite(str(suite))))
    job = resolve(spec)
    task, _ = ready(job)
    assert ready(job)[0] is task
    edited = {"task": job.identity["task"] | {"source": {"files": "another hash"}}}
    for changes in (edited, {"weights": "sha256:other"}):
        assert ready(replace(job, identity=job.identity | changes))[0] is not task


def test_a_folders_tokenizer_goes_by_its_content(tmp_path):
    from rankbench.bench import models
    from rankbench.bench.suite import Model

    llama().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = Model(name=str(tmp_path))
    before = models.load_tokenizer(model)
    assert models.load_tokenizer(model) is before
    changed = tokenizer()
    changed.add_tokens(["rankbench"])
    changed.save_pretrained(tmp_path)
    assert "rankbench" in models.load_tokenizer(model).get_vocab()
