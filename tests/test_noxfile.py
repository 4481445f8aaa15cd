"""What the sessions of noxfile.py would run. Nox itself, which need not be installed here, is a stand-in."""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import typer

from rankbench.bench.cli import app
from rankbench.bench.suite import load_suite, suite_names

NOXFILE = Path(__file__).parents[1] / "noxfile.py"


class CommandFailed(Exception):
    """As nox's: a command ended with another exit code than 0."""

    def __init__(self, return_code: int) -> None:
        super().__init__(return_code)
        self.return_code = return_code


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    nox = MagicMock()
    nox.session = lambda function=None, **_: function or (lambda decorated: decorated)
    nox.command.CommandFailed = CommandFailed
    monkeypatch.setitem(importlib.import_module("sys").modules, "nox", nox)
    spec = importlib.util.spec_from_file_location("noxfile", NOXFILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Session:
    """Notes what it is asked to do; a run leaves its suite's folder behind."""

    def __init__(self, *words: str) -> None:
        self.posargs = list(words)
        self.installed = ""
        self.commands: list[list[str]] = []

    def install(self, *words: str) -> None:
        self.installed = " ".join(words)

    def run(self, *words: str, **_: object) -> None:
        command = list(words[3:])
        self.commands.append(command)
        if command[0] == "run":
            folder = Path(command[command.index("--results") + 1])
            if folder.is_absolute():
                (folder / Path(command[1]).stem).mkdir(parents=True)


class EnvironmentSession(Session):
    """Notes what the last command is started with, too."""

    def run(self, *words: str, env: dict[str, str] | None = None, **_: object) -> None:
        super().run(*words)
        self.environment = env


def compared(noxfile: ModuleType, *words: str) -> list[list[str]]:
    """The commands, the temporary folder called TMP."""
    session = Session(*words)
    noxfile.compare(session)
    folder = session.commands[0][session.commands[0].index("--results") + 1]
    return [[word.replace(folder, "TMP") for word in command] for command in session.commands]


@pytest.mark.parametrize(
    ("words", "suite", "options", "baseline", "only"),
    [
        ([], "smoke", ["--seeds", "3"], "tests/baseline/smoke", []),
        (["results/laptop"], "laptop", [], "results/laptop", []),
        (["old", "laptop", "--seeds", "2"], "laptop", ["--seeds", "2"], "old", []),
        (["results/laptop", "--only", "m*"], "laptop", ["--only", "m*"], "results/laptop", ["--only", "m*"]),
    ],
)
def test_compare(
    words: list[str], suite: str, options: list[str], baseline: str, only: list[str], noxfile: ModuleType
) -> None:
    assert compared(noxfile, *words) == [
        ["run", suite, "--results", "TMP", *options],
        ["compare", baseline, f"TMP/{suite}", *only],
    ]


def test_compare_names_a_mistake(noxfile: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        noxfile.compare(Session("--seeds", "3"))
    assert stopped.value.code == 2
    assert "the following arguments are required: baseline" in capsys.readouterr().err


def test_reproduce(noxfile: ModuleType) -> None:
    session = Session("laptop", "--checkpoint-every", "5")
    noxfile.reproduce(session)
    assert session.commands == [
        ["run", "laptop", "--results", "results/fresh", "--checkpoint-every", "5"],
        ["report", "laptop", "--results", "results/fresh", "--beside", "results/settled"],
    ]


def test_other_suites_have_no_records_beside_theirs(noxfile: ModuleType) -> None:
    session = Session("smoke", "--results", "here")
    noxfile.reproduce(session)
    assert session.commands[1] == ["report", "smoke", "--results", "here"]


def test_options_of_run_are_passed_on(noxfile: ModuleType) -> None:
    words = ["--retry-failed", "--backend", "slurm", "--slurm", "gpus=1", "--slurm", "time=60"]
    session = Session("laptop", *words)
    noxfile.reproduce(session)
    assert session.commands[0] == ["run", "laptop", "--results", "results/fresh", *words]
    assert "[slurm]" in session.installed
    session = Session("laptop", "--backend", "ray", "--track", "wandb")
    noxfile.reproduce(session)
    assert session.commands[0][-2:] == ["--track", "wandb"]
    assert "[ray,wandb]" in session.installed


def test_there_is_none_that_cannot_be(noxfile: ModuleType) -> None:
    parameters = typer.main.get_command(app).commands["run"].params
    known = {word.removeprefix("--") for each in parameters for word in each.opts if word.startswith("--")}
    assert known - {"results"} == {*noxfile.RUN_OPTIONS, *noxfile.RUN_FLAGS}


def test_the_gpu_session_installs_nothing_and_finds_this_checkout(
    noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noxfile, "checkout", lambda session: "/there")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    session = EnvironmentSession("--device", "cpu")
    noxfile.gpu(session)
    assert session.commands == [["gpu-check", "--device", "cpu"]]
    assert session.environment == {"PYTHONPATH": f"/there{os.pathsep}/mine"}
    assert session.installed == ""


def test_only_a_suite_with_arithmetic_needs_its_package(noxfile: ModuleType) -> None:
    for name in suite_names():
        session = Session(name)
        noxfile.reproduce(session)
        needed = any(one.task["name"] == "arithmetic" for one in load_suite(name).experiments.values())
        assert ("[arithmetic]" in session.installed) == needed, name


class TestSession(Session):
    """Whose pytest ends with the given exit codes, one after the other."""

    __test__ = False

    def __init__(self, *codes: int) -> None:
        super().__init__()
        self.codes = list(codes)
        self.environments: list[dict[str, str]] = []
        self.errors: list[str] = []

    def run(self, *words: str, env: dict[str, str] | None = None, **_: object) -> None:
        if words[0] != "pytest":
            return
        self.commands.append(list(words))
        self.environments.append(env or {})
        if code := self.codes.pop(0):
            raise CommandFailed(code)

    def log(self, message: str) -> None:
        pass

    def error(self, message: str) -> None:
        self.errors.append(message)


def test_tests_run_fast_then_slow_and_numbers_under_other_instructions(noxfile: ModuleType) -> None:
    session = TestSession(0, 0, 0)
    noxfile.tests(session)
    fast, other, slow = (
        [*command[:2], *environment]
        for command, environment in zip(session.commands, session.environments, strict=True)
    )
    assert fast == slow == ["pytest", "-m", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"]
    assert "ATEN_CPU_CAPABILITY" in other
    assert not session.errors


@pytest.mark.parametrize(
    ("codes", "named"),
    [
        ((1, 0, 0), ["not slow and not network (pytest's exit code 1)"]),
        ((0, 5, 0), ["numerical and not slow and not network (pytest's exit code 5)"]),
        ((2, 0, 1), ["not slow and not network (", "; slow or network ("]),
    ],
)
def test_a_failing_part_keeps_no_other_from_running_but_fails_the_session(
    codes: tuple[int, ...], named: list[str], noxfile: ModuleType
) -> None:
    """Code 5 too: no test was found, where there should be some."""
    session = TestSession(*codes)
    noxfile.tests(session)
    assert len(session.commands) == 3
    (message,) = session.errors
    assert all(part in message for part in named)


def test_every_test_is_in_a_part(noxfile: ModuleType) -> None:
    """Of all combinations of marks, each is run in this processor's own setting exactly once."""
    own = [marks for marks, environment in noxfile.TEST_PARTS.items() if not environment]
    for slow, network, numerical in itertools.product([False, True], repeat=3):
        marks = {"slow": slow, "network": network, "numerical": numerical}
        assert sum(eval(part, {}, marks) for part in own) == 1


def test_options_of_pytest_are_passed_on_alone(noxfile: ModuleType) -> None:
    session = TestSession(0)
    session.posargs = ["-k", "nnls"]
    noxfile.tests(session)
    assert session.commands == [["pytest", "-k", "nnls"]]
