"""A suite's own Python files: what of them a run depends on, where they go, and what is told of mistakes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import yaml

from rankbench import adapters, tasks
from rankbench.bench.cli import main
from rankbench.bench.cost import overhead
from rankbench.bench.cost.rounds import apart
from rankbench.bench.records import Folders, differences, fingerprint, read_runs
from rankbench.bench.run.job import resolve
from rankbench.bench.run.runner import Order
from rankbench.bench.suite import RunSpec, load_suite, plan
from rankbench.bench.suite.plugged import TABLES
from rankbench.tasks import metrics
from tests.bench.own_method import BESIDE, METHOD, write, write_method
from tests.bench.tiny_suite import TINY
from tests.plugged import install

ROOT = Path(__file__).parents[2]

TASK = """
from rankbench.tasks.base import Score
from rankbench.tasks.metrics import Metric, Parts
from rankbench.tasks.toy.synthetic import TinyClassification

class Sums(TinyClassification):
    metric = "missed"
    selection_metric = "accuracy"

    def score(self, model, split):
        found = super().score(model, split)
        missed = {"missed": 1 - found.metrics["accuracy"]}
        return Score(found.metrics | missed, found.predictions)

def of(target, prediction):
    return 1.0 * (target != prediction)

TASKS = {"sums": Sums}
METRICS = {
    "missed": Metric(
        0.0, 1.0, lower_is_better=True, percent=True,
        compute=lambda target, prediction: float(of(target, prediction).mean()),
        parts=Parts(("target", "prediction"), of), constant=0.25,
    )
}
"""


@pytest.fixture
def method(tmp_path: Path) -> Path:
    return write_method(tmp_path)


@pytest.fixture
def suite(tmp_path: Path, method: Path) -> Path:
    """LoRA beside the method of the file."""
    return write(tmp_path, plugins=["mine.py"], adapters={"lora": {"rank": 2}, "mine": {"rank": 2}})


def specs(suite: Path) -> dict[str, RunSpec]:
    return {spec.label: spec for spec in plan(load_suite(str(suite)))}


def test_a_file_is_found_from_home(tmp_path: Path, method: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (plugin,) = load_suite(str(write(elsewhere, plugins="~/mine.py"))).plugins
    assert plugin.path == str(method)


def test_an_edited_method_is_run_again_and_nothing_else(
    run: Callable[..., int], tmp_path: Path, method: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def again() -> tuple[str, str]:
        assert run() == 0
        return tuple(capsys.readouterr())

    assert "runs: 2 done, 0 there already" in again()[0]
    assert "runs: 0 done, 2 there already" in again()[0]
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert "runs: 0 done, 2 there already" in again()[0]
    before = (tmp_path / "results/mine/runs/tiny--mine--s0.json").read_text()
    for edited in (tmp_path / "beside.py", method):
        edited.write_text(edited.read_text() + "# a comment counts, too\n")
        out, err = again()
        assert "runs: 1 done, 1 there already" in out
        assert f"1 run is done again: plugins.{edited.name} " in err
    (tmp_path / "beside.py").write_text(BESIDE.replace("2.0", "3.0"))
    assert "runs: 1 done, 1 there already" in again()[0]
    after = json.loads((tmp_path / "results/mine/runs/tiny--mine--s0.json").read_text())
    assert after["curve"]["loss"] != json.loads(before)["curve"]["loss"], "the edit is what was run"
    method.write_text(METHOD)
    (tmp_path / "beside.py").write_text(BESIDE)
    assert "runs: 1 done, 1 there already" in again()[0]
    restored = json.loads((tmp_path / "results/mine/runs/tiny--mine--s0.json").read_text())
    assert restored["fingerprint"] == json.loads(before)["fingerprint"]


def test_a_half_done_edit_is_not_averaged(
    suite: Path, run: Callable[..., int], tmp_path: Path, method: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.write_text(suite.read_text().replace("seeds:\n- 0\n", "seeds: [0, 1]\n"))
    assert run() == 0
    method.write_text(METHOD + "\n")
    assert run("--only", "*mine--s0") == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path / "results/mine")]) == 2
    told = capsys.readouterr().err
    assert "the seeds of tiny--mine differ in plugins.mine.py; finish `rankbench run" in told


def test_a_run_that_uses_nothing_of_it_is_the_run_that_it_was(tmp_path: Path, suite: Path) -> None:
    beside = specs(suite)
    alone = specs(write(tmp_path, name="alone.yaml", adapters={"lora": {"rank": 2}}))["lora"]
    with_it, without = resolve(beside["lora"]), resolve(alone)
    assert with_it.identity == without.identity
    assert "plugins" not in with_it.config
    assert fingerprint(with_it.identity) == fingerprint(without.identity)
    assert beside["lora"].plugins == ()
    own = resolve(beside["mine"])
    assert set(own.identity["plugins"]) == set(own.config["plugins"]) == {"mine.py", "beside.py"}


@pytest.mark.slow
def test_another_process_needs_no_file(suite: Path, method: Path, tmp_path: Path) -> None:
    """As a worker, a rank, or a node of a cluster has it: an order, and nothing else."""
    spec = specs(suite)["mine"]
    order = Order(resolve(spec), Folders(tmp_path / "results").checkpoint(spec.cell))
    (tmp_path / "order").write_bytes(pickle.dumps(order))
    for path in (method, tmp_path / "beside.py"):
        path.unlink()
    code = (
        "import pickle, sys; from pathlib import Path; from rankbench.bench.run.runner import run\n"
        "from rankbench.bench.run.start import differing\n"
        "order = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "print(differing(order.job), run(order).record.identity == order.job.identity)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "order")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] True"


@pytest.mark.slow
def test_the_ranks_of_a_run_have_it(suite: Path, run: Callable[..., int], tmp_path: Path) -> None:
    training = TINY["experiments"]["tiny"]["training"] | {"processes": 2, "accumulation": 2}
    write(tmp_path, plugins=["mine.py"], adapters={"mine": {"rank": 2}}, training=training)
    assert run() == 0
    (record,) = read_runs(tmp_path / "results/mine")
    assert set(record.identity["plugins"]) == {"mine.py", "beside.py"}


def names(channel: Connection, *_: object) -> None:
    channel.send(adapters.names())


@pytest.mark.slow
def test_processes_that_costs_are_measured_in_have_it(suite: Path, method: Path) -> None:
    cost = {"model": "tiny-bert", "targets": ["query"], "batch": 2, "length": 4}
    content = yaml.safe_load(suite.read_text())
    content["overhead"] = {
        name: cost | {"adapters": {name: {"rank": 2}, "full": {}}} for name in ("lora", "mine")
    }
    suite.write_text(yaml.safe_dump(content))
    before = load_suite(str(suite)).overhead
    identities = {name: overhead.identity(before[name]) for name in before}
    with apart(names, None, "names", anew=True) as receive:
        assert "mine" in receive()
    method.write_text(METHOD + "\n")
    after = load_suite(str(suite)).overhead
    assert overhead.identity(after["lora"]) == identities["lora"]
    assert differences(identities["mine"], overhead.identity(after["mine"]))[0].startswith("plugins.mine.py ")


@pytest.fixture
def own_task(tmp_path: Path, suite: Path) -> Path:
    """The suite with a file's task, scored by the file's metric."""
    assert suite.parent == tmp_path
    (tmp_path / "sums.py").write_text(TASK)
    return write(tmp_path, plugins="sums.py", task={"name": "sums"})


def test_records_of_a_files_metric_are_read_without_it(
    own_task: Path, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results" / "mine"
    assert run() == 0
    (record, *_) = read_runs(folder)
    assert record.metrics.scale.lower_is_better
    assert set(record.protocol["plugins"]) == set(record.identity["plugins"]) == {"sums.py"}

    def report(asked: Path) -> str:
        assert main(["report", str(asked), "--results", str(tmp_path / "results")]) == 0
        return (folder / "report.md").read_text()

    known = report(own_task)
    assert "A constant answer scores 25.00." in known
    for others in TABLES.values():
        others.plugged = {}
    unknown = report(folder)
    assert "Nothing is known here of the metric `missed`" in unknown
    gone = [line for line in known.splitlines() if line not in unknown.splitlines()]
    assert all("constant" in line for line in gone), gone
    assert "plugins.sums.py" in unknown


def test_parts_that_are_not_the_score_are_refused(
    own_task: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "sums.py").write_text(TASK.replace("1.0 * (target", "2.0 * (target"))
    assert run() == 1
    failure = json.loads((tmp_path / "results/mine/failed/tiny--lora--s0.json").read_text())
    assert "the parts of metric 'missed' have the mean" in failure["reason"]


def test_a_metric_outside_the_range_of_its_entry_is_refused(
    own_task: Path, run: Callable[..., int], tmp_path: Path
) -> None:
    """Reports end intervals there."""
    (tmp_path / "sums.py").write_text(TASK.replace("0.0, 1.0,", "2.0, 3.0,"))
    assert run() == 1
    failure = json.loads((tmp_path / "results/mine/failed/tiny--lora--s0.json").read_text())
    assert "outside the range of its entry, 2 to 3; give it the `low` and `high`" in failure["reason"]


def test_what_a_files_own_code_raises_is_one_line_with_its_place(
    suite: Path, method: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At whatever command: here where a plan attaches it."""
    method.write_text(
        METHOD.replace("return beside", "raise RuntimeError('no\\nscale')\n        return beside")
    )
    assert main(["plan", str(suite)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    line = method.read_text().splitlines().index("        raise RuntimeError('no\\nscale')") + 1
    assert error == f"rankbench: {method}, line {line}: RuntimeError: no scale"


def test_an_option_without_a_default_is_asked_for(
    own_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "    def __init__(self, name, *, words):\n        super().__init__(name)\n\n    def score"
    (tmp_path / "sums.py").write_text(TASK.replace("    def score", own))
    assert main(["plan", str(own_task)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.endswith("task: task sums needs the option 'words', which has no default; say it")


@pytest.mark.parametrize(
    ("plugins", "text", "told"),
    [
        (["gone.py"], "", "gone.py cannot be read: No such file or directory"),
        (["bad.py"], "def f(:\n", "bad.py, line 1: invalid syntax"),
        (
            ["bad.py"],
            "import no_such_package\n",
            "bad.py, line 1: ModuleNotFoundError: No module named 'no_such",
        ),
        (["bad.py"], "1 / 0\n", "bad.py, line 1: ZeroDivisionError: division by zero"),
        (["bad.py"], "x = 1\n", "bad.py holds nothing that a suite can name: end it with ADAPTERS ="),
        (["bad.py"], "ADAPTERS = {}\n", "bad.py holds nothing that a suite can name: end it with ADAPTERS ="),
        (["bad.py"], "ADAPTERS = [1]\n", "bad.py: ADAPTERS is a dictionary of what the file holds, not [1]"),
        (["bad.py"], "ADAPTERS = {'x': 1}\n", "bad.py: ADAPTERS: 'x' is no subclass of adapters.Adapter"),
        (["bad.py"], "ADAPTERS = {1: 1}\n", "bad.py: ADAPTERS: 1 is no name"),
        (["bad.py"], "TASKS = {'x': print}\n", "bad.py: TASKS: 'x' is no subclass of tasks.Task"),
        (["bad.py"], "METRICS = {'x': print}\n", "bad.py: METRICS: 'x' is no tasks.metrics.Metric"),
        (
            ["bad.py"],
            "from rankbench.adapters.lora import Lora\nADAPTERS = {'lora': Lora}\n",
            "bad.py: ADAPTERS: 'lora' is taken by rankbench; choose another name",
        ),
        (
            ["bad.py"],
            "from rankbench.tasks.metrics import METRICS as M\nMETRICS = {'f1': M['f1']}\n",
            "bad.py: METRICS: 'f1' is taken by rankbench; choose",
        ),
        (
            ["bad.py"],
            "from rankbench.adapters import Adapter\nclass X(Adapter): pass\nADAPTERS = {'x': X}\n",
            "bad.py: ADAPTERS: 'x' has no name; give it one",
        ),
        (
            ["bad.py"],
            "from rankbench.adapters import Adapter\nclass X(Adapter): name, example = 'x', None\n"
            "ADAPTERS = {'x': X}\n",
            "bad.py: ADAPTERS: 'x' has the example None; it is hyperparameters by name, as {'rank': 2}",
        ),
        (
            ["bad.py"],
            "from rankbench.tasks import Task\nclass X(Task): pass\nTASKS = {'x': X}\n",
            "bad.py: TASKS: 'x' lacks collate, loss, ",
        ),
        (
            ["mine.py", "bad.py"],
            "from rankbench.adapters.lora import Lora\nADAPTERS = {'mine': Lora}\n",
            "bad.py: ADAPTERS: 'mine' is in mine.py too; choose another name in one of them",
        ),
        (["mine.py", "bad/mine.py"], "", "are both the module mine; rename one"),
        (3, "", "plugins: give the paths of Python files, as in [mine.py], not 3"),
        ([3], "", "plugins: give the paths of Python files, as in [mine.py], not [3]"),
        (["mine.yaml"], "", "mine.yaml is no plug-in: it takes a Python file"),
    ],
)
def test_a_mistake_is_one_line(
    plugins: Any, text: str, told: str, tmp_path: Path, method: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(text)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "mine.py").write_text(METHOD)
    suite = write(tmp_path, plugins=plugins)
    assert main(["run", str(suite), "--results", str(tmp_path / "results")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("rankbench: mine.yaml: plugins: ")
    assert told in error
    assert not (tmp_path / "results").exists()


def test_a_method_without_its_file_is_unknown(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_suite(str(suite))
    suite.write_text(suite.read_text().replace("plugins:\n- mine.py\n", ""))
    assert main(["plan", str(suite)]) == 2
    assert "unknown adapter 'mine'" in capsys.readouterr().err


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Registers the task and the metric by entry points, under other names."""
    (tmp_path / "sums_of_others.py").write_text(
        TASK.replace('"missed"', '"missed-of-others"') + "MISSED = METRICS['missed-of-others']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {"accuracy": "sums_of_others:MISSED", "broken": "no_such:X"}
    groups = {
        "rankbench.tasks": {"sums-of-others": "sums_of_others:Sums", "cola": "sums_of_others:Sums"},
        "rankbench.metrics": {"missed-of-others": "sums_of_others:MISSED"} | own,
    }
    install(tmp_path, "1.0", groups)
    yield tmp_path
    for others in TABLES.values():
        others.forget()


def test_tasks_and_metrics_of_packages_are_known_by_name(package: Path, run: Callable[..., int]) -> None:
    assert "sums-of-others" in tasks.names()
    assert type(tasks.create("cola")).__module__ == "rankbench.tasks.text.glue", "a name of ours stays ours"
    assert metrics.metric("missed-of-others").lower_is_better
    assert not metrics.metric("accuracy").lower_is_better
    with pytest.raises(tasks.TaskError, match="metric 'broken' cannot be loaded from no_such:X"):
        metrics.find("broken")
    suite = write(package, task={"name": "sums-of-others"}, adapters={"lora": {"rank": 2}})
    spec = specs(suite)["lora"]
    other = spec.model_copy(update={"task": {"name": "tiny-classification"}})
    assert resolve(spec).identity["software"]["plugged"] == "1.0"
    assert "plugged" not in resolve(other).identity["software"]
    assert run() == 0
    (record,) = read_runs(package / "results" / "mine")
    assert record.metrics.lower_is_better


def test_no_file_takes_a_name_of_a_package(
    package: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (package / "mine.py").write_text(TASK.replace('"sums"', '"sums-of-others"'))
    write(package, plugins=["mine.py"])
    assert run() == 2
    told = "TASKS: 'sums-of-others' is taken by the package plugged"
    assert told in capsys.readouterr().err


def test_what_a_suite_names_is_forgotten_with_the_next(suite: Path, tmp_path: Path) -> None:
    load_suite(str(suite))
    assert "mine" in adapters.names()
    load_suite(str(write(tmp_path, name="alone.yaml")))
    assert "mine" not in adapters.names()
