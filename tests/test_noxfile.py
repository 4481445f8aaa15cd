"""What the sessions of noxfile.py would run. Nox itself, which need not be installed here, is a stand-in."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

from bench.config import load_suite, suite_names

NOXFILE = Path(__file__).parents[1] / "noxfile.py"


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    nox = MagicMock()
    nox.session = lambda function: function
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
        ["report", "laptop", "--results", "results/fresh"],
    ]


def test_only_a_suite_with_arithmetic_needs_its_package(noxfile: ModuleType) -> None:
    for name in suite_names():
        session = Session(name)
        noxfile.reproduce(session)
        needed = any(one.task["name"] == "arithmetic" for one in load_suite(name).experiments.values())
        assert ("[arithmetic]" in session.installed) == needed, name
