"""What an installed copy is: one top-level name, everything of ours in it, types, a version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from rankbench.bench.cli import main

ROOT = Path(__file__).parents[1]
FOLDERS = ("adapters", "bench", "reports", "tasks", "results/published")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "*.egg-info", "fresh", "runs")


def ours() -> set[str]:
    """Files that a checkout has, as an installed copy names them."""
    return {
        f"rankbench/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree: building leaves folders behind."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (made,) = (tree / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and, as AdapterHub's distribution has one, a package `adapters`."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(site)
    (site / "adapters").mkdir()
    (site / "adapters" / "__init__.py").write_text("hub = True\n")
    return site


def in_a_copy(site: Path, *words: str) -> str:
    """What Python says with `site` before everything else, in a folder that is no checkout."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=site.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_every_folder_of_ours_is_a_package_of_the_wheel() -> None:
    found = {str(Path(name).parent).replace("/", ".") for name in ours()}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(listed) == found


def test_the_wheel_has_every_file_under_one_name(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}
    assert held == ours()
    assert {name.partition("/")[0] for name in held} == {"rankbench"}


def test_adapters_of_another_distribution_stays_what_it_is(installed: Path) -> None:
    code = """
import adapters, rankbench.adapters
print(adapters.hub, rankbench.adapters.__file__)
print("lora" in rankbench.adapters.names())
"""
    hub, ours = in_a_copy(installed, "-c", code).splitlines()
    assert hub == f"True {installed / 'rankbench' / 'adapters' / '__init__.py'}"
    assert ours == "True"


def test_an_installed_copy_knows_suites_and_the_papers_claims(installed: Path) -> None:
    code = f"""
from rankbench.bench.suite import suite_names
from rankbench.reports.claims.published import PUBLISHED, load_papers
print(PUBLISHED.is_relative_to({str(installed)!r}), len(load_papers()) > 5, "smoke" in suite_names())
"""
    assert in_a_copy(installed, "-c", code) == "True True True\n"


def test_a_users_types_are_checked_against_ours(installed: Path, tmp_path: Path) -> None:
    """By PEP 561 a namespace package is typed where its packages say so, each for itself."""
    for package in ("adapters", "bench", "reports", "tasks"):
        assert (installed / "rankbench" / package / "py.typed").exists()
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    shutil.copytree(installed / "rankbench", packages / "rankbench")
    user = tmp_path / "user.py"
    user.write_text("from rankbench.bench.console import print_anywhere\nprint_anywhere(1)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", environment / "bin" / "python", user],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r'user\.py:2: error: Too many arguments for "print_anywhere"', done.stdout), done.stdout


def test_the_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rankbench {version('rankbench')}\n"


@pytest.mark.network
def test_adapter_hubs_package_shares_no_file_with_ours(wheel: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*pip, "adapters"], check=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.py")}
    subprocess.run([*pip, str(wheel)], check=True)
    assert (tmp_path / "adapters" / "__init__.py") in before
    assert all(path.read_bytes() == content for path, content in before.items())
    code = "import rankbench.adapters, importlib.util; print(importlib.util.find_spec('adapters').origin)"
    assert in_a_copy(tmp_path, "-c", code).strip() == str(tmp_path / "adapters" / "__init__.py")
