"""A machine that is not the driver's does a run as the driver would, or says that it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rankbench.bench.backends import far
from rankbench.bench.backends.far import Unfit, do_far
from rankbench.bench.records.files import claim
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Done, Listener, Order
from rankbench.bench.suite import load_suite, plan


@pytest.fixture
def order(suite, tmp_path) -> Order:
    job = resolve(next(plan(load_suite(str(suite)))))
    return Order(job, tmp_path / "checkpoints" / f"{job.cell}.pt", 0.0)


def test_what_differs_is_named_and_nothing_is_done(order):
    software = {**order.job.identity["software"], "torch": "1.0"}
    other = replace(order, job=replace(order.job, identity=order.job.identity | {"software": software}))
    found = do_far(other, Listener())
    assert isinstance(found, Unfit)
    assert found.reason.startswith("differs from the driver's: software.torch 1.0 -> ")


def test_code_differs_by_one_letter(monkeypatch, tmp_path):
    for folder in far.SOURCES:
        (tmp_path / folder).mkdir()
    (tmp_path / "bench" / "loop.py").write_text("steps = 1")
    monkeypatch.setattr(far, "__file__", str(tmp_path / "bench" / "backends" / "far.py"))
    before = far.code.__wrapped__()
    (tmp_path / "bench" / "loop.pyc").write_text("compiled")
    assert far.code.__wrapped__() == before
    (tmp_path / "bench" / "loop.py").write_text("steps = 2")
    assert far.code.__wrapped__() != before


@pytest.mark.parametrize("shared", [True, False])
def test_the_state_lies_with_the_driver_where_its_folder_is_seen(order, shared):
    with claim(order.checkpoint.with_suffix(".lock" if shared else ".else")):
        with pytest.raises(Interrupted):
            do_far(order, Listener(stopped=lambda: True))
        assert order.checkpoint.exists() == shared
        assert isinstance(do_far(order, Listener()), Done)
