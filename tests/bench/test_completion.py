"""What the shell offers at a TAB, as the script that bash loads gets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rankbench.bench.cli import main
from rankbench.bench.records import Folders, write_record
from rankbench.bench.suite import load_suite, plan, suite_names
from tests.bench.test_startup import SLOW
from tests.bench.tiny_suite import TINY, with_changes
from tests.made_records import run_record


@pytest.fixture
def offered(tmp_path, monkeypatch, capsys):
    """What is offered for the last word of a command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def offer(line: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_RANKBENCH_COMPLETE", "complete_bash")
            patch.setenv("COMP_WORDS", f"rankbench {line}")
            patch.setenv("COMP_CWORD", str(len(line.split(" "))))
            assert main([]) == 0
        told = capsys.readouterr()
        assert told.err == ""
        return told.out.split()

    return offer


def test_commands_options_and_choices(offered):
    assert offered("sh") == ["show"]
    assert "--traceback" in offered("show --")
    assert offered("run smoke --track t") == ["tensorboard", "trackio"]


def test_suites_and_suite_files(offered, tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    assert offered("run ") == [*suite_names(), "mine.yaml"]
    assert offered("plan mi") == ["mine.yaml"]


def test_the_runs_of_a_suite(offered, tmp_path):
    planned = [run.cell for run in plan(load_suite("glue-small"))]
    assert sorted(offered("run glue-small --only ")) == sorted(planned)
    grids = {"lora": {"grid": {"rank": [2, 4]}}, "full": None}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(with_changes(adapters=grids) | {"seeds": [3]}))
    assert offered("run mine.yaml --only tiny--l") == ["tiny--lora-rank2--s3", "tiny--lora-rank4--s3"]
    assert offered("fetch mine.yaml --only tiny--f") == ["tiny--full--s3"]
    staged = {"seeds": {"from": 2, "to": 8, "until": "decided"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(with_changes(adapters=grids) | staged))
    assert offered("run mine.yaml --only tiny--f") == ["tiny--full--s0", "tiny--full--s1"]


@pytest.mark.parametrize("broken", ["experiments: [1", "experiments: {a: 3}", "7", "", "seeds: 3\n\tx: 1"])
def test_a_broken_suite_offers_nothing_and_says_nothing(broken, offered, tmp_path):
    (tmp_path / "mine.yaml").write_text(broken)
    assert offered("run mine.yaml --only ") == []
    assert offered("run nowhere --only ") == []


def test_runs_that_have_ended(offered):
    for suite, seed in (("a", 0), ("b", 0), ("b", 1)):
        place = Folders(Path("results") / suite)
        write_record(place.record(f"movie--lora--s{seed}"), run_record("movie", "lora", seed))
    assert offered("show ") == [
        "a/movie--lora--s0", "b/movie--lora--s0", "b/movie--lora--s1", "movie--lora--s1",
    ]  # fmt: skip
    assert offered("show movie") == ["movie--lora--s1"]
    assert offered("report ") == ["a", "b"]
    assert offered("show --results nowhere ") == []


COMPLETE = """
import sys
from rankbench.bench.cli import main
main([])
print("slow:", [name for name in sys.argv[1].split() if name in sys.modules])
"""


def test_nothing_slow_is_imported():
    environment = {"_RANKBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "rankbench run laptop --only "}
    command = [sys.executable, "-c", COMPLETE, " ".join([*SLOW, "torch", "pandas", "transformers"])]
    done = subprocess.run(
        command,
        env=os.environ | environment | {"COMP_CWORD": "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    *cells, last = done.stdout.splitlines()
    assert "movie--lora--s0" in cells
    assert last == "slow: []"


def test_bash_completes_by_the_script_that_is_shown(tmp_path):
    """The script asks the command of that name."""
    command = tmp_path / "rankbench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rankbench.bench "$@"\n')
    command.chmod(0o755)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    script = """
    source <(rankbench --show-completion)
    COMP_WORDS=(rankbench run mine.yaml --only tiny--s) COMP_CWORD=4
    _rankbench_completion rankbench
    echo "${COMPREPLY[@]}"
    """
    root = Path(__file__).parents[2]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", str(root.parent))}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["tiny--scalora--s0"], done.stderr


def test_completion_that_cannot_be_installed_is_one_line(monkeypatch, capsys, tmp_path):
    from typer import _completion_shared

    monkeypatch.setattr(_completion_shared, "_get_shell_name", lambda: "bash")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert main(["--install-completion"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rankbench: cannot install completion: ")
    assert len(error.splitlines()) == 1
