"""One thread and one seed, so that all that tests run repeats bit by bit; the tiny models that they adapt."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from rankbench.bench.conformance.models import ARCHITECTURES, TARGETS, seeded, tiny_batch, tiny_model

__all__ = ["ARCHITECTURES", "DEVICE", "TARGETS", "seeded", "tiny_batch", "tiny_model"]

DEVICE = torch.device(os.environ.get("RANKBENCH_TEST_DEVICE", "cpu"))
"""Where adapted models are tried. They are attached on the CPU, as in a run, and moved there."""


LONGEST = ("test_ray", "test_processes", "test_faults", "test_slurm", "test_overhead", "test_sharing")
"""Files whose slow tests start many processes: `nox -s tests` begins with them."""


def pytest_collection() -> None:
    """Importing leaves little garbage; looking for it meanwhile takes a quarter of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.stem if item.get_closest_marker("slow") else ""
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="module")
def nothing_imported_is_collected() -> None:
    """Each training looks for garbage, through all that is not frozen: for longer than a tiny one lasts."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Whatever a test draws without a generator of its own does not depend on those before it."""
    torch.manual_seed(0)
