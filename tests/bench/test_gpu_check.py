"""What is tried on a GPU, rehearsed on the processor: also where nothing is installed but what trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from rankbench import adapters
from rankbench.adapters.pairs import Product, joined
from rankbench.bench.cli import main
from rankbench.bench.cost import overhead
from rankbench.bench.cost.rounds import Measured
from rankbench.bench.cpu import memory
from rankbench.bench.gpu import abreast, measured, right, tiny, weights
from rankbench.bench.gpu.budget import Budget
from rankbench.bench.gpu.tiny import Run
from rankbench.bench.records import Folders, RunRecord, read_record
from rankbench.bench.run.checkpoint import Checkpoint, Progress
from rankbench.bench.run.failures import Failure, Interrupted
from rankbench.bench.run.job import Job
from rankbench.bench.suite import Suite, load_suite
from rankbench.bench.tune.choices import read as read_choices
from rankbench.tasks import TaskError
from tests.bench.tiny_suite import TINY

REPOSITORY = Path(__file__).parents[2]
BARE = REPOSITORY / "tests" / "bare"
CPU = torch.device("cpu")
GIB = 1024**3

COST = {
    "model": "tiny-bert", "targets": ["query"], "batch": 2, "length": 4, "alone": True, "processes": 1,
    "rounds": 2, "adapters": {"lora": {"rank": 2}},
}  # fmt: skip

REHEARSAL = """
import sys
from rankbench.bench.cli import main
from rankbench.bench.cost import step
step.in_fresh_process = lambda work, settings, process, ask: work(settings, process, ask)  # saves its start
code = main(["gpu-check", "--device", "cpu", "--only", "scalora", *sys.argv[1:]])
import sitecustomize
print("report:", main(["report", f"{sys.argv[-1]}/mine"]))
print("imported:", sorted(sitecustomize.MODULES & sys.modules.keys()))
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says to this process, and to those that it starts, that there is no GPU and no network."""
    for name in ("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.slow
def test_checks_and_costs_need_nothing_but_what_trains(tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(yaml.safe_dump(TINY | {"overhead": {"tiny": COST}}))
    words = ["--costs", str(suite), "--runs", str(suite), "--results", str(tmp_path)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(BARE), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", REHEARSAL, *words]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert "1 adapters checked, 0 wrong" in told
    assert "costs of mine: 1 measured, 0 failed" in told
    assert any(line.startswith("left out, tiny: ModuleNotFoundError: No module named 'pa") for line in told)
    assert told[-2:] == ["report: 2", "imported: []"]
    assert "rankbench: a report needs" in done.stderr.splitlines()[-1]
    software = overhead.read_record(tmp_path / "mine/overhead/tiny.json", overhead.OverheadRecord).identity
    assert {"torch", "peft"} <= software["software"].keys()
    assert "datasets" not in software["software"], "what is not there has no version"


@pytest.fixture(autouse=True, scope="module")
def few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "STEPS", 4)
        yield


@pytest.fixture(scope="module")
def lora(few_steps: None) -> dict[str, Run | Failure]:
    return tiny.runs("lora")


def test_an_adapter_that_computes_as_the_processor_does_is_right() -> None:
    here = tiny.runs("scalora")
    verdict = right._verdict("scalora", here, dict(here))
    assert verdict.faults == []
    settings = ["float32", "autocast", "bfloat16"]
    assert [told.rsplit(" ", 1)[0] for told in verdict.kept] == [
        *settings, "from autocast", "merged", "float32 resumed", "bfloat16 resumed",
    ]  # fmt: skip


def test_a_loss_that_differs_is_a_fault() -> None:
    one = Run([4.0, 2.0, 1.0], 0.0)
    assert right.distance(one, one) == 0
    assert right.distance(one._replace(losses=[4.0, 2.1, 1.0]), one) == pytest.approx(0.025)
    assert not right.distance(one._replace(losses=[4.0, float("nan"), 1.0]), one) <= right.BOUNDS["float32"]


def test_a_checkpoint_that_lacks_something_is_a_fault(
    lora: dict[str, Run | Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = Checkpoint.resume

    def without_moments(checkpoint: Checkpoint, adapter, optimizer, scheduler) -> Progress | None:
        progress = resume(checkpoint, adapter, optimizer, scheduler)
        optimizer.state.clear()
        return progress

    monkeypatch.setattr(Checkpoint, "resume", without_moments)
    faults = right._verdict("lora", lora, dict(lora)).faults
    assert [fault.rsplit(" ", 1)[0] for fault in faults] == ["float32 resumed", "bfloat16 resumed"]


def test_a_merge_that_is_wrong_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = adapters.kind("lora")
    monkeypatch.setattr(kind, "folded", lambda self, name: {"weight": self.plain(name).weight})
    assert tiny.run(tiny.spec_of("lora", "float32")).merging > right.MERGED


def test_what_differs_or_fails_on_one_of_both_is_a_fault(
    lora: dict[str, Run | Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is refused on both is none."""
    monkeypatch.setattr(tiny, "run_in_two", lambda spec: lora[spec.experiment])

    def verdict(here: dict[str, Run | Failure], there: dict[str, Run | str]) -> right.Verdict:
        return right._verdict("lora", dict(lora) | here, dict(lora) | there)

    assert verdict({}, {}).faults == []
    other = lora["float32"]
    assert isinstance(other, Run)
    for setting, by in (("float32", 3e-4), ("autocast", 0.03)):
        moved = Run([loss * (1 + by) for loss in other.losses], 0.0)
        (fault,) = verdict({}, {setting: moved}).faults
        assert fault.startswith(f"{setting} ")
    narrow = verdict({"bfloat16": other._replace(losses=[5.0] * 4)}, {}).faults
    assert any(fault.startswith("from autocast") for fault in narrow)
    assert verdict({"float32": other._replace(merging=0.1)}, {}).faults[0] == "merged 1.0e-01"

    failed = Failure("error", "RuntimeError: CUDA error", "Traceback …")
    one = verdict({"autocast": failed}, {})
    assert one.faults == ["autocast: RuntimeError: CUDA error"]
    assert one.tracebacks == ["Traceback …"]
    there = verdict({}, {"autocast": "RuntimeError: no"})
    assert there.faults == ["autocast, on the processor: RuntimeError: no"]
    assert right._read("")["float32"] == "its process has ended"

    refused = Failure("refused", "full trains what is frozen", "Traceback …")
    both = verdict({"autocast": refused}, {"autocast": refused.reason})
    assert both.faults == both.tracebacks == []


def test_what_happens_to_frozen_weights_is_right() -> None:
    for verdict in (weights.folds(CPU), weights.lent(CPU)):
        assert verdict.faults == []
        assert len(verdict.kept) >= 3


def test_a_pair_that_loses_folds_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_remainder(products: Sequence[Product], scale: float) -> None:
        for value, remainder, rows, columns in products:
            value.copy_(joined(value, remainder).addmm_(rows, columns.t(), alpha=scale))

    monkeypatch.setattr(weights, "add_products", without_remainder)
    (lost,) = weights.folds(CPU).faults
    assert "folds drift" in lost


def test_a_weight_that_stays_moved_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    detach = adapters.Adapter.detach
    monkeypatch.setattr(adapters.Adapter, "detach", lambda adapter: detach(adapter)[:0])
    moved = [f"{setting} after scalora is another model" for setting in ("float32", "bfloat16")]
    assert weights.lent(CPU).faults == moved


@pytest.mark.slow
def test_checks_of_several_processes_are_those_of_one_and_what_a_lost_one_leaves_is_wrong() -> None:
    found = {one.what: one for one in abreast.verdicts(["lora", "no-such", *right.TRIALS], lambda: False, 2)}
    assert found.keys() == {"lora", "no-such", *right.TRIALS}
    assert not any(found[name].faults for name in ("lora", "folds into pairs"))
    lost = ["its process ended with exit code 1"]
    assert found["no-such"].faults == found["a load that is lent"].faults == lost
    assert found["folds into pairs"] == weights.folds(CPU)


def test_no_more_processes_check_than_a_containers_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is ended for want of memory would be told as adapters that are wrong."""
    monkeypatch.setattr(abreast.psutil, "cpu_count", lambda logical: 64)
    monkeypatch.setattr(abreast.os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=500 * GIB))
    for limit, expected in ((500, 10), (13, 3), (2, 1)):
        monkeypatch.setattr(memory, "left_by", lambda _, limit=limit: iter([limit * GIB]))
        assert abreast.processes() == expected


def test_when_time_is_up_nothing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = abreast._started
    monkeypatch.setattr(abreast, "_started", lambda part: started.append(start(part)) or started[-1])
    assert list(abreast.verdicts(["lora", "full"], lambda: True, 2)) == []
    for process in started:
        assert process.returncode == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):  # nor what it had started
            os.killpg(process.pid, 0)
    assert len(started) == 2


def test_a_budget_is_up_when_its_seconds_are_or_the_user_says_so() -> None:
    assert Budget(0).up()
    assert not Budget(1000).up()
    assert Budget(1000).up(0.0)
    assert Budget(1000, lambda: True).up()


def stopping_after(monkeypatch: pytest.MonkeyPatch, count: int) -> Callable[[], bool]:
    """Each measurement is one of a number, and so many are made before time is up."""
    begun: list[int] = []

    def measure(settings, process, ask) -> Measured:
        if len(begun) >= count:
            raise Interrupted
        begun.append(process)
        return Measured({"lora": [1.0, 2.0]}, {"lora": 3.0}, {"lora": 4})

    monkeypatch.setattr(overhead, "_measure", measure)
    return lambda: len(begun) >= count


def test_costs_are_measured_in_the_suites_order_and_what_is_left_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {name: COST | {"processes": 2} for name in ("worth-most", "less", "least")}
    suite = Suite.model_validate({"name": "mine", "experiments": {}, "overhead": costs})
    folders = Folders(tmp_path)
    assert measured.measure(suite, folders, stopping_after(monkeypatch, 3)) == (0, ["less", "least"])
    assert folders.overhead("worth-most").exists()
    assert folders.unfinished_overhead("less").exists(), "its first process is kept"
    assert measured.measure(suite, folders, stopping_after(monkeypatch, 3)) == (0, [])
    assert folders.overhead("least").exists()


def test_runs_whose_data_are_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(job: Job) -> None:
        if job.spec.task["name"] == "movie":
            raise TaskError("cannot fetch vaderSentiment")

    monkeypatch.setattr(measured, "prepare", prepare)
    movie = load_suite("gpu-small").model_dump()["experiments"]["movie"]
    suite = Suite.model_validate({"name": "mine", "experiments": TINY["experiments"] | {"movie": movie}})
    there, lacking = measured.possible(suite)
    assert {spec.experiment for spec in there} == {"tiny"}
    assert lacking == ["movie: cannot fetch vaderSentiment"]


@pytest.fixture
def rehearsed(
    suite: Path, tmp_path: Path, lora: dict[str, Run | Failure], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """The command on a suite of two short runs; what is checked and measured takes no time."""
    suite.write_text(yaml.safe_dump(TINY | {"overhead": {"tiny": COST}}))
    stopping_after(monkeypatch, 99)
    monkeypatch.setattr(tiny, "runs", lambda name: dict(lora))
    monkeypatch.setattr(tiny, "run_in_two", lambda spec: lora[spec.experiment])
    monkeypatch.setattr(right, "_on_the_processor", lambda names: nullcontext(map(tiny.runs, names)))
    for trial in right.TRIALS:
        monkeypatch.setitem(right.TRIALS, trial, lambda device, trial=trial: right.Verdict(trial))
    monkeypatch.setattr(abreast, "processes", lambda: 1)
    words = ["--device", "cpu", "--costs", str(suite), "--runs", str(suite), "--results", str(tmp_path)]
    return lambda *more: main(["gpu-check", *words, *more])


def test_what_is_right_then_what_it_costs_then_runs(
    rehearsed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearsed("--only", "lora") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "a processor, PyTorch " + torch.__version__ + ", 440 s",
        "differences",
        *right.TRIALS,
        "lora",
        "1 adapters checked, 0 wrong",
        "costs of mine",
        "runs of mine",
        f"`rankbench report mine --results {tmp_path}` shows its records, here or elsewhere",
    ]
    assert "1 measured, 0 failed" in told[6]
    assert "2 of 2 done, 0 failed" in told[7]
    assert len(list((tmp_path / "mine").glob("runs/*.json"))) == 2


def test_what_trials_chose_is_what_runs(
    rehearsed: Callable[..., int], suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Untuned runs of a suite that tunes would pass for its own."""
    content = yaml.safe_load(suite.read_text())
    content["experiments"]["tiny"] |= {
        "task": {"name": "tiny-classification", "selection": 8},
        "tune": {"trials": 1, "space": {"learning_rate": [1e-3, 1e-2, "log"]}, "widen": 0},
        "adapters": {"lora": {"rank": 2}},
    }
    suite.write_text(yaml.safe_dump(content))
    assert rehearsed("--only", "lora") == 2
    assert "trials still to be done: 1;" in capsys.readouterr().err
    assert main(["tune", str(suite), "--results", str(tmp_path)]) == 0
    assert rehearsed("--only", "lora") == 0
    (record,) = tmp_path.glob("mine/runs/tiny--lora--*.json")
    chosen = read_choices(tmp_path / "mine/choices.yaml")["tiny"]["lora"].chosen
    assert chosen["learning_rate"] != 1e-3
    assert read_record(record, RunRecord).config["learning_rate"] == chosen["learning_rate"]


def test_without_time_everything_is_left_and_said(
    rehearsed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearsed("--only", "lora*", "--budget", "0") == 0
    told = capsys.readouterr().out
    assert "0 adapters checked, 0 wrong; no time for lora, lora-plus, lora-fa, lora2, lora-ga" in told
    assert "costs of mine: 0 measured, 0 failed; no time for tiny" in told
    assert "runs of mine: 0 of 2 done, 0 failed" in told


def test_a_fault_is_the_commands_failure(
    rehearsed: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(right.BOUNDS, "float32", -1.0)
    assert rehearsed("--only", "lora") == 1
    assert "WRONG, lora: float32 0.0e+00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "PyTorch sees no GPU here; `--device cpu` rehearses this"),
        (["--device", "cuda"], "PyTorch sees no GPU here"),
        (["--device", "tpu"], "'tpu' is not one of"),
        (["--device", "cpu", "--budget", "soon"], "'soon' is no number of seconds"),
        (["--device", "cpu", "--budget", "-1"], "'-1' is no number of seconds"),
        (["--device", "cpu", "--only", "lorra"], "--only 'lorra' matches no adapter"),
        (["--device", "cpu", "--costs", "gpo"], "unknown suite 'gpo'"),
        (["--device", "cpu", "--runs", "nowhere.yaml"], "cannot read suite nowhere.yaml"),
        (["--device", "cpu", "--costs", "rank-sweep"], "suite rank-sweep has no overhead block"),
        (["--device", "cpu", "--runs", "leaderboard"], "trials still to be done: "),
        (["--device", "cpu", "--runs", "overhead"], "suite overhead has no experiments"),
        (["--device", "cpu", "--results", "pyproject.toml"], "cannot write pyproject.toml/smoke/runs"),
        (["--device", "cpu", "--results", "s3://bucket/x"], "--results must be a folder here"),
        (["smoke"], "unexpected extra argument"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpu-check", *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
