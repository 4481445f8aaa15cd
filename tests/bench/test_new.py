"""`rankbench new`: files that run at once, in the words that they say themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rankbench.bench.cli import main
from rankbench.bench.conformance import check
from rankbench.bench.records import read_runs
from rankbench.bench.suite import load_suite


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def done(command: str) -> None:
    assert main(command.split()[1:]) == 0, command


@pytest.mark.slow
def test_a_first_table_from_an_empty_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that the file says, word for word."""
    done("rankbench new adapter ours")
    said = re.findall(r"^    (rankbench .+?)   ", Path("ours.py").read_text(), re.MULTILINE)
    assert [command.split()[1] for command in said] == ["check", "new", "run"]
    for command in said:
        done(command)
    assert "adapter ours: keeps 13 rules on bert, deberta-v2, llama, gpt2" in capsys.readouterr().out
    done("rankbench report trial.yaml")
    runs = list(read_runs(Path("results/trial")))
    held = {run.adapter: set(run.identity.get("plugins", ())) for run in runs}
    assert held == {"lora": set(), "rslora": set(), "scalora": set(), "ours": {"ours.py"}}
    assert len(runs) == 12
    assert Path("results/trial/report.md").exists()


def test_the_task_keeps_the_rules_of_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done("rankbench new task sums")
    done("rankbench check sums.py")
    assert "task sums: keeps 9 rules" in capsys.readouterr().out
    done("rankbench new suite trial --plugin sums.py")
    suite = load_suite("trial.yaml")
    assert suite.experiments["trial"].task == {"name": "sums"}
    assert suite.experiments["trial"].model.name == "minilm-l6"
    done("rankbench plan trial.yaml --only trial--lora--s0")


@pytest.mark.slow
@pytest.mark.network
def test_the_task_is_trained_on() -> None:
    done("rankbench new task sums")
    done("rankbench new suite trial --plugin sums.py")
    done("rankbench run trial.yaml --only trial--lora--s0")


def test_the_adapter_keeps_the_rules_of_adapters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "ARCHITECTURES", ["bert"])
    done("rankbench new adapter my-own_2")
    done("rankbench check my-own_2.py")
    assert "adapter my-own_2: keeps 13 rules on bert" in capsys.readouterr().out


def test_a_method_that_is_called_as_its_class_has_a_label() -> None:
    done("rankbench new adapter ours")
    Path("ours.py").write_text(Path("ours.py").read_text().replace('{"ours": ', '{"OurMethod": '))
    done("rankbench new suite trial --plugin ours.py")
    made = load_suite("trial.yaml").experiments["trial"].adapters["ourmethod"]
    assert (made.name, made.hyperparameters) == ("OurMethod", {"rank": 4})


def test_a_suite_alone_is_one(tmp_path: Path) -> None:
    done("rankbench new suite first")
    done("rankbench plan first.yaml")
    assert yaml.safe_load(Path("first.yaml").read_text())["plugins"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("adapter there", "there.py is there already; choose another name, or remove it"),
        ("suite there", "there.yaml is there already"),
        ("adapter lora", "'lora' is taken by rankbench"),
        ("task movie", "'movie' is taken by rankbench"),
        ("adapter random", "random.py would hide the module random of"),
        ("adapter My-Method", "'My-Method': use lower-case letters, digits, '-' and '_'; begin with a"),
        ("adapter ../mine", "'../mine': use lower-case letters"),
        ("adapter 2nd", "'2nd': use lower-case letters"),
        ("suite laptop", "laptop is a suite that comes along; choose another name"),
        ("suite a/b", "suite 'a/b': use lower-case letters"),
        ("suite trial --plugin gone.py", "gone.py cannot be read: No such file or directory"),
        ("suite trial --plugin there.py", "there.py holds nothing that a suite can name"),
        ("adapter mine --plugin there.py", "--plugin goes with `rankbench new suite mine`"),
        ("metric mine", "'metric' is not one of 'adapter', 'task', 'suite'"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    words: str, told: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("there.py", "there.yaml"):
        Path(name).write_text("kept = 1\n")
    assert main(["new", *words.split()]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert told in error
    assert sorted(path.name for path in empty_folder.iterdir()) == ["there.py", "there.yaml"]
    assert Path("there.py").read_text() == "kept = 1\n"


def test_a_folder_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for part in ("write_text", "touch"):
        monkeypatch.setattr(Path, part, full)
        assert main(["new", "suite", "trial"]) == 2
        assert capsys.readouterr().err == "rankbench: trial.yaml cannot be written: No space left on device\n"
        assert not Path("trial.yaml").exists()
