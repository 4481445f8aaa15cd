"""Checkpoints are streamed to the disk, hold what the legs before used up, and cost no second model."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from rankbench.bench import models
from rankbench.bench.cli import main
from rankbench.bench.records import Memory, RecordError
from rankbench.bench.run import train
from rankbench.bench.run.checkpoint import Checkpoint, Progress, kept
from rankbench.bench.run.usage import Usage
from tests.bench.test_train import attached, run, settings, work
from tests.bench.tiny_suite import TINY

ROOT = Path(__file__).parents[2]

PEAK_OF_A_SAVE = """
import sys, torch
from pathlib import Path
from torch import nn
from rankbench import adapters
from rankbench.bench.run import usage
from rankbench.bench.run.checkpoint import Checkpoint, Progress
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(4096, 4096, bias=False))
adapter = adapters.create("full")
adapter.attach(model, ["0"])
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
usage.reset_peak_memory()
before = usage.peak_memory().peak_resident
Checkpoint(Path(sys.argv[1]) / "run.pt", "f").save(Progress(step=1), adapter, optimizer, scheduler)
print((usage.peak_memory().peak_resident - before) / 64)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks cannot be reset here")
def test_saving_needs_no_second_copy_of_the_weights(tmp_path):
    """64 MiB of weights. A clone, a buffer and its value stood beside them, 2.01 times as much; now 0.006."""
    command = [sys.executable, "-c", PEAK_OF_A_SAVE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert (tmp_path / "run.pt").stat().st_size > 64 * 2**20
    assert float(done.stdout) < 0.25


def saved(path: Path) -> None:
    _, adapter = attached()
    optimizer = train.make_optimizer(adapter, settings())
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    Checkpoint(path, "f").save(Progress(step=1), adapter, optimizer, scheduler)


def test_a_disk_that_is_full_leaves_the_last_checkpoint(tmp_path):
    """The system's own limit on the size of files: writing fails midway, as on a full disk."""
    path = tmp_path / "run.pt"
    saved(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(RecordError, match=r"cannot write .*run\.pt: File too large"):
            saved(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_read_once_and_not_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    run(steps=3, checkpoint=Checkpoint(path, "f"))
    load, calls = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *a, **k: calls.append(k) or load(*a, **k))
    run(steps=3, checkpoint=Checkpoint(path, "f"))
    assert [call["mmap"] for call in calls] == [True]


def test_a_resumed_run_counts_all_its_legs(tmp_path):
    path = tmp_path / "run.pt"
    first = Checkpoint(path, "f", usage=Usage(_started=-1000.0))
    before = first.usage.seconds
    assert before > 1000
    with pytest.raises(train.Interrupted):
        run(checkpoint=first, watch=train.Watch(stopped=lambda: True))
    second = Checkpoint(path, "f", every_seconds=0)
    run(steps=5, checkpoint=second)
    assert second.usage.legs == 2
    assert second.usage.seconds > before
    third = Checkpoint(path, "f")
    run(steps=5, checkpoint=third)
    assert third.usage.legs == 3


def test_the_peak_is_the_largest_of_all_legs():
    usage = Usage()
    now = usage.memory.peak_resident
    usage.add_earlier(5.0, Memory(peak_resident=now + 1000, peak_allocated=7.0), 1)
    assert usage.memory.peak_resident == now + 1000
    assert usage.memory.peak_allocated == 7.0
    usage.add_earlier(5.0, Memory(peak_resident=1.0), 2)
    assert usage.memory.peak_resident >= now
    assert usage.legs == 3


@pytest.fixture
def suite(tmp_path):
    def write(**training) -> list[str]:
        content = yaml.safe_load(yaml.safe_dump(TINY))
        tiny = content["experiments"]["tiny"]
        tiny["training"] |= training
        tiny["adapters"] = {"scalora": {"rank": 2}}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return ["run", str(path), "--results", str(tmp_path / "results")]

    return write


@pytest.fixture
def scored(monkeypatch):
    """Calls a function before each scoring of the tiny task."""
    from rankbench.tasks.toy.synthetic import TinyClassification

    score = TinyClassification.score

    def watch(look) -> None:
        def watched(task, model, split):
            look(model, split)
            return score(task, model, split)

        monkeypatch.setattr(TinyClassification, "score", watched)

    return watch


def test_the_optimizer_is_gone_before_the_test_is_scored(suite, scored, monkeypatch):
    made, alive = [], []
    make = train.make_optimizer

    def remembered(*arguments):
        optimizer = make(*arguments)
        made.append(weakref.ref(optimizer))
        return optimizer

    monkeypatch.setattr(train, "make_optimizer", remembered)
    scored(lambda model, split: alive.append((split, made[0]() is not None)))
    assert main(suite()) == 0
    assert alive[0] == ("selection", True)
    assert ("test", False) in alive
    assert ("test", True) not in alive


def test_the_best_state_never_stands_beside_the_trained_model(suite, scored, monkeypatch):
    """The selection score falls from the first observation on, so that a fresh model is built for it."""
    from rankbench.bench.run import scores

    built, beside = [], []
    load = models.load_model

    def remembered(*arguments):
        gc.collect()
        beside.append(sum(model() is not None for model in built))
        model = load(*arguments)
        built.append(weakref.ref(model))
        return model

    evaluate = scores.evaluate

    def falling(task, model, split, step):
        score = evaluate(task, model, split, step)
        return type(score)(dict.fromkeys(score.metrics, 1 / step), score.predictions)

    monkeypatch.setattr(models, "load_model", remembered)
    monkeypatch.setattr(scores, "evaluate", falling)
    assert main(suite()) == 0
    assert len(built) == 2
    assert beside == [0, 0]


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_a_state_holds_in_a_sequence_is_kept_apart_too(kind):
    live = torch.zeros(2)
    copied = kept({"extra": kind([live])})
    live += 1
    assert not copied["extra"][0].any()


def test_the_best_state_is_kept_off_the_device_and_apart_from_the_model():
    from tests.bench.test_train import _observer

    progress, state = run("full", watch=_observer(), observe=3)
    for name, tensor in progress.best["state"]["tensors"].items():
        assert tensor.device.type == "cpu"
        assert tensor.data_ptr() != state["tensors"][name].data_ptr()
        assert not torch.equal(tensor, state["tensors"][name]), "training went on"


def test_selection_is_scored_in_the_precision_of_the_test(suite, scored):
    seen = []

    def look(model: nn.Module, split: str) -> None:
        first = next(layer for layer in model.modules() if isinstance(layer, nn.Linear))

        def note(*_):
            seen.append((split, torch.is_autocast_enabled("cpu")))
            handle.remove()

        handle = first.register_forward_hook(note)

    scored(look)
    assert main(suite(precision="bf16", steps=2)) == 0
    assert {split for split, _ in seen} == {"selection", "test"}
    assert not any(autocast for _, autocast in seen)


def test_autocast_is_back_after_it():
    model, _ = attached()
    model.forward = lambda x: x + 1
    with train.full_precision(model):
        assert "forward" not in vars(model)
    assert model(torch.zeros(1)) == 1
    assert work().examples
