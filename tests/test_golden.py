"""Numbers that move without a new version make committed records lie: these tests notice."""

from __future__ import annotations

import json

import pytest

from rankbench import adapters
from rankbench.bench.records import LOOP_VERSION
from tests import golden

pytestmark = pytest.mark.numerical

GOLDEN = json.loads(golden.PATH.read_text())
REGENERATE = "run `python -m tests.golden"


@pytest.mark.parametrize("name", adapters.BUILT_IN)
def test_adapter(name):
    assert name in GOLDEN["adapters"], f"{name} has no golden run yet: {REGENERATE} {name}`"
    expected = GOLDEN["adapters"][name]
    declared = (adapters.version(name), LOOP_VERSION)
    assert declared == (expected["version"], expected["loop_version"]), f"a new version: {REGENERATE} {name}`"
    found = golden.run(name)
    moved = f"{name}'s numbers moved: raise its version (or LOOP_VERSION), then {REGENERATE} {name}`"
    assert found["loss"] == pytest.approx(expected["loss"], rel=found["tolerance"], abs=0), moved
    assert found["penalty"] == pytest.approx(expected["penalty"], rel=found["tolerance"], abs=0), moved


MOVED = f"the task's numbers moved: raise its version, then {REGENERATE}` and its name"


@pytest.mark.parametrize("name", golden.GENERATED)
def test_task(name):
    found, expected = golden.task(name), GOLDEN["tasks"][name]
    for key in ("version", "data_sha256"):
        assert found[key] == expected[key], MOVED
    for key in ("loss", "score"):
        assert found[key] == pytest.approx(expected[key], rel=found["tolerance"], abs=0), MOVED


@pytest.mark.network
@pytest.mark.parametrize("name", golden.PACKAGED)
def test_packaged_task(name):
    assert golden.packaged(name) == GOLDEN["packaged"][name], MOVED


def test_nothing_is_held_that_is_gone():
    assert {kind: set(held) for kind, held in GOLDEN.items()} == {
        kind: set(known) for kind, known in golden.EVERYTHING.items()
    }


def test_one_entry_is_renewed_without_moving_the_others():
    old = {kind: {key: {"old": True} for key in entries} for kind, entries in golden.EVERYTHING.items()}
    del old["adapters"]["lora"]
    new = golden.renewed(old, ["lora"])
    changed = [name for entries in new.values() for name, found in entries.items() if found != {"old": True}]
    assert changed == ["lora"]
    assert new["adapters"]["lora"] == golden.run("lora")
