"""What is tried on a GPU, rehearsed on the processor: also where nothing is installed but what trains."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from rankbench import adapters
from rankbench.bench.cli import main
from rankbench.bench.cost import overhead
from rankbench.bench.cost.rounds import Measured
from rankbench.bench.gpu import measured, right, tiny
from rankbench.bench.gpu.budget import Budget
from rankbench.bench.gpu.tiny import Run
from rankbench.bench.records import Folders
from rankbench.bench.run.checkpoint import Checkpoint, Progress
from rankbench.bench.run.failures import Failure, Interrupted
from rankbench.bench.run.job import Job
from rankbench.bench.suite import Suite, load_suite
from rankbench.tasks import TaskError
from tests.bench.tiny_suite import TINY

REPOSITORY = Path(__file__).parents[2]
BARE = REPOSITORY / "tests" / "bare"

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
    assert told[-1] == "imported: []"
    software = overhead.read_record(tmp_path / "mine/overhead/tiny.json", overhead.OverheadRecord).identity
    assert {"torch", "peft"} <= software["software"].keys()
    assert "datasets" not in software["software"], "what is not there has no version"


few_steps = pytest.mark.usefixtures("four_steps")


@pytest.fixture
def four_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "STEPS", 4)


def found(name: str, **changes: Run | Failure | str) -> right.Verdict:
    """Of a run in this process, where the other one gives the same but for the changes."""
    here = tiny.runs(name)
    return right._verdict(name, here, here | changes)


@few_steps
@pytest.mark.parametrize("name", ["scalora", "dora"])
def test_an_adapter_that_computes_as_the_processor_does_is_right(name: str) -> None:
    verdict = found(name)
    assert verdict.faults == []
    assert len(verdict.kept) == 4


def test_a_loss_that_differs_is_a_fault() -> None:
    one = Run([4.0, 2.0, 1.0], 0.0)
    assert right.distance(one, one) == 0
    assert right.distance(one._replace(losses=[4.0, 2.1, 1.0]), one) == pytest.approx(0.025)
    assert not right.distance(one._replace(losses=[4.0, float("nan"), 1.0]), one) <= right.BOUNDS["float32"]


@few_steps
def test_a_checkpoint_that_lacks_something_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Checkpoint.resume

    def without_moments(checkpoint: Checkpoint, adapter, optimizer, scheduler) -> Progress | None:
        progress = whole(checkpoint, adapter, optimizer, scheduler)
        optimizer.state.clear()
        return progress

    monkeypatch.setattr(Checkpoint, "resume", without_moments)
    (fault,) = found("lora").faults
    assert "resumed" in fault


@few_steps
def test_a_merge_that_is_wrong_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = adapters.kind("lora")
    monkeypatch.setattr(kind, "folded", lambda self, name: {"weight": self.plain(name).weight})
    assert any("merged" in fault for fault in found("lora").faults)


@few_steps
def test_what_fails_on_one_of_both_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is refused on both is none."""
    here = tiny.runs("lora")
    one = right._verdict("lora", here, here | {"float32": "RuntimeError: no"})
    assert one.faults == ["float32, on the processor: RuntimeError: no"]
    failed = Failure("error", "RuntimeError: CUDA error", "Traceback …")
    refused = Failure("refused", "full trains what is frozen", "Traceback …")
    one = right._verdict("lora", here | {"autocast": failed}, dict(here))
    assert one.faults == ["autocast: RuntimeError: CUDA error"]
    assert one.tracebacks == ["Traceback …"]
    both = right._verdict("lora", here | {"autocast": refused}, here | {"autocast": refused.reason})
    assert both.faults == both.tracebacks == []
    assert right._read("")["float32"] == "its process has ended"


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
def rehearsed(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on a suite of two short runs and one measurement, which takes no time; the other process's
    runs are this one's."""
    suite.write_text(yaml.safe_dump(TINY | {"overhead": {"tiny": COST}}))
    stopping_after(monkeypatch, 99)
    monkeypatch.setattr(right, "_on_the_processor", lambda names: nullcontext(map(tiny.runs, names)))
    words = ["--device", "cpu", "--costs", str(suite), "--runs", str(suite), "--results", str(tmp_path)]
    return lambda *more: main(["gpu-check", *words, *more])


@few_steps
def test_what_is_right_then_what_it_costs_then_runs(
    rehearsed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearsed("--only", "lora") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "a processor, PyTorch " + right.torch.__version__ + ", 440 s",
        "differences",
        "lora",
        "1 adapters checked, 0 wrong",
        "costs of mine",
        "runs of mine",
        f"`rankbench report mine --results {tmp_path}` shows its records, here or elsewhere",
    ]
    assert "1 measured, 0 failed" in told[4]
    assert "2 of 2 done, 0 failed" in told[5]
    assert len(list((tmp_path / "mine").glob("runs/*.json"))) == 2


def test_without_time_everything_is_left_and_said(
    rehearsed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearsed("--only", "lora*", "--budget", "0") == 0
    told = capsys.readouterr().out
    assert "0 adapters checked, 0 wrong; no time for lora, lora-plus, lora-fa, lora2, lora-ga" in told
    assert "costs of mine: 0 measured, 0 failed; no time for tiny" in told
    assert "runs of mine: 0 of 2 done, 0 failed" in told


@few_steps
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
        (["--device", "cpu", "--costs", "laptop-sweep"], "suite laptop-sweep has no overhead block"),
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
