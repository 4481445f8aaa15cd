"""`--json`: valid JSON alone on stdout, the same exit codes, and the figures of the text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rankbench import adapters, tasks
from rankbench.bench.cli import main
from rankbench.bench.suite import load_suite, plan, suite_names
from tests.made_records import accuracy, curve, run_record, save

DOCS = (Path(__file__).parents[2] / "docs" / "on-the-terminal.md").read_text(encoding="utf-8")


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """Raises ValueError where stdout is anything but JSON as the standard has it."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def keys(block: Any) -> set[str]:
    """Of all objects in it, but for those whose keys are names."""
    if isinstance(block, list):
        return set().union(*map(keys, block))
    if not isinstance(block, dict):
        return set()
    named = {"layers", "measured_otherwise"}
    return set(block).union(*(keys(value) for key, value in block.items() if key not in named))


def test_names(capsys):
    known = {"adapters": adapters.names(), "tasks": tasks.names(), "suites": suite_names()}
    for kind, names in known.items():
        assert main(["list", kind, "--json"]) == 0
        assert told(capsys) == {kind: names}


def test_a_plan(suite, capsys):
    assert main(["plan", str(suite), "--seeds", "2"]) == 0
    text = capsys.readouterr().out
    assert main(["plan", str(suite), "--seeds", "2", "--json"]) == 0
    found = told(capsys)
    assert [cell["adapter"] for cell in found["cells"]] == ["lora", "scalora"]
    planned = {run.cell for run in plan(load_suite(str(suite)), seeds=2)}
    assert {name for cell in found["cells"] for name in cell["runs"]} == planned
    assert found["total"]["runs"] == len(planned) == 4
    lora = found["cells"][0]
    assert lora["layers"] == {"query": 2, "value": 2}
    assert re.search(rf"lora +tiny-bert +4 +2 +{lora['parameters']:,} ", text)
    assert found["total"]["gpu_hours"] == sum(2 * cell["gpu_hours"] for cell in found["cells"])
    assert keys(found) <= documented("plan")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """The second has lost LoRA's accuracy and all of full fine-tuning; its losses are ten per cent higher."""
    for name, score, loss, labels in (("a", 0.8, 1.0, ("lora", "full")), ("b", 0.5, 1.1, ("lora",))):
        for label in labels:
            for seed in range(3):
                changes = {
                    "metrics": accuracy(score + seed / 1000),
                    "curve": curve([loss + seed / 1000] * 10),
                }
                save(tmp_path / name, run_record("movie", label, seed, **changes))
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_a_comparison(folders, capsys):
    assert main(["compare", *folders, "--json"]) == 1
    found = told(capsys)
    assert found["regressed"] is True
    assert (found["baseline"], found["candidate"]) == folders
    rows = {(row["adapter"], row["kind"]): row for row in found["rows"]}
    lost = rows["full", None]
    assert (lost["verdict"], lost["fails"], lost["p"], lost["margin"]) == ("missing", True, None, None)
    score = rows["lora", "score"]
    assert (score["verdict"], score["unit"], score["seeds"]) == ("regressed", "points", 3)
    assert score["baseline"] == pytest.approx(80.1)
    assert score["candidate"] == pytest.approx(50.1)
    assert score["change"] == pytest.approx(-30.0)
    loss = rows["lora", "training loss"]
    assert loss["unit"] == "ratio"
    assert loss["lower_is_better"] is True
    assert loss["baseline"] == pytest.approx(1.001, abs=1e-5)
    assert loss["change"] == pytest.approx(1.101 / 1.001 - 1, abs=1e-5)
    assert len({tuple(row) for row in found["rows"]}) == 1  # the same keys in each
    assert keys(found) <= documented("compare")
    assert main(["compare", folders[0], folders[0], "--json"]) == 0
    assert told(capsys)["regressed"] is False


def documented(command: str) -> set[str]:
    """The keys that the page names for a command: in its section, set as code."""
    (section,) = re.findall(rf"^### `rankbench {command} .*?(?=^##|\Z)", DOCS, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`(\w+)`", section))


@pytest.mark.parametrize(
    "words", [["plan", "smok"], ["compare", "nowhere", "smoke"], ["list", "adaptors"], ["show", "x"]]
)
def test_a_mistake_leaves_stdout_empty(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--json"]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert len(seen.err.splitlines()) == 1
