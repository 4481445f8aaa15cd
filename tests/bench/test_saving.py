"""What a run trained, kept beside its record: whole, once, and wherever the record goes."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError

from rankbench.bench.backends import standing
from rankbench.bench.backends.far import do_far
from rankbench.bench.backends.standing import keep
from rankbench.bench.cli import main
from rankbench.bench.export.restore import restore, trained_of
from rankbench.bench.records import FailureRecord, Folders, RecordError, RunRecord, read_record
from rankbench.bench.records.files import hash_of
from rankbench.bench.records.mirror import Mirror
from rankbench.bench.run import saving
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Done, Listener, Order
from rankbench.bench.run.scores import evaluate
from rankbench.bench.run.start import ready
from rankbench.bench.suite import RunSpec
from rankbench.bench.suite.plugged import TABLES
from tests.bench.own_method import write, write_method
from tests.bench.tiny_suite import TINY, numbers, record_of, with_changes

CELL = "tiny--lora--s0"
SAVED = TINY | {"save": "adapter"}
PRUNED = (".e", ".lora_E.default")
"""Singular values, in the state of LoRA² and of AdaLoRA."""


def spec_of(name: str = "lora", **changes: Any) -> RunSpec:
    adapters = {name: TINY["experiments"]["tiny"]["adapters"].get(name)}
    block = with_changes(**{"adapters": adapters} | changes)["experiments"]["tiny"]
    fields = {key: block[key] for key in ("task", "model", "targets", "training")}
    made = {"suite": "mine", "experiment": "tiny", "label": name, "seed": 0, "save": True, **fields}
    return RunSpec(**made, adapter={"name": name, **(adapters[name] or {})})


@pytest.fixture
def saved(suite: Path, run: Callable[..., int], tmp_path: Path) -> Folders:
    """The suite's two runs, with what they trained."""
    suite.write_text(yaml.safe_dump(SAVED))
    assert run() == 0
    return Folders(tmp_path / "results" / "mine")


def record(folders: Folders) -> RunRecord:
    return read_record(folders.record(CELL), RunRecord)


@pytest.mark.parametrize(
    "name",
    [
        "lora",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("scalora", "full", "lora2", "adalora")),
    ],
)
def test_the_state_that_the_best_score_is_of_comes_back(name, tmp_path):
    """Scored anew by the task itself; the last step's state is another one."""
    training = TINY["experiments"]["tiny"]["training"] | {"steps": 60, "learning_rate": 0.02, "observe": 10}
    spec = spec_of(name, training=training)
    found = record_of(spec, tmp_path)
    assert found.metrics.best_step < found.metrics.last_step
    folders = Folders(tmp_path)
    task, _ = ready(resolve(spec))
    back = restore(found, trained_of(folders, found, spec.cell))
    adapter, model = back.adapter, back.model
    selection = next(o.selection for o in found.observations if o.step == found.metrics.best_step)
    assert task.score(model, "selection").metrics["accuracy"] == selection
    if "rank" in found.diagnostics:
        left = [v.count_nonzero() for n, v in adapter.state_dict()["tensors"].items() if n.endswith(PRUNED)]
        assert [*found.diagnostics["rank"].values()] == [int(count) for count in left]
    assert evaluate(task, adapter.merge(model), "test", 0).metrics == pytest.approx(found.metrics.best)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        f"{spec.cell}.json", f"{spec.cell}.parquet", f"{spec.cell}.safetensors"
    ]  # fmt: skip
    assert not list((tmp_path / "checkpoints").iterdir())


def test_the_record_has_its_hash_and_nothing_else_is_another(tmp_path):
    plain = record_of(spec_of().model_copy(update={"save": False}), tmp_path / "plain")
    found = record_of(spec_of(), tmp_path / "saved")
    path = Folders(tmp_path / "saved").adapter(CELL)
    assert found.saved.model_dump() == {"sha256": hash_of(path), "bytes": path.stat().st_size}
    assert path.stat().st_mode == Folders(tmp_path / "saved").record(CELL).stat().st_mode
    assert numbers(plain) == {key: value for key, value in numbers(found).items() if key != "saved"}
    assert "saved" not in json.loads(Folders(tmp_path / "plain").record(CELL).read_text())


def test_one_state_is_one_file(tmp_path):
    job = resolve(spec_of())
    task, _ = ready(job)
    state = {"tensors": {name: torch.ones(2) for name in "abc"}, "extra": {"mask": torch.zeros(2)}}
    order = Order(job, tmp_path / "run.pt")
    assert len({saving.save(order, task, state).sha256 for _ in range(12)}) == 1


def test_a_run_without_one_is_done_again_where_it_is_asked_for(suite, run, tmp_path, capsys):
    assert run() == 0
    before = Folders(tmp_path / "results/mine").record(CELL).read_bytes()
    capsys.readouterr()
    assert run("--save") == 0
    seen = capsys.readouterr()
    assert "2 runs are done again: its adapter is to be saved and is not there\n" in seen.err
    assert run("--save") == run() == 0
    assert "runs: 0 done, 2 there already" in capsys.readouterr().out
    folders = Folders(tmp_path / "results/mine")
    assert json.loads(before)["fingerprint"] == record(folders).fingerprint
    folders.adapter(CELL).unlink()
    assert run() == 0
    assert "runs: 0 done, 2 there already" in capsys.readouterr().out, "nobody asks for it"
    assert run("--save") == 0
    assert "runs: 1 done, 1 there already" in capsys.readouterr().out


def test_another_suite_takes_it_over_or_does_the_run_itself(saved, suite, tmp_path, capsys):
    for name, content, told in (
        ("plain", TINY, "0 done, 2 there already"),
        ("again", SAVED, "0 done, 2 there already"),
    ):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        capsys.readouterr()
        assert main(["run", str(path), "--results", str(tmp_path / "results")]) == 0
        assert told in capsys.readouterr().out
        taken = Folders(tmp_path / "results" / name)
        assert taken.adapter(CELL).read_bytes() == saved.adapter(CELL).read_bytes()
        assert record(taken).saved == record(saved).saved
    for folder in ("mine", "plain", "again"):
        Folders(tmp_path / "results" / folder).adapter(CELL).unlink()
    path = tmp_path / "last.yaml"
    for content, told in ((TINY, "0 done, 2 there already"), (SAVED, "1 done, 1 there already")):
        path.write_text(yaml.safe_dump(content))
        assert main(["run", str(path), "--results", str(tmp_path / "results")]) == 0
        assert told in capsys.readouterr().out
    assert record(Folders(tmp_path / "results/last")).saved


def test_folders_are_merged_with_it(saved, tmp_path, capsys):
    plain, into = tmp_path / "plain", tmp_path / "all"
    shutil.copytree(saved.root, plain)
    for path in (plain / "runs").glob("*.safetensors"):
        path.unlink()
    for path in (plain / "runs").glob("*.json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "saved"}))
    assert main(["merge", str(plain), str(saved.root), "--into", str(into)]) == 0
    assert record(Folders(into)).saved == record(saved).saved
    assert hash_of(Folders(into).adapter(CELL)) == record(saved).saved.sha256
    before = sorted(path.stat().st_mtime_ns for path in into.rglob("*"))
    assert main(["merge", str(plain), str(saved.root), "--into", str(into)]) == 0
    assert sorted(path.stat().st_mtime_ns for path in into.rglob("*")) == before
    spoil(saved.adapter(CELL))
    capsys.readouterr()
    assert main(["merge", str(saved.root), "--into", str(tmp_path / "other")]) == 2
    assert f"{CELL}.safetensors is not as it was saved; delete {CELL}.json" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_url_holds_it_and_a_report_leaves_it_there(suite, tmp_path, monkeypatch, capsys):
    suite.write_text(yaml.safe_dump(SAVED))
    url = f"file://{tmp_path / 'there'}"
    monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / "first"))
    assert main(["run", str(suite), "--results", url]) == 0
    there = Folders(tmp_path / "there/mine")
    assert hash_of(there.adapter(CELL)) == record(there).saved.sha256
    monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / "second"))
    here = Folders(Mirror(url).fetch() / "mine")
    assert here.record(CELL).exists()
    assert not here.adapter(CELL).exists()
    words = ["export", f"mine/{CELL}", str(tmp_path / "out"), "--as", "peft", "--results", url]
    assert main(words) == 0, "it is fetched alone"
    assert [path.name for path in (here.root / "runs").glob("*.safetensors")] == [f"{CELL}.safetensors"]
    here.adapter(CELL).unlink()
    capsys.readouterr()
    assert main(["run", str(suite), "--results", url]) == 0
    assert "runs: 0 done, 2 there already" in capsys.readouterr().out
    assert here.adapter(CELL).read_bytes() == there.adapter(CELL).read_bytes()


def test_from_a_folder_that_goes_its_content_travels(tmp_path):
    """As from a node of a cluster that does not share the driver's folder: the lock is not seen there."""
    job = resolve(spec_of())
    folders = Folders(tmp_path / "driver")
    found = do_far(Order(job, folders.checkpoint(CELL)), Listener())
    assert isinstance(found, Done)
    assert isinstance(found.adapter, bytes)
    keep(job, pickle.loads(pickle.dumps(found)), folders)
    assert hash_of(folders.adapter(CELL)) == record(folders).saved.sha256


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left")])
def test_a_full_disk_fails_the_run_and_leaves_nothing(error, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(saving, "save_file", full)
    found = record_of(spec_of(), tmp_path)
    assert isinstance(found, FailureRecord)
    assert "cannot write" in found.reason
    assert "No space left" in found.reason
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list((tmp_path / "runs").glob("*"))


def test_a_record_that_cannot_be_written_takes_the_adapter_with_it(tmp_path, monkeypatch):
    write, tried = standing.write_record, []

    def refuse(path: Path, record: Any) -> None:
        if isinstance(record, RunRecord):
            tried.append(path)
            raise RecordError("cannot write")
        write(path, record)

    monkeypatch.setattr(standing, "write_record", refuse)
    assert isinstance(record_of(spec_of(), tmp_path), FailureRecord)
    assert tried
    assert list((tmp_path / "runs").iterdir()) == []


def test_other_values_than_adapter_are_refused(suite, run, capsys):
    suite.write_text(yaml.safe_dump(TINY | {"save": "everything"}))
    assert run() == 2
    assert capsys.readouterr().err == "rankbench: mine.yaml: save: Input should be 'adapter'\n"


def test_state_that_is_no_weight_comes_back(tmp_path):
    spec = spec_of("lora2")
    found = record_of(spec, tmp_path)
    state = trained_of(Folders(tmp_path), found, spec.cell).state
    assert set(state["extra"]) == {"sensitivity", "uncertainty"}
    assert all(isinstance(value, torch.Tensor) for value in state["extra"].values())


def test_a_method_of_the_users_own_file_is_exported_while_the_file_is_as_it_was(tmp_path, run, capsys):
    """Its code is read where it was: a file of weights holds none."""
    method = write_method(tmp_path)
    suite = write(tmp_path, plugins=["mine.py"], adapters={"mine": {"rank": 2}})
    suite.write_text(suite.read_text() + "save: adapter\n")
    assert run() == 0
    for others in TABLES.values():
        others.plugged = {}
    words = ["export", "mine/tiny--mine--s0", "--as", "peft", "--results", str(tmp_path / "results")]
    assert main([*words, str(tmp_path / "out")]) == 0
    said = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert said["lora_alpha"] == 2 * 16, "the file's own scale"
    capsys.readouterr()
    method.write_text(method.read_text() + "# edited\n")
    assert main([*words, str(tmp_path / "again")]) == 2
    assert "mine.py: what the run's method was made by has changed since" in capsys.readouterr().err
    method.unlink()
    assert main([*words, str(tmp_path / "again")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "again").exists()
