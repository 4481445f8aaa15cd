"""Numbers that move without a new version make committed records lie: these tests notice."""

from __future__ import annotations

import json

import pytest

import adapters
from bench.record import LOOP_VERSION
from tests import golden

GOLDEN = json.loads(golden.PATH.read_text())
REGENERATE = "run `python -m tests.golden`"


@pytest.mark.parametrize("name", adapters.names())
def test_adapter(name):
    assert name in GOLDEN["adapters"], f"{name} has no golden run yet: {REGENERATE}"
    expected = GOLDEN["adapters"][name]
    declared = (adapters.version(name), LOOP_VERSION)
    assert declared == (expected["version"], expected["loop_version"]), f"a new version: {REGENERATE}"
    found = golden.run(name)
    moved = f"{name}'s numbers moved: raise its version (or LOOP_VERSION), then {REGENERATE}"
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-7), moved
    assert found["penalty"] == pytest.approx(expected["penalty"], rel=1e-7), moved


MOVED = f"the task's numbers moved: raise its version, then {REGENERATE}"


@pytest.mark.parametrize("name", golden.GENERATED)
def test_task(name):
    found, expected = golden.task(name), GOLDEN["tasks"][name]
    for key in ("version", "data_sha256"):
        assert found[key] == expected[key], MOVED
    # Float32, and 30 steps between a rounding and what it becomes.
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4), MOVED
    assert found["score"] == pytest.approx(expected["score"], rel=1e-3), MOVED


@pytest.mark.network
@pytest.mark.parametrize("name", golden.PACKAGED)
def test_packaged_task(name):
    assert golden.packaged(name) == GOLDEN["packaged"][name], MOVED
