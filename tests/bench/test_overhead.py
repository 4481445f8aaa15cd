"""The overhead measurements: fresh processes, every contender in every round, equal work."""

from __future__ import annotations

import multiprocessing
import os
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from rankbench.bench.cli import main
from rankbench.bench.console import Progress
from rankbench.bench.cost import loop as loops
from rankbench.bench.cost import overhead as overheads
from rankbench.bench.cost import rounds, step, turns
from rankbench.bench.cost.growth import time_points
from rankbench.bench.cost.loop import OurLoop, TrainerLoop
from rankbench.bench.cost.overhead import identity, measure_overhead
from rankbench.bench.cost.rounds import WARM_UP, Measured, apart, in_fresh_process, interleave
from rankbench.bench.cost.use import Peak, peak_of
from rankbench.bench.cpu import quota
from rankbench.bench.cpu.dropout import CheapDropout
from rankbench.bench.records import Folders, GrowthPoint, OverheadRecord, fingerprint, read_record
from rankbench.bench.records.costs import ALL_LOGITS, FLOOR, OURS, STOCK, STOCK_FLOOR, TRAINER
from rankbench.bench.run.failures import Failure, Interrupted, attempt
from rankbench.bench.run.train import Work, train
from rankbench.bench.seeds import batches
from rankbench.bench.suite import Suite
from rankbench.reports.frames import load
from tests.bench.fresh_work import dies, fails, is_killed, who_am_i, whose_child

ADAPTERS = {"lora": {"rank": 2}, "scalora": {"rank": 2}, "lora2": {"rank": 4, "width": 2}, "full": None}
LLAMA = {"model": "tiny-llama", "targets": ["q_proj", "v_proj"], "head": "causal"}
BERT = {"model": "tiny-bert", "targets": ["query", "value"], "head": "sequence"}


def measure(entry: Suite, folder: Path) -> OverheadRecord:
    return measure_overhead(entry, "tiny", Folders(folder), lambda text: None)


def suite(**entry) -> Suite:
    return Suite.model_validate({"name": "x", "experiments": {}, "overhead": {"tiny": entry}})


def steps(head: str) -> Suite:
    shape = {"batch": 2, "length": 8, "processes": 1, "rounds": 3, "adapters": ADAPTERS}
    return suite(**(BERT if head == "sequence" else LLAMA), **shape)


def loop(**changes) -> Suite:
    return suite(
        **{"kind": "loop", **LLAMA, "rank": 2, "alpha": 4, "batch": 4, "length": 8, "rounds": 3}
        | {"processes": 1}
        | changes
    )


GROWTH = {
    "kind": "growth",
    "adapters": ["lora", "scalora"],
    "tokens": 8,
    "base": {"rank": 2, "width": 16, "layers": 2},
    "rank": [2, 4],
    "width": [32],
    "layers": [3],
    "processes": 2,
    "rounds": 2,
}


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are forked by the server that has imported everything: to start one anew takes seconds, and
    matters to the figures alone."""
    apart = rounds.apart
    for module in (rounds, loops):
        monkeypatch.setattr(module, "apart", lambda *given, anew=False: apart(*given))


@pytest.mark.parametrize("entry", [steps("sequence"), loop(), suite(**GROWTH)])
def test_half_a_process_is_none(entry, tmp_path):
    with pytest.raises(Interrupted):
        measure_overhead(entry, "tiny", Folders(tmp_path), lambda text: None, stopped=lambda: True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_process_ends_when_its_user_stops(tmp_path):
    """In its second round, and what it would have measured is not kept."""
    told: list[str] = []
    with pytest.raises(Interrupted):
        measure_overhead(
            steps("causal"),
            "tiny",
            Folders(tmp_path),
            told.append,
            lambda: bool(told) and "round 1 " in told[-1],
        )
    assert list(tmp_path.iterdir()) == []
    assert multiprocessing.active_children() == []


def test_each_round_has_every_contender_once_in_an_order_of_its_own():
    def orders(process: int) -> list[str]:
        told: list[tuple[int, str]] = []
        contenders = {label: lambda turn, label=label: told.append((turn, label)) or 1.0 for label in "abc"}
        found = interleave(contenders, 9, lambda text: None, process)
        assert found == {label: [1.0] * 9 for label in "abc"}
        return ["".join(label for at, label in told if at == turn) for turn in range(WARM_UP + 9)]

    assert {"".join(sorted(order)) for order in orders(0)} == {"abc"}
    assert len(set(orders(0))) > 3
    assert orders(0) != orders(1), "a process has its own"


class Machine:
    """Stands for the processes: each measures its own number, and the user stops before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_before: int = 99) -> None:
        self.begun: list[int] = []
        self.stop_before = stop_before
        monkeypatch.setattr("rankbench.bench.cost.overhead._measure", self.measure)

    def measure(self, settings, process, ask) -> Measured:
        ask("round 1 of 1")
        self.begun.append(process)
        seconds = {"lora": [process + 0.1, process + 0.2]}
        point = {"axis": "rank", "rank": 2, "width": 4, "layers": 1, "seconds": seconds, "rescale": seconds}
        growth = [GrowthPoint.model_validate(point)] if settings.kind == "growth" else []
        return Measured({} if growth else seconds, {"lora": 100.0 + process}, {"lora": 7}, growth)

    def stopped(self) -> bool:
        return len(self.begun) >= self.stop_before


@pytest.mark.parametrize("entry", [loop(processes=3), suite(**GROWTH | {"processes": 3})])
def test_an_interrupted_measurement_goes_on_with_the_next_process(entry, tmp_path, monkeypatch):
    folders, machine = Folders(tmp_path), Machine(monkeypatch, stop_before=2)
    told: list[str] = []
    with pytest.raises(Interrupted):
        measure_overhead(entry, "tiny", folders, told.append, machine.stopped)
    assert list(tmp_path.rglob("*.json")) == [folders.unfinished_overhead("tiny")]
    asked = [f"tiny: process {at} of 3, {doing}" for at in (1, 2) for doing in ("starting", "round 1 of 1")]
    assert told == asked
    machine.stop_before = 99
    record = measure_overhead(entry, "tiny", folders, told.append, machine.stopped)
    assert machine.begun == [0, 1, 2], "none twice"
    assert record.processes == 3
    expected = {"lora": [[0.1, 0.2], [1.1, 1.2], [2.1, 2.2]]}
    for seconds in [point.seconds for point in record.growth] or [record.seconds]:
        assert seconds == expected
    assert [point.rescale for point in record.growth] == [expected] * len(record.growth)
    assert record.peak_resident == {"lora": [100.0, 101.0, 102.0]}
    assert read_record(folders.overhead("tiny"), OverheadRecord) == record
    assert list(tmp_path.rglob("*.json")) == [folders.overhead("tiny")]


@pytest.mark.parametrize("changed", ["settings", "machine"])
def test_a_measurement_does_not_go_on_from_another(changed, tmp_path, monkeypatch):
    folders, machine = Folders(tmp_path), Machine(monkeypatch, stop_before=2)
    with pytest.raises(Interrupted):
        measure_overhead(loop(processes=3), "tiny", folders, lambda text: None, machine.stopped)
    if changed == "machine":
        monkeypatch.setattr("rankbench.bench.run.provenance.provenance", lambda **_: {"processor": "Z80"})
    machine.stop_before = 99
    entry = loop(processes=3, **({"length": 16} if changed == "settings" else {}))
    record = measure_overhead(entry, "tiny", folders, lambda text: None, machine.stopped)
    assert machine.begun == [0, 1, 0, 1, 2]
    assert record.processes == 3


def test_a_finished_measurement_stays_until_the_next_one_is_finished(tmp_path, monkeypatch):
    folders, machine = Folders(tmp_path), Machine(monkeypatch)
    measure(loop(processes=2), tmp_path)
    before = folders.overhead("tiny").read_bytes()
    machine.stop_before = 3
    with pytest.raises(Interrupted):
        measure_overhead(loop(processes=2), "tiny", folders, lambda text: None, machine.stopped)
    assert machine.begun == [0, 1, 0]
    assert folders.overhead("tiny").read_bytes() == before


@pytest.mark.slow
def test_every_process_is_a_fresh_one():
    told: list[str] = []
    found = [in_fresh_process(who_am_i, "mine", process, told.append).parameters for process in range(2)]
    assert told == ["mine 0", "mine 1"]
    assert len({os.getpid(), *(one["id"] for one in found)}) == 3
    assert {one["threads"] for one in found} == {torch.get_num_threads()}


def test_a_measurement_has_no_more_threads_than_a_container_may_use(tmp_path, monkeypatch):
    """And its record says how many."""
    seen = []

    def measured(*_):
        seen.append(torch.get_num_threads())
        return Measured({"lora": [1.0] * 3}, parameters={"lora": 1})

    monkeypatch.setattr(overheads, "_measure", measured)
    monkeypatch.setattr(quota, "quotas", lambda _: iter([1.5]))
    before, folders = torch.get_num_threads(), Folders(tmp_path)
    torch.set_num_threads(4)
    try:
        assert overheads.measure_all(steps("causal"), ["tiny"], folders, Progress(1), lambda: False) == 0
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert seen == [2]
    assert read_record(folders.overhead("tiny"), OverheadRecord).provenance["threads"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("work", "kind", "why"),
    [
        (dies, "environment", "its process ended with exit code 1"),
        (
            is_killed,
            "environment",
            "its process was ended by SIGKILL (as the system does where memory runs out)",
        ),
        (fails, "memory", "out of memory: MemoryError: too; lower"),
    ],
)
def test_a_process_that_fails_is_a_failure_with_its_cause(work, kind, why, capfd):
    found = attempt(partial(in_fresh_process, work, "mine", 1, lambda text: None))
    assert isinstance(found, Failure)
    assert found.kind == kind
    assert found.reason.startswith(f"process 2 could not be measured: {why}")
    assert "Traceback" in found.traceback
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(("head", "floors"), [("sequence", {FLOOR, STOCK_FLOOR}), ("causal", {FLOOR})])
def test_every_contender_is_measured_in_every_round(head, floors, tmp_path):
    """A BERT drops elements, a Llama does not."""
    record = measure(steps(head), tmp_path)
    labels = {*floors, *ADAPTERS}
    assert record.seconds.keys() == record.peak_resident.keys() == record.parameters.keys() == labels
    assert all(
        len(rounds) == 3 and min(rounds) > 0 for processes in record.seconds.values() for rounds in processes
    )
    assert all(peak > 50 for (peak,) in record.peak_resident.values())
    assert record.parameters[FLOOR] == 0
    assert record.parameters["lora"] == record.parameters["scalora"] == 2 * 2 * 2 * (32 + 32)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_contenders_of_one_model_are_measured_in_processes(tmp_path):
    shape = {"batch": 2, "length": 8, "processes": 2, "rounds": 4, "blocks": 2}
    record = measure(suite(**LLAMA, **shape, adapters={"scalora": {"rank": 2}}), tmp_path)
    assert record.processes == 2
    assert (
        record.seconds.keys() == record.peak_resident.keys() == record.parameters.keys() == {FLOOR, "scalora"}
    )
    assert all(len(rounds) == 4 for processes in record.seconds.values() for rounds in processes)
    assert all(min(peaks) > 50 for peaks in record.peak_resident.values())


def test_contenders_can_be_measured_one_at_a_time(monkeypatch):
    built, alive = [], []
    monkeypatch.setattr(step, "use_cheap_dropout", lambda model: remember(model))

    def remember(model) -> None:
        alive.append(sum(held() is not None for held in built))
        built.append(weakref.ref(model))

    settings = steps("causal").overhead["tiny"].model_copy(update={"alone": True, "precision": "bf16"})
    told: list[str] = []
    measured = turns.one_at_a_time(settings, 0, told.append)
    labels = {FLOOR, *ADAPTERS}
    assert measured.seconds.keys() == measured.peaks.keys() == measured.parameters.keys() == labels
    assert all(len(rounds) == 3 and min(rounds) > 0 for rounds in measured.seconds.values())
    assert {line.partition(",")[0] for line in told} == labels
    assert alive == [0] * len(labels), "nothing is left of a contender when the next one is built"


@pytest.mark.parametrize("label", [FLOOR, "lora"])
def test_a_measurement_computes_in_its_precision(label):
    settings, kinds = steps("causal").overhead["tiny"], {}
    for precision in ("no", "bf16"):
        chosen = settings.model_copy(update={"precision": precision})
        with Products() as seen:
            step.rehearse(chosen, label)()
        kinds[precision] = seen.dtypes
    assert kinds == {"no": {torch.float32}, "bf16": {torch.bfloat16}}


class Products(TorchDispatchMode):
    """The dtypes that matrices are multiplied in."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            self.dtypes.add(found.dtype)
        return found


def test_what_a_measurement_leaves_out_is_not_in_its_identity():
    plain = steps("causal").overhead["tiny"]
    assert not {"precision", "alone"} & identity(plain).keys()
    other = identity(plain.model_copy(update={"precision": "bf16", "alone": True}))
    assert other == identity(plain) | {"precision": "bf16", "alone": True}


@pytest.mark.slow
def test_nothing_is_forked_where_there_is_a_gpu(monkeypatch):
    """A child of the fork server has a parent of its own."""
    found = {}
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with apart(whose_child, "mine", "x") as receive:
            found[there] = receive() == os.getpid()
    assert found == {False: False, True: True}


def test_a_peak_begins_when_the_cards_cache_is_empty(monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: done.append("reset"))
    for peak in ("allocated", "reserved"):
        monkeypatch.setattr(torch.cuda, f"max_memory_{peak}", lambda: 3 * 1024**2)
    assert peak_of(lambda: done.append("worked")) == (None, Peak(used=3.0, reserved=3.0))
    assert done == ["emptied", "reset", "worked"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        (BERT, [OURS, STOCK, TRAINER]),
        ({"answer": 2}, [OURS, ALL_LOGITS, TRAINER]),
    ],
)
def test_the_trainer_is_measured_beside_our_loop(changes, labels, tmp_path):
    record = measure(loop(**changes), tmp_path)
    assert list(record.seconds) == labels
    assert record.peak_resident.keys() == record.parameters.keys() == set(labels)
    assert all(
        len(rounds) == 3 and min(rounds) > 0 for processes in record.seconds.values() for rounds in processes
    )
    assert set(record.parameters.values()) == {2 * 2 * 2 * (32 + 32)}


@pytest.mark.parametrize("answer", [None, 2])
def test_the_trainer_and_our_loop_take_the_same_steps(answer):
    settings = loop(answer=answer).overhead["tiny"]
    theirs, ours = TrainerLoop(settings), OurLoop(settings, OURS)
    layers = {
        name: (theirs.model.get_submodule(f"base_model.model.{name}"), ours.adapter.layers[name])
        for name in ours.adapter.layers
    }
    with torch.no_grad():
        for peft, layer in layers.values():
            peft.lora_A.default.weight.copy_(layer.B.t())
    turns = []
    theirs.run(lambda seconds: turns.append(ours.turn(len(turns))))
    assert len(turns) == len(ours.losses) == WARM_UP + 3
    for peft, layer in layers.values():
        assert layer.A.abs().max() > 1e-5, "it has not moved"
        torch.testing.assert_close(peft.lora_B.default.weight, layer.A, rtol=1e-3, atol=1e-7)


def test_the_trainer_takes_one_card_of_several(monkeypatch):
    """Where it sees two it takes both, by PyTorch's DataParallel, and twice the examples in each step."""

    class OfTwoCards(loops.TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 2

    settings = loop().overhead["tiny"]
    monkeypatch.setattr(loops, "TrainingArguments", OfTwoCards)
    trainer = TrainerLoop(settings).trainer
    assert trainer.args.n_gpu == 1
    assert trainer._train_batch_size == settings.batch


def test_our_loop_is_the_shared_one():
    settings = loop(answer=2).overhead["tiny"]
    stepped, shared = (OurLoop(settings, OURS) for _ in range(2))
    for turn in range(WARM_UP + 3):
        stepped.turn(turn)
    # Laid out so that the shared loop's random order meets them as the measurement does.
    lengths = [8] * len(shared.work.examples)
    order = [index for batch in batches(lengths, 4, WARM_UP + 3, seed=0) for index in batch]
    examples = [
        example for _, example in sorted(zip(order, shared.work.examples, strict=True), key=lambda p: p[0])
    ]
    work = Work(examples, lengths, shared.work.collate, shared.work.loss)
    progress = train(shared.adapter.model, shared.adapter, work, shared.settings, seed=0)
    assert stepped.losses == pytest.approx(progress.curve.loss, rel=1e-6)


def test_logits_of_the_answer_alone_give_the_same_losses():
    settings = loop(answer=2).overhead["tiny"]
    few, all_of_them = (OurLoop(settings, label) for label in (OURS, ALL_LOGITS))
    for turn in range(WARM_UP + 3):
        few.turn(turn)
        all_of_them.turn(turn)
    assert few.losses == pytest.approx(all_of_them.losses, rel=1e-6)
    few_logits, all_logits = (loop.work.collate(loop.work.examples[:4]) for loop in (few, all_of_them))
    assert (few_logits.inputs["labels"].shape, all_logits.inputs["labels"].shape) == ((4, 2), (4, 7))
    assert few_logits.weight == all_logits.weight == 8


def test_our_loop_has_the_dropout_that_its_label_says():
    settings = loop(**BERT).overhead["tiny"]
    kinds = {
        label: {
            type(layer)
            for layer in OurLoop(settings, label).model.modules()
            if isinstance(layer, torch.nn.Dropout)
        }
        for label in (OURS, STOCK)
    }
    assert kinds == {OURS: {CheapDropout}, STOCK: {torch.nn.Dropout}}
    theirs = {type(layer) for layer in TrainerLoop(settings).model.modules()}
    assert CheapDropout not in theirs
    assert torch.nn.Dropout in theirs


def test_growth_varies_one_axis_at_a_time():
    points = time_points(suite(**GROWTH).overhead["tiny"], 0, lambda text: None).growth
    shapes = [(p.axis, p.rank, p.width, p.layers) for p in points]
    assert shapes == [("rank", 2, 16, 2), ("rank", 4, 16, 2), ("width", 2, 32, 2), ("layers", 2, 16, 3)]
    for point in points:
        assert point.seconds.keys() == {FLOOR, "lora", "scalora"}
        assert all(len(rounds) == 2 and min(rounds) > 0 for (rounds,) in point.seconds.values())
        (rescales,), (steps_of_it,) = point.rescale["scalora"], point.seconds["scalora"]
        assert len(rescales) == 2
        pairs = zip(rescales, steps_of_it, strict=True)
        assert all(0 < rescale < whole for rescale, whole in pairs)


def test_growth_measures_adapters_that_plan_over_the_steps_of_a_run():
    shapes = {"base": {"rank": 8, "width": 16, "layers": 1}, "rank": [8], "width": [], "layers": []}
    entry = suite(**GROWTH | shapes | {"adapters": ["adalora"], "rounds": 8})
    (point,) = time_points(entry.overhead["tiny"], 0, lambda text: None).growth
    assert [len(rounds) for rounds in point.seconds["adalora"]] == [8]


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_the_command_writes_the_record_and_the_report(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"experiments": {}, "overhead": {"growth": GROWTH, "other": GROWTH}}))
    words = ["overhead", str(path), "--results", str(tmp_path / "results"), "--only"]
    assert main([*words, "nothing"]) == 2
    assert "there are: growth, other" in capsys.readouterr().err
    assert main([*words, "g*"]) == 0
    written = Path(capsys.readouterr().out.splitlines()[-1])
    assert written == tmp_path / "results" / "mine" / "report.md"
    assert "### growth: stack of linear layers" in written.read_text()
    assert "2 processes × 2 rounds on " in written.read_text()
    assert [record.name for record in load(written.parent).overhead] == ["growth"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "loops"}, "loops"),
        ({"kind": "loop", **BERT, "rank": 2, "alpha": 4, "batch": 4, "length": 8, "answer": 2}, "causal"),
        (GROWTH | {"rank": [2, 64]}, "rank 64 is above width 16"),
        (GROWTH | {"rank": [], "width": [], "layers": []}, "nothing grows here"),
        (GROWTH | {"adapters": ["full"]}, "adapter full has no rank"),
        (GROWTH | {"adapters": ["scalor"]}, "did you mean 'scalora"),
    ],
)
def test_mistakes_are_named(entry, message):
    with pytest.raises(ValueError, match=message):
        suite(**entry)


def test_a_measurement_is_another_one_when_its_settings_change():
    prints = {fingerprint(identity(loop(length=length).overhead["tiny"])) for length in (8, 16)}
    assert len(prints) == 2
