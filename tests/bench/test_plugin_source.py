"""A file is read with the modules beside it that it imports, and run from what was read."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from rankbench.adapters.lora import Lora
from rankbench.bench.plugins import PluginError, read
from rankbench.bench.plugins.loading import load

FILES = {
    "mine.py": "import os.path, beside\nfrom pack import inner as also\nHELD = [beside.x, also.x]\n"
    "def late():\n    import lazy\n    return lazy.x\n",
    "beside.py": "x = 1\n",
    "lazy.py": "from pack.deep import x\n",
    "pack/__init__.py": "",
    "pack/inner.py": "from .deep import x\n",
    "pack/deep.py": "x = 2\n",
    "other.py": "x = 3\n",
}
IMPORTED = FILES.keys() - {"other.py"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_it_imports_is_hashed_and_nothing_else(folder: Path) -> None:
    found = read(folder / "mine.py").hashes
    assert found == {name: hashlib.sha256(FILES[name].encode()).hexdigest() for name in IMPORTED}


def test_a_clone_of_rankbench_beside_it_is_no_part_of_it(folder: Path) -> None:
    text = "from rankbench.adapters.lora import Lora\nimport beside\n"
    (folder / "mine.py").write_text(text)
    (folder / "rankbench/adapters").mkdir(parents=True)
    (folder / "rankbench/adapters/lora.py").write_text("class Lora: ...\n")
    plugin = read(folder / "mine.py")
    assert plugin.hashes.keys() == {"mine.py", "beside.py"}
    assert load(plugin).Lora is Lora


def test_it_runs_from_what_was_read(folder: Path) -> None:
    """Once, whatever becomes of the files, and in a process that has none."""
    plugin = read(folder / "mine.py")
    for path in folder.rglob("*.py"):
        path.unlink()
    module = load(pickle.loads(pickle.dumps(plugin)))
    assert (module.HELD, module.late()) == ([1, 2], 2)
    assert load(plugin) is module


@pytest.mark.parametrize("edited", sorted(IMPORTED))
def test_an_edit_of_any_of_them_is_another_one(folder: Path, edited: str) -> None:
    before = read(folder / "mine.py")
    module = load(before)
    (folder / edited).write_text(FILES[edited] + "\n")
    after = read(folder / "mine.py")
    assert {name for name in before.hashes if before.hashes[name] != after.hashes[name]} == {edited}
    assert load(after) is not module


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("bad.py", "x = (\n", r"bad\.py, line 1: '\(' was never closed"),
        (
            "bad.py",
            "x = 1\nimport no_such_module\n",
            r"bad\.py, line 2: ModuleNotFoundError: No module",
        ),
        ("bad.py", "import beside\nbeside.y\n", r"bad\.py, line 2: AttributeError"),
        ("bad.py", "def f():\n    1 / 0\nf()\n", r"bad\.py, line 2: ZeroDivisionError: division by zero"),
        ("bad.py", "raise SystemExit(3)\n", r"bad\.py, line 1: SystemExit: 3"),
        ("bad.py", "raise ValueError('two\\nlines')\n", r"bad\.py, line 1: ValueError: two lines$"),
        ("bad.py", "x = '\0'\n", r"bad\.py: source code string cannot contain null bytes"),
        ("bad.py", "return 3\n", r"bad\.py: SyntaxError: 'return' outside function"),
        ("random.py", "x = 1\n", r"random\.py would hide the module random of .*; rename it"),
        ("rankbench.py", "x = 1\n", r"rankbench\.py would hide the module rankbench; rename it"),
        ("torch.py", "x = 1\n", r"torch\.py would hide the module torch of .*; rename it"),
        ("my.bad.py", "x = 1\n", r"my\.bad\.py is no plug-in"),
        ("__init__.py", "x = 1\n", r"__init__\.py is no plug-in"),
        ("bad.txt", "x = 1\n", r"bad\.txt is no plug-in: it takes a Python file"),
    ],
)
def test_what_cannot_be_used_is_one_line(folder: Path, name: str, text: str, told: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(PluginError, match=told) as caught:
        load(read(folder / name))
    assert "\n" not in str(caught.value)


def test_a_broken_module_beside_it_is_named(folder: Path) -> None:
    (folder / "pack" / "deep.py").write_text("def x(:\n")
    with pytest.raises(PluginError, match=r"pack/deep\.py, line 1: invalid syntax"):
        read(folder / "mine.py")


def test_a_file_that_is_not_there_is_one_line(folder: Path) -> None:
    for place in ("gone.py", "no/such/mine.py"):
        with pytest.raises(PluginError, match=r"cannot be read: No such file or directory"):
            read(folder / place)
    (folder / "folder.py").mkdir()
    with pytest.raises(PluginError, match=r"folder\.py cannot be read: Is a directory"):
        read(folder / "folder.py")


def test_what_failed_is_tried_again(folder: Path) -> None:
    path = folder / "bad.py"
    path.write_text("import no_such_module\n")
    with pytest.raises(PluginError):
        load(read(path))
    path.write_text("x = 4\n")
    assert load(read(path)).x == 4
