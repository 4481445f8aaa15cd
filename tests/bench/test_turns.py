"""Contenders that share one model in blocks of rounds, and what of a card their records hold."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from rankbench.bench.cost import turns
from rankbench.bench.cost.overhead import identity, measure_overhead
from rankbench.bench.cost.rounds import WARM_UP
from rankbench.bench.cost.step import attached, built, contenders
from rankbench.bench.cost.use import Peak, joules, peak_of
from rankbench.bench.models import shared
from rankbench.bench.records import Folders, OverheadRecord, read_record, write_record
from rankbench.bench.records.costs import FLOOR, STOCK_FLOOR
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.suite import Suite, load_suite
from rankbench.bench.suite.costs import Overhead
from rankbench.tasks import Head
from tests.tiny_architectures import LLAMA_3, save

ROOT = Path(__file__).parents[2]
ADAPTERS = {"lora": {"rank": 2}, "scalora": {"rank": 2}, "dora": {"rank": 2}, "full": None}


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect() -> Iterator[None]:
    """Between contenders all that hangs on itself is collected: what the tests have imported is left out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    shared.forget()
    yield
    shared.forget()


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny-llama", "targets": ["q_proj", "v_proj"], "head": "causal", "batch": 2, "length": 8,
        "blocks": 2, "processes": 1, "rounds": 4, "adapters": ADAPTERS,
    } | changes  # fmt: skip


def settings(**changes: Any) -> Overhead:
    return Overhead.model_validate(entry(**changes))


BERT = {"model": "tiny-bert", "targets": ["query", "value"], "head": "sequence"}


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with the shared model, in order."""
    done: list[str] = []
    for name in ("borrow", "give_back"):
        real = getattr(turns, name)

        def seen(*given: Any, name: str = name, real: Any = real) -> Any:
            done.append(name)
            return real(*given)

        monkeypatch.setattr(turns, name, seen)
    load = shared.load
    monkeypatch.setattr(shared, "load", lambda *given: done.append("load") or load(*given))
    return done


@pytest.mark.parametrize("head", ["sequence", "causal"])
def test_every_contender_borrows_the_one_model_in_every_block(head, traffic):
    measured = settings(**(BERT if head == "sequence" else {}), adapters={"lora": {"rank": 2}, "dora": {}})
    told: list[str] = []
    found = turns.in_blocks(measured, 0, told.append)
    floors = [FLOOR, STOCK_FLOOR] if head == "sequence" else [FLOOR]
    labels = [*floors, "lora", "dora"]
    assert list(found.seconds) == list(found.peaks) == list(found.parameters) == labels
    assert all(len(rounds) == 4 and min(rounds) > 0 for rounds in found.seconds.values())
    assert [found.parameters[label] for label in floors] == [0] * len(floors)
    assert found.reserved == found.joules == {}, "there is no card here"
    assert [done for done in traffic if done != "load"] == ["borrow", "give_back"] * 2 * len(labels)
    assert traffic.count("load") == 1 or head == "sequence", "a random head that was trained is drawn anew"
    blocks = [line.split(", round 1 of ")[0] for line in told if ", round 1 of " in line]
    assert sorted(blocks) == sorted(f"{label}, block {at} of 2" for at in (1, 2) for label in labels)
    assert [line.partition(", block ")[2][0] for line in blocks] == ["1"] * len(labels) + ["2"] * len(labels)
    rows = [line for line in told if line.startswith("lora, block 2 of 2, round")]
    assert rows == [f"lora, block 2 of 2, round {at} of 4" for at in (1, 2, 3, 4)]


def test_a_process_has_orders_of_its_own():
    def order(process: int) -> list[str]:
        told: list[str] = []
        turns.in_blocks(settings(adapters={"lora": {"rank": 2}, "dora": {}}), process, told.append)
        return [line.partition(", ")[0] for line in told if line.endswith("borrowing the model")]

    orders = [order(process) for process in range(3)]
    assert order(0) == orders[0]
    assert len({tuple(one) for one in orders}) > 1


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_step_on_a_borrowed_model_is_one_on_a_model_of_its_own(weights, precision):
    """Bit by bit, whoever had the model before: some move its weights, wrap its layers, train it whole."""
    names = {"lora": {"rank": 2}, "scalora": {"rank": 2}, "dora": {"rank": 2}, "hira": {"rank": 2}}
    names |= {"full": None} if weights == "float32" else {}
    measured = settings(model={"name": "tiny-llama", "weights": weights}, precision=precision, adapters=names)
    for label in [*names, *reversed(names)]:
        accelerator = make_accelerator(precision)
        lent = shared.borrow(measured.model, Head("causal"), 0, accelerator.device)
        states = []
        for one in (attached(measured, label, accelerator, lent), built(measured, label, accelerator)):
            for turn in range(3):
                one.step(turn)
            states.append(one.on.model.state_dict())
            if len(states) == 1:
                before = {name: tensor.clone() for name, tensor in states[0].items()}
                shared.give_back(one.on)
        assert before.keys() == states[1].keys()
        assert all(torch.equal(before[name], tensor) for name, tensor in states[1].items()), label


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"alone": True}, "alone and blocks are two ways to take turns"),
        ({"blocks": 3}, "4 rounds are not 3 blocks of two or more"),
        ({"blocks": 4}, "4 rounds are not 4 blocks of two or more"),
        ({"blocks": 8}, "4 rounds are not 8 blocks of two or more"),
        ({"blocks": -1}, "greater than or equal to 0"),
        ({"blocks": "two"}, "valid integer"),
        ({"blocks": 1.5}, "valid integer"),
        ({"block": 2}, "unknown key 'block'; did you mean 'blocks'"),
        ({"kind": "loop", "rank": 2, "alpha": 4}, "unknown key 'blocks'"),
    ],
)
def test_what_is_no_block_is_refused(changes, fault):
    given = {"name": "x", "experiments": {}, "overhead": {"tiny": entry(**changes)}}
    with pytest.raises(ValidationError) as refused:
        Suite.model_validate(given)
    assert fault in str(refused.value)


def test_blocks_are_in_the_identity_only_where_there_are_any():
    plain = identity(settings(blocks=0))
    assert "blocks" not in plain
    assert identity(settings()) == plain | {"blocks": 2}


def test_a_schedule_is_over_the_steps_of_a_block():
    """It begins anew with each of them."""
    assert settings().steps_of_a_run == WARM_UP + 2
    assert settings(blocks=0).steps_of_a_run == WARM_UP + 4


def test_what_does_not_fit_beside_the_model_is_named(monkeypatch):
    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.\nand so on")

    monkeypatch.setattr(turns, "attached", out_of_memory)
    found = attempt(lambda: turns.in_blocks(settings(adapters={"hira": {"rank": 2}}), 0, lambda text: None))
    assert isinstance(found, Failure)
    assert found.kind == "memory"
    first = {f"{label} does not fit beside the model that all share" for label in (FLOOR, "hira")}
    assert found.reason.partition(";")[0] in first
    assert "\n" not in found.reason


class Card:
    """Stands for NVML and CUDA: joules go up by as many as the steps that are told take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = 1000.0
        self.fails = ""
        nvml: Any = ModuleType("pynvml")
        nvml.NVMLError = type("NVMLError", (Exception,), {})
        nvml.nvmlInit = lambda: self.may("nvmlInit")
        nvml.nvmlDeviceGetHandleByUUID = self.card
        nvml.nvmlDeviceGetTotalEnergyConsumption = self.energy
        self.nvml = nvml
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        properties = SimpleNamespace(uuid="0a1b-2c")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: properties)

    def may(self, name: str) -> None:
        if self.fails == name:
            raise self.nvml.NVMLError("Not Supported")

    def card(self, uuid: str) -> str:
        self.may("nvmlDeviceGetHandleByUUID")
        assert uuid == "GPU-0a1b-2c"
        return "the card"

    def energy(self, card: str) -> int:
        self.may("nvmlDeviceGetTotalEnergyConsumption")
        assert card == "the card"
        return round(1000 * self.used)


def test_a_cards_energy_is_nvmls(monkeypatch):
    card = Card(monkeypatch)
    assert joules() == 1000.0
    card.used += 2.5
    assert joules() == 1002.5


@pytest.mark.parametrize(
    "fails", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"]
)
def test_no_energy_is_told_where_nvml_has_none(monkeypatch, fails):
    Card(monkeypatch).fails = fails
    assert joules() is None


def test_no_energy_is_told_without_nvmls_package_or_a_card(monkeypatch):
    card = Card(monkeypatch)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert joules() is None
    monkeypatch.setitem(sys.modules, "pynvml", card.nvml)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert joules() is None


@pytest.mark.parametrize("alone", [False, True])
def test_energy_is_that_of_a_mean_round_without_the_warm_up(alone, monkeypatch):
    """A step of the lora takes 3 J in its warm-up and 5 J afterwards, one of the floor 2 J throughout."""
    used = [0.0]
    monkeypatch.setattr(turns, "joules", lambda: used[0])
    for name in ("attached", "built"):
        real = getattr(turns, name)

        def metered(measured: Overhead, label: str, *given: Any, real: Any = real) -> Any:
            one = real(measured, label, *given)

            def step(turn: int) -> float:
                used[0] += 2 if label == FLOOR else 3 if turn < WARM_UP else 5
                return one.step(turn)

            return one._replace(step=step)

        monkeypatch.setattr(turns, name, metered)
    measured = settings(adapters={"lora": {"rank": 2}}, **({"blocks": 0, "alone": True} if alone else {}))
    work = turns.one_at_a_time if alone else turns.in_blocks
    assert work(measured, 0, lambda text: None).joules == {FLOOR: 2.0, "lora": 5.0}


def test_energy_is_told_of_all_contenders_or_of_none(monkeypatch):
    """A meter that has not moved over a whole block is none."""
    monkeypatch.setattr(turns, "joules", lambda: 7.0)
    assert turns.in_blocks(settings(adapters={"lora": {"rank": 2}}), 0, lambda text: None).joules == {}
    # Both contenders' first block is told; then the meter falls silent.
    told = iter([1.0, 3.0, 3.0, 6.0])
    monkeypatch.setattr(turns, "joules", lambda: next(told, None))
    assert turns.in_blocks(settings(adapters={"lora": {"rank": 2}}), 0, lambda text: None).joules == {}


def test_peaks_are_the_highest_of_all_blocks(monkeypatch):
    told = iter([Peak(4.0, 90.0), Peak(7.0, 70.0), Peak(5.0, 60.0), Peak(6.0, 80.0)])
    monkeypatch.setattr(turns, "peak_of", lambda steps: (steps(), next(told)))
    monkeypatch.setattr(turns, "shuffled", lambda labels, seed: sorted(labels))
    found = turns.in_blocks(settings(adapters={"lora": {"rank": 2}}), 0, lambda text: None)
    assert found.peaks == {FLOOR: 5.0, "lora": 7.0}
    assert found.reserved == {FLOOR: 90.0, "lora": 80.0}


def test_a_record_holds_what_a_card_tells(tmp_path, monkeypatch):
    one = settings(processes=2, adapters={"lora": {"rank": 2}})
    monkeypatch.setattr(turns, "in_fresh_process", lambda work, *given: work(*given))
    monkeypatch.setattr(turns, "peak_of", lambda steps: (steps(), Peak(5.0, 90.0)))
    used = iter(range(1, 99))
    monkeypatch.setattr(turns, "joules", lambda: float(next(used)))
    suite = Suite.model_validate({"name": "x", "experiments": {}, "overhead": {"tiny": one}})
    folders = Folders(tmp_path)
    record = measure_overhead(suite, "tiny", folders, lambda text: None)
    assert read_record(folders.overhead("tiny"), OverheadRecord) == record
    assert record.peak_reserved == {FLOOR: [90.0, 90.0], "lora": [90.0, 90.0]}
    assert record.joules == {FLOOR: [0.5, 0.5], "lora": [0.5, 0.5]}
    assert record.config["blocks"] == 2


def test_committed_measurements_are_written_as_they_were_read(tmp_path):
    """Of cards, one of whose records holds none of what is new."""
    paths = sorted(ROOT.glob("results/gpu/overhead/*.json"))
    for path in paths:
        write_record(tmp_path / path.name, read_record(path, OverheadRecord))
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path
    assert len(paths) >= 4


SHARED = [
    pytest.param(suite, name, marks=[] if "llama3" in name else pytest.mark.slow)
    for suite in ("paper-overhead", "gpu")
    for name, measured in load_suite(suite).overhead.items()
    if isinstance(measured, Overhead) and measured.blocks
]
TINY = {
    "random:minilm-l6": "tiny-bert",
    "random:smollm2-135m": "tiny-llama",
    f"random:{LLAMA_3}": "tiny-llama",
}


@pytest.mark.parametrize(("suite", "name"), SHARED)
def test_every_contender_of_a_card_s_measurements_runs_on_a_tiny_model(suite, name, tmp_path):
    """With the weights, the precision, the targets and the settings that it has there."""
    full_size = load_suite(suite).overhead[name]
    if full_size.model.name not in TINY:
        save(full_size.model.name.removeprefix("random:"), tmp_path)
    model = full_size.model.model_copy(update={"name": TINY.get(full_size.model.name, str(tmp_path))})
    small = full_size.model_copy(update={"model": model, "batch": 2, "length": 8, "rounds": 4})
    found = turns.in_blocks(small, 0, lambda text: None)
    assert set(found.seconds) == set(contenders(small)) >= {FLOOR, *full_size.adapters}
    assert all(len(rounds) == 4 for rounds in found.seconds.values())


def test_a_peak_is_what_was_handed_out_and_what_was_reserved(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 1024**2)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 5 * 1024**2)
    assert peak_of(lambda: "done") == ("done", Peak(used=3.0, reserved=5.0))
