"""How much memory is free for workers, in and out of a container."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rankbench.bench.cpu import memory


def group(folder: Path, files: memory._Files, limit: str, used: int, cache: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / files.limit).write_text(f"{limit}\n")
    (folder / files.used).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\nactive_file 5\n{files.cache} {cache}\n")


def left(membership: str, root: Path) -> list[int]:
    return list(memory.left_by(memory._groups(membership, root)))


def test_each_group_around_a_process_leaves_its_own(tmp_path: Path) -> None:
    group(tmp_path, memory.V2, "max", 10)
    group(tmp_path / "pod", memory.V2, "1000", 400, cache=100)
    group(tmp_path / "pod/app", memory.V2, "800", 300)
    assert left("0::/pod/app\n", tmp_path) == [500, 700]
    assert left("0::/\n", tmp_path) == []


def test_the_first_version_has_files_of_its_own(tmp_path: Path) -> None:
    membership = "9:name=systemd:/\n4:memory:/box\n3:cpuset:/box\n0::/\n"
    group(tmp_path / "memory/box", memory.V1, "1000", 250, cache=50)
    assert left(membership, tmp_path) == [800]


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    """Its path outside is not there."""
    group(tmp_path, memory.V2, "1000", 1200)
    assert left("0::/docker/0123\n", tmp_path) == [0]
    assert left("4:memory:/docker/0123\n", tmp_path) == []


def test_the_smaller_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SimpleNamespace(available=600)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: machine)
    for leaves, expected in ([[], 600], [[500, 700], 500], [[700], 600]):
        monkeypatch.setattr(memory, "left_by", lambda groups, leaves=leaves: iter(leaves))
        assert memory.free() == expected


def test_what_there_is_in_all_is_the_machines_or_a_groups_and_swap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever uses it now."""
    group(tmp_path, memory.V2, "max", 10)
    group(tmp_path / "pod", memory.V2, "1000", 900)
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(total=50))
    monkeypatch.setattr(memory, "_around", lambda: memory._groups("0::/pod\n", tmp_path))
    for machine, expected in ((1200, 1050), (600, 650)):
        here = SimpleNamespace(total=machine)
        monkeypatch.setattr(memory.psutil, "virtual_memory", lambda here=here: here)
        assert memory.total() == expected
