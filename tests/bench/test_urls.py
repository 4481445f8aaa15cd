"""Results at an fsspec URL: what another machine finds there is what a folder of this one would hold.

A machine is a cache folder of its own; the URL is a folder that is reached through fsspec alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from rankbench.bench.backends.driver import Options, Outcome, execute
from rankbench.bench.cli import main
from rankbench.bench.records import RecordError, read_runs
from rankbench.bench.records.mirror import OWNER, Mirror
from rankbench.bench.records.remote import Remote
from rankbench.bench.records.store import to_work_in
from rankbench.bench.suite import load_suite, plan
from tests.bench.test_backends import numbers
from tests.bench.tiny_suite import with_changes


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder behind the URL."""
    return tmp_path / "there"


@pytest.fixture
def url(there: Path) -> str:
    return f"file://{there}"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch) -> Callable[[str], Path]:
    """Go to the machine of that name; its cache."""

    def go(name: str) -> Path:
        monkeypatch.setenv("RANKBENCH_CACHE", str(tmp_path / name))
        return tmp_path / name

    go("first")
    return go


@pytest.fixture
def rankbench(suite: Path, url: str, machine, capsys) -> Callable[..., tuple[int, str]]:
    """Run the suite with its results at the URL: exit code, and what it said."""

    def run(*words: str, results: str = url) -> tuple[int, str]:
        code = main(["run", str(suite), "--results", results, *words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_url_holds_what_a_folder_would(rankbench, there, url, tmp_path, capsys):
    assert rankbench(results=str(tmp_path / "folder"))[0] == 0
    assert rankbench()[0] == 0
    assert files(there) == files(tmp_path / "folder")
    pairs = zip(read_runs(there / "mine"), read_runs(tmp_path / "folder/mine"), strict=True)
    assert all(numbers(one) == numbers(other) for one, other in pairs)
    for name in files(there):
        if name.endswith(".parquet"):
            assert (there / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    assert main(["compare", f"{url}/mine", str(tmp_path / "folder/mine")]) == 0
    assert "**Identical**: all 6 figures" in capsys.readouterr().out
    assert main(["report", "mine", "--results", url]) == 0
    page = Path(capsys.readouterr().out.splitlines()[1])
    assert "scalora" in page.read_text()


def test_another_machine_finds_what_is_done_and_does_the_rest(rankbench, machine, there):
    assert rankbench("--only", "*scalora*")[0] == 0
    machine("second")
    assert "1 done, 1 there already" in rankbench()[1]
    (there / "mine/runs/tiny--lora--s0.json").unlink()
    machine("first")
    assert "1 done, 1 there already" in rankbench()[1]
    assert "2 there already" in rankbench()[1]


def test_what_was_chosen_stays_and_is_found_by_another_machine(url, machine):
    """The next command, of one experiment alone, would else write that one's choices in the place of all."""
    with to_work_in(url, "mine") as folders:
        folders.choices.parent.mkdir(parents=True)
        folders.choices.write_text("movie: {}\n")
        folders.send(folders.choices)
    for name in ("first", "second"):
        machine(name)
        with to_work_in(url, "mine") as folders:
            assert folders.choices.read_text() == "movie: {}\n"


def test_a_cleared_cache_deletes_nothing(rankbench, machine, there):
    assert rankbench()[0] == 0
    before = files(there)
    for path in machine("first").rglob("*.json"):
        if not path.name.startswith("."):
            path.unlink()
    assert "0 done, 2 there already" in rankbench()[1]
    assert files(there) == before


def test_what_could_not_be_sent_is_sent_by_the_next_command(rankbench, there, monkeypatch):
    put = Remote.put

    def unreachable(self, path, name):
        if name.endswith("tiny--scalora--s0.json"):
            raise RecordError(f"cannot use {self.url}: gone")
        return put(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", unreachable)
        code, told = rankbench()
    assert code == 2
    assert told.splitlines()[-1].startswith("rankbench: cannot use file://")
    assert "mine/runs/tiny--scalora--s0.json" not in files(there)
    assert "0 done, 2 there already, 0 failed" in rankbench()[1]
    assert "mine/runs/tiny--scalora--s0.json" in files(there)
    assert not (there / "mine/failed").exists() or not files(there / "mine/failed")


def test_what_was_being_replaced_when_all_broke_off_is_not_lost(url, there, machine, monkeypatch):
    """As where a suite's new baseline has been written into all records: old ones are taken away first."""
    cache = Mirror(url).local / "mine/runs"
    cache.mkdir(parents=True)
    for name in ("a.json", "a.parquet", "b.json", "b.parquet"):
        (cache / name).write_text("old")
    with Mirror(url).held():
        pass

    def rewrite_and_lose_the_network():
        with Mirror(url).held():
            for record in cache.glob("*.json"):
                record.write_text("newer")
            monkeypatch.setattr(Remote, "put", Mock(side_effect=RecordError("gone")))

    put = Remote.put
    with pytest.raises(RecordError, match="gone"):
        rewrite_and_lose_the_network()
    monkeypatch.setattr(Remote, "put", put)
    assert sum(name.endswith(".json") for name in files(there)) == 1, "of what had changed one was begun"
    assert {record.read_text() for record in cache.glob("*.json")} == {"newer"}
    with Mirror(url).held():
        assert {record.read_text() for record in (there / "mine/runs").glob("*.json")} == {"newer"}
    assert [path.name for path in sorted(cache.iterdir())] == ["a.json", "a.parquet", "b.json", "b.parquet"]
    (there / "mine/runs/b.json").unlink()
    with Mirror(url).held():
        assert not (cache / "b.json").exists(), "it was deleted there, and had not changed here"


def test_a_broken_transfer_leaves_the_old_file(url, there, machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    remote = Remote(url)
    remote.put(tmp_path / "file", "mine/runs/a.json")
    (tmp_path / "file").write_text("new")

    def cut(self, source, target, **_):
        Path(target).write_text("ne")
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", cut)
        with pytest.raises(RecordError, match=r"cannot use file.*connection lost"):
            remote.put(tmp_path / "file", "mine/runs/a.json")
    assert (there / "mine/runs/a.json").read_text() == "old"
    assert len(files(there)) == 2, "what was cut"
    with Mirror(url).held():
        assert files(there) == ["mine/runs/a.json", OWNER]


def test_one_command_at_a_time(rankbench, machine, url, there, capsys):
    with to_work_in(url, "mine"):
        assert "in use by another rankbench on this machine" in rankbench()[1]
        assert main(["report", "mine", "--results", url]) == 2
        assert capsys.readouterr().err == "rankbench: no folder of results 'mine'; known: none\n", "it reads"
        machine("second")
        code, told = rankbench()
        assert code == 2
        assert told.count("\n") == 1
        assert f"delete {url}/{OWNER}" in told
    assert rankbench()[0] == 0
    assert OWNER not in files(there)


def test_a_command_that_died_is_gone_on_with_on_its_machine(rankbench, machine, url, there):
    with to_work_in(url, "mine"):
        owner = (there / OWNER).read_text()
    (there / OWNER).write_text(owner)  # as a killed one leaves it
    machine("second")
    assert "in use" in rankbench()[1]
    machine("first")
    assert rankbench()[0] == 0
    (there / OWNER).write_text("")  # killed while it wrote it
    assert f"delete {url}/{OWNER}" in rankbench()[1]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere://folder", "Protocol not known: nowhere"),
        ("adl://account/folder", "adlfs"),
        ("file:///dev/null/folder", "Not a directory"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_in_one_line(rankbench, place, told):
    code, said = rankbench(results=place)
    assert code == 2
    assert said.count("\n") == 1
    assert said.startswith(f"rankbench: cannot use {place}: ")
    assert told in said


def test_another_machine_goes_on_from_the_state_of_a_stopped_run(suite, machine, url, there, tmp_path):
    training = {"steps": 300, "batch_size": 4, "learning_rate": 1e-3}
    suite.write_text(yaml.safe_dump(with_changes(training=training, adapters={"lora": {"rank": 2}})))
    loaded = load_suite(str(suite))

    def executed(results: str, stopped: Callable[[], Any]) -> Outcome:
        with to_work_in(results, "mine") as folders:
            return execute(loaded, list(plan(loaded)), folders, stopped, Options(checkpoint_seconds=0.1))

    state = there / "mine/checkpoints/tiny--lora--s0.pt"
    assert executed(url, state.exists).interrupted
    assert state.exists()
    machine("second")
    assert executed(url, lambda: False) == Outcome(finished=1)
    assert executed(str(tmp_path / "whole"), lambda: False) == Outcome(finished=1)
    (resumed,), (whole,) = map(list, map(read_runs, (there / "mine", tmp_path / "whole/mine")))
    assert resumed.timings.legs == 2
    assert numbers(resumed) == numbers(whole)
    assert not state.exists()
