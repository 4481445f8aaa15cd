"""How a machine is shared out, what a worker tells, and what its death means: without starting one."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from rankbench.bench.backends import choose, nursery
from rankbench.bench.backends.lost import DEATHS, Losses, death
from rankbench.bench.backends.workers import shares
from rankbench.bench.backends.workers.process import Voice, Worker
from rankbench.bench.backends.workers.shares import Share, shared_out
from rankbench.bench.backends.workers.worker import sparsely
from rankbench.bench.cpu import groups, quota
from rankbench.bench.records import Curve
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Order
from rankbench.bench.suite import ConfigError, load_suite, plan


@pytest.fixture
def machine(monkeypatch):
    def of(cores: int, gpus: str = "", memory_gib: float = 1000.0) -> None:
        for module in (shares, choose):
            monkeypatch.setattr(module, "cores", lambda: cores)
            monkeypatch.setattr(module, "gpus", lambda: list(gpus))
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        monkeypatch.setattr(choose, "free", lambda: memory_gib * 1024**3)

    return of


def test_no_core_is_given_twice_unless_that_is_said(machine):
    machine(cores=8)
    assert shared_out(2) == [Share(4), Share(4)]
    assert shared_out(3) == [Share(2)] * 3
    assert shared_out(2, threads=8) == [Share(8), Share(8)]
    assert shared_out(9, threads=1) == [Share(1)] * 9
    with pytest.raises(ConfigError, match="--workers 9: only 8 cores here"):
        shared_out(9)


def test_a_user_who_said_one_thread_gets_one(machine, monkeypatch):
    machine(cores=8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # by OMP_NUM_THREADS, for instance
    assert shared_out(2) == [Share(1), Share(1)]


def test_each_worker_has_gpus_of_its_own_unless_they_may_share(machine):
    machine(cores=8, gpus="3579")
    assert [share.gpus for share in shared_out(4)] == [("3",), ("5",), ("7",), ("9",)]
    assert [share.gpus for share in shared_out(2)] == [("3", "5"), ("7", "9")]
    with pytest.raises(ConfigError, match="--workers 6: only 4 GPUs here"):
        shared_out(6)
    shared = [share.gpus for share in shared_out(6, share_gpus=True)]
    assert shared == [("3",), ("5",), ("7",), ("9",), ("3",), ("5",)]


def test_a_process_is_started_with_its_share():
    environment = Share(3, ("GPU-a", "GPU-b")).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in Share(3).environment


def test_a_process_that_has_imported_all_keeps_to_its_share(monkeypatch):
    before = torch.get_num_threads()
    for name in shares.THREADS:
        monkeypatch.setenv(name, "7")
    threadpool_limits(2)
    assert {pool["num_threads"] for pool in threadpool_info()} == {2}
    try:
        shares.keep_to(Share(1))
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert {os.environ[name] for name in shares.THREADS} == {"1"}
    finally:
        threadpool_limits(before)
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("workers", "threads", "begins"),
    [(2, "1", True), (1, "2", False), (None, "1", False), (None, "2", True), (None, "2,1", True)],
)
def test_a_nursery_begins_where_there_may_be_workers(workers, threads, begins, monkeypatch):
    begun = []
    monkeypatch.setattr(nursery, "begin", lambda: begun.append(True))
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    nursery.expect(workers)
    assert not begun, "all is imported here already"
    monkeypatch.delitem(sys.modules, "torch")
    nursery.expect(workers)
    assert bool(begun) == begins


def test_what_a_nursery_imports_is_there():
    """Its server says nothing where it is not."""
    assert find_spec(nursery.PRELOADED)


def test_a_worker_is_buried_when_it_has_ended_and_not_when_its_nursery_has():
    ours, theirs = multiprocessing.Pipe()
    worker = Worker.__new__(Worker)
    worker.channel, worker.voice = ours, Voice(multiprocessing.Pipe(duplex=False)[0])
    worker.process = SimpleNamespace(join=lambda: None, exitcode=255)  # nobody is left to tell
    began = time.monotonic()
    threading.Timer(0.3, theirs.close).start()
    assert worker.bury(set()) == 255
    assert time.monotonic() - began >= 0.29


def test_a_worker_that_has_much_to_say_at_its_end_is_heard(capsys):
    """A pipe holds 64 KiB."""
    ours, theirs = multiprocessing.Pipe()
    end, mouth = multiprocessing.Pipe(duplex=False)
    worker = Worker.__new__(Worker)
    worker.channel, worker.voice = ours, Voice(end)
    worker.process = SimpleNamespace(join=lambda: None, exitcode=0)

    def say_and_end() -> None:
        with os.fdopen(os.dup(mouth.fileno()), "w") as said:
            said.writelines(f"line {number}\n" for number in range(20_000))
        theirs.close()

    threading.Thread(target=say_and_end, daemon=True).start()
    burial = threading.Thread(target=worker.bury, args=[set()], daemon=True)
    burial.start()
    burial.join(10)
    assert not burial.is_alive()
    assert len(capsys.readouterr().err.splitlines()) == 20_000


def test_what_is_fastest_keeps_to_cores_gpus_memory_and_runs(machine, suite):
    specs = list(plan(load_suite(str(suite)), seeds=10))
    for found, have, threads in [
        (4, {"cores": 4}, None),
        (2, {"cores": 4}, 2),
        (20, {"cores": 64}, None),
        (2, {"cores": 64, "gpus": "01"}, None),
        (3, {"cores": 64, "memory_gib": 5.0}, None),  # 1.5 GiB and a little
        (1, {"cores": 64, "memory_gib": 1.0}, None),
    ]:
        machine(**have)
        assert choose.fastest(specs, threads) == found, have
    machine(cores=64)
    assert [choose.fastest(specs, missing=count) for count in (0, 1, 5)] == [1, 1, 5]
    several = specs[0].training.model_copy(update={"processes": 2})
    machine(cores=64, gpus="01234567")
    two_each = [one.model_copy(update={"training": several}) for one in specs]
    assert choose.fastest(two_each) == choose.fastest(two_each, missing=4) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "3"], "--workers 3: only 2 cores here"),
        (["--workers", "2", "--backend", "here"], "leave out --workers 2"),
        (["--workers", "0"], "not a positive whole number"),
        (["--backend", "wrokers"], "'wrokers' is not one of"),
        (["--share-gpus"], "say how many --workers are to share them"),
        (["--address", "auto"], "say --backend ray, too"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(words, message, run, machine, tmp_path, capsys):
    machine(cores=2)
    assert run(*words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_worker_tells_its_steps_now_and_then(whole, monkeypatch):
    """A run of several processes gives it one step at a time."""
    now, told = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tick, curve = sparsely(told.append), Curve()
    for step in range(1, 31):
        for entries, value in zip(vars(curve).values(), (step, 0.5, 0.0, 1.0, 1e-3, 0.01), strict=True):
            entries.append(value)
        tick(curve if whole else curve.last)
        now[0] += 0.0101
    assert [each.step for each in told] == [[1], list(range(2, 22))]
    assert all(each.loss == [0.5] * len(each.step) for each in told)


def test_what_workers_print_is_shown_once_and_in_whole_lines(capsys):
    known: set[str] = set()
    voices, mouths = zip(*(multiprocessing.Pipe(duplex=False) for _ in range(2)), strict=True)
    first, second = (Voice(end) for end in voices)
    for voice, mouth, printed, shown in [
        (first, mouths[0], "a warning\nhalf a ", "a warning\n"),
        (second, mouths[1], "a warning\nanother\n\n", "another\n"),
        (first, mouths[0], "line\n10%\r100%\n", "half a line\n100%\n"),
    ]:
        os.write(mouth.fileno(), printed.encode())
        voice.pass_on(known)
        assert capsys.readouterr().err == shown
    assert first.last_words == "a warning\nhalf a line\n10%\r100%\n"


@pytest.mark.parametrize(
    ("exit_code", "kind", "how"),
    [
        (-9, "memory", "was ended by SIGKILL"),
        (-11, "error", "was ended by SIGSEGV"),
        (-15, "environment", "was ended by SIGTERM"),
        (-40, "environment", "was ended by signal 40"),
        (3, "error", "ended with exit code 3"),
    ],
)
def test_a_death_has_a_name_and_a_kind(exit_code, kind, how):
    found = death(exit_code)
    assert (found.kind, found.how) == (kind, how)


def test_a_run_fails_with_its_third_worker_and_only_with_that(suite, tmp_path, capsys):
    first, second = (Order(resolve(one), tmp_path) for one in plan(load_suite(str(suite))))
    losses, elsewhere = Losses(), {"threads": 5}
    for _ in range(DEATHS - 1):
        assert losses.add(first, death(-9), "", elsewhere) is None
    assert losses.add(second, death(-9), "", elsewhere) is None, "another run has its own count"
    assert capsys.readouterr().err.count("tiny--lora--s0: its worker was ended by SIGKILL") == 2
    failure = losses.add(first, death(-9), "the last words", elsewhere)
    assert (failure.kind, failure.traceback, failure.provenance) == ("memory", "the last words", elsewhere)
    assert "SIGKILL, 3 times" in failure.reason
    assert "use fewer workers, lower batch_size" in failure.reason


def test_one_run_at_a_time_has_the_threads_that_a_container_may_use(monkeypatch):
    """PyTorch takes one for each of the machine's cores: on two of 64 they would wait for each other."""
    said = []
    monkeypatch.setattr(quota, "quotas", lambda _: iter([1.5, 8.0]))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    for count in (None, 3):
        assert list(choose._here(count, iter(()), None)) == []
    assert said == [2, 64, 3, 64]


def test_quotas_are_those_of_the_groups_around_a_process(tmp_path):
    for folder, limit in (("", "max 100000"), ("pod", "250000 100000"), ("pod/app", "max 100000")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(f"{limit}\n")
    assert [*quota.quotas(groups.of("0::/pod/app\n", tmp_path, "cpu"))] == [2.5]
    assert [*quota.quotas(groups.of("0::/not/there\n", tmp_path, "cpu"))] == []
    for name, value in (("quota", "50000"), ("period", "100000")):
        (tmp_path / "cpu/box").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"cpu/box/cpu.cfs_{name}_us").write_text(f"{value}\n")
    membership = "4:memory:/box\n3:cpu,cpuacct:/box\n"
    assert [*quota.quotas(groups.of(membership, tmp_path, "cpu"))] == [0.5]
    (tmp_path / "cpu/box/cpu.cfs_quota_us").write_text("-1\n")
    assert [*quota.quotas(groups.of(membership, tmp_path, "cpu"))] == []


def test_threads_of_the_runs_alone(run, tmp_path):
    before = torch.get_num_threads()
    assert run("--threads", "2", "--only", "*lora--s0") == 0
    record = (tmp_path / "results/mine/runs/tiny--lora--s0.json").read_text()
    assert '"threads":2' in record
    assert torch.get_num_threads() == before
