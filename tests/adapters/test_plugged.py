"""An adapter of another package: the one of docs/add-an-adapter.md, taken out of its page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rankbench import adapters
from rankbench.bench.cli import main
from tests import golden, plugged
from tests.adapters import test_conformance

ROOT = Path(__file__).parents[2]
NAME = "of-others"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installed, with an adapter that cannot be loaded and one of a name that is taken."""
    page = (ROOT / "docs" / "add-an-adapter.md").read_text()
    (tmp_path / "method_of_others.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    monkeypatch.syspath_prepend(tmp_path)
    mine = "method_of_others:MyMethod"
    entries = {NAME: mine, "lora": mine, "broken": "no_such:X"}
    plugged.install(tmp_path, "1.0", {adapters.OTHERS.group: entries})
    yield tmp_path
    adapters.OTHERS.forget()


@pytest.mark.usefixtures("package")
def test_it_is_registered_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert adapters.names()[: len(adapters.BUILT_IN)] == list(adapters.BUILT_IN)
    assert {NAME, "broken"} <= {*adapters.names()}
    assert (adapters.OTHERS.package(NAME), adapters.OTHERS.package("lora")) == ({"plugged": "1.0"}, {})
    assert adapters.kind("lora").__module__ == "rankbench.adapters.lora"
    assert main(["list", "adapters"]) == 0
    assert NAME in capsys.readouterr().out.split()
    assert NAME not in golden.EVERYTHING["adapters"]
    with pytest.raises(adapters.AdapterError, match="'broken' cannot be loaded from no_such:X"):
        adapters.create("broken")


@pytest.mark.usefixtures("package")
def test_it_conforms() -> None:
    test_conformance.test_trains_the_loss_down_and_merges(NAME, "bert")
    test_conformance.test_resumes_bit_by_bit(NAME, "bert")


@pytest.mark.slow
def test_our_own_tests_pass_beside_it(package: Path) -> None:
    """Collected in a process that finds it from the start."""
    files = "adapters/test_conformance adapters/test_errors test_golden bench/test_cli bench/test_step_counts"
    asked = ("every_adapter_in_the_package", "list_prints_one_name", "nothing_is_held_that_is_gone")
    words = ["-v", "-p", "no:cacheprovider", "-k", " or ".join((NAME, *asked))]
    words += [f"tests/{name}.py" for name in files.split()]
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    passed = [line.split()[0] for line in done.stdout.splitlines() if " PASSED" in line]
    assert all(any(name in test for test in passed) for name in asked)
    found = [test for test in passed if f"[{NAME}" in test]
    assert len(found) > 20
    assert {test.split("::")[0] for test in found} == {"tests/adapters/test_conformance.py"}
