"""Two processes on the CPU train what one process trains: same batches, same losses, same weights; and they
start, stop, go on and die as one run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rankbench.bench.cost.rounds import PRELOADED
from rankbench.bench.records import Curve
from rankbench.bench.run import ranks
from rankbench.bench.run.failures import FailedElsewhere, Failure
from rankbench.bench.run.job import resolve
from rankbench.bench.run.order import Done, Listener, Order
from rankbench.bench.run.runner import run
from rankbench.bench.suite import ConfigError, Model
from tests.bench import shared_work
from tests.bench.shared_work import (
    EVERYWHERE,
    IN_PARTS,
    LONG,
    PAPERS,
    STOPPED,
    TOYS,
    dropped,
    folded,
    merged,
    paper,
    toy,
)
from tests.tiny_architectures import DEBERTA, LLAMA_2, save, spec_of
from tests.tiny_text import llama, tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    for name in (DEBERTA, LLAMA_2):
        save(name, folder / Path(name).name)
    return folder


@pytest.fixture(scope="module")
def ended(folder) -> tuple[Failure, list[Curve]]:
    """How the two processes end, and what they told. They are asked to stop all the time, to which some
    training listens."""
    told: list[Curve] = []
    with pytest.raises(FailedElsewhere) as caught:
        ranks.together(2, partial(shared_work.both, folder), Listener(told.append, lambda: True))
    return caught.value.failure, told


@pytest.fixture(scope="module")
def together(folder, ended) -> list[dict[Any, Any]]:
    """What each of them found, by run."""
    found = folder / shared_work.FOUND
    assert found.exists(), ended[0].traceback
    return pickle.loads(found.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_two_processes_equal_one(name, together):
    alone = toy(name)["losses"]
    first, second = (found[name] for found in together)
    assert first == second
    assert first["losses"] == pytest.approx(alone, rel=1e-9)


@pytest.mark.slow
def test_two_processes_fold_into_bfloat16_as_one(together):
    first, second = (found["bfloat16"] for found in together)
    assert first == second
    assert first["losses"] == pytest.approx(toy("scalora", torch.bfloat16)["losses"], rel=2e-2)


@pytest.mark.slow
def test_what_bfloat16_weights_in_parts_lack_is_in_parts_too(together):
    alone = folded()
    assert alone["held"].tolist() == [7 * 12, 7 * 8]
    assert sum(found["folded"]["held"] for found in together).tolist() == [7 * 12, 7 * 8]
    for found in together:
        for name in ("0", "1"):
            weight = found["folded"][name]
            assert not torch.equal(weight, weight.bfloat16().float())
            torch.testing.assert_close(weight, alone[name], rtol=1e-6, atol=1e-8)
            merged_weight = found["folded"][f"merged {name}"]
            torch.testing.assert_close(merged_weight, alone[f"merged {name}"], rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_each_process_draws_a_dropout_of_its_own(together):
    """The first one's is that of a process alone."""
    first, second = (found["dropped"]["masks"] for found in together)
    assert first[0] == dropped()["masks"][0]
    drawn = [tuple(mask) for mask in (*first, *second)]
    assert len(drawn) == len(set(drawn)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("run", PAPERS, ids=lambda run: run[1])
def test_two_processes_on_a_papers_architecture_equal_one_with_the_whole_batch(run, folder, together):
    whole, half = paper(run, folder, 8, 8, 1)["losses"], paper(run, folder, 4, 4, 1)["losses"]
    first, second = (found[run[1]] for found in together)
    assert first == second
    assert first["losses"] == pytest.approx(whole, rel=PAPERS[run])
    if run == IN_PARTS:
        assert together[0]["in parts"] == together[1]["in parts"]
        assert together[0]["in parts"]["losses"] == pytest.approx(whole, rel=PAPERS[run])
    assert first["losses"] != pytest.approx(half, rel=10 * PAPERS[run])
    assert whole[-1] < (1 - 10 * PAPERS[run]) * whole[0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture"), EVERYWHERE)
def test_every_adapter_trains_and_merges_as_in_one_process_also_with_weights_in_parts(
    name, architecture, together
):
    alone = merged(name, architecture)
    for parts in (False, True):
        for found in together:
            both = found[name, architecture, parts]
            assert both["loss"] == pytest.approx(alone["loss"], rel=1e-6)
            assert both["norm"] == pytest.approx(alone["norm"], rel=1e-6)
            assert both["weights"].keys() == alone["weights"].keys()
            for key, weight in alone["weights"].items():
                np.testing.assert_allclose(both["weights"][key], weight, rtol=1e-6, atol=1e-9, err_msg=key)
    assert [found[name, architecture, False]["held"] for found in together] == [1, 1]
    assert sum(found[name, architecture, True]["held"] for found in together) == pytest.approx(1)
    assert together[0][name, architecture, True]["held"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture", "parts"), LONG)
def test_a_loss_in_chunks_is_the_plain_one_in_two_processes_too(name, architecture, parts, together):
    alone = merged(name, architecture, answers=True)
    for found in together:
        both = found["long", name, parts]
        assert both["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        assert both["norm"] == pytest.approx(alone["norm"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parts"), STOPPED)
def test_processes_stop_after_the_same_step_and_go_on_as_if_they_had_not(name, parts, together):
    """Only the first is asked to. Dropout goes on in each where it was."""
    for in_one_go, resumed, loaded in (found[name, parts] for found in together):
        assert resumed == in_one_go
        assert loaded["weights"] == in_one_go["weights"]
    assert together[0][name, parts] == together[1][name, parts]


@pytest.mark.slow
def test_processes_that_hold_parts_of_an_encoder_read_as_one_that_has_it_whole(together):
    whole = shared_work.representations()
    for found in together:
        torch.testing.assert_close(found["representations"], whole)


@pytest.mark.slow
def test_a_process_keeps_no_more_of_a_model_than_its_part(together):
    """Half of it; all of it stayed where the allocator keeps what is freed."""
    assert [found["growth"] < 0.75 for found in together] == [True, True]


@pytest.mark.slow
def test_the_last_step_is_told_and_what_fails_in_one_process_ends_the_other(ended):
    failure, told = ended
    assert [(curve.step, curve.loss) for curve in told] == [([2], [4.0])]
    assert failure.kind == "memory"
    assert failure.reason.startswith("out of memory: MemoryError; lower batch_size")
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_and_the_next_time_goes_on(tmp_path, monkeypatch):
    """Sharded, from the order to the record, which is that of a run in one process. Its processes are of a
    server that has imported all: starting them anew is tried above."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    monkeypatch.setattr(ranks.multiprocessing, "get_context", lambda _: server)
    for words in (llama(), tokenizer()):
        words.save_pretrained(tmp_path / "model")
    spec = spec_of("smoke", "tiny-causal--scalora--s0")
    spec = spec.model_copy(update={"model": Model(name=str(tmp_path / "model"))})
    training = spec.training.model_copy(update={"steps": 20, "accumulation": 2, "observe": 1})
    alone = run(Order(resolve(spec.model_copy(update={"training": training})), tmp_path / "alone.pt"))
    two = training.model_copy(update={"processes": 2, "shard": True})
    order = Order(resolve(spec.model_copy(update={"training": two})), tmp_path / "two.pt", 0.0)

    def kill_one(curve: Curve) -> None:
        for child in multiprocessing.active_children():
            if curve.step == [3] and child.name == "rank 1":
                os.kill(child.pid, signal.SIGKILL)

    failure = run(order, Listener(kill_one))
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("rank 1 of 2 processes was ended by SIGKILL")
    assert not multiprocessing.active_children()
    steps: list[int] = []
    done = run(order, Listener(lambda curve: steps.extend(curve.step)))
    assert isinstance(done, Done)
    assert isinstance(alone, Done)
    assert steps == list(range(steps[0], 21))
    assert steps[0] >= 3
    assert done.record.timings.legs == 2
    assert done.record.curve.loss == pytest.approx(alone.record.curve.loss, rel=1e-4)
    assert done.record.metrics.best == pytest.approx(alone.record.metrics.best, rel=1e-3)
    assert done.record.parameters == alone.record.parameters
    assert done.record.merge_parity.largest_logit_difference < 1e-5
    assert done.record.forgetting.value == pytest.approx(alone.record.forgetting.value, rel=1e-2)
    assert done.record.forgetting.items == alone.record.forgetting.items
    assert done.record.protocol == alone.record.protocol | {"processes": 2, "shard": True}


def test_fewer_gpus_than_processes_are_told_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="processes: 2, one GPU each, but only 1 can be seen here"):
        ranks.together(2, partial(shared_work.both, Path()), Listener())
