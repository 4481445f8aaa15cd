"""What each of two processes does, once for all tests that look at it: importing all of it takes longer."""

from __future__ import annotations

import os
import pickle
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from torch import distributed, nn
from torch.nn import functional
from torch.optim import AdamW
from transformers.pytorch_utils import Conv1D

from rankbench import adapters
from rankbench.adapters.shards import own, whole
from rankbench.bench.cost.step import RandomTokens
from rankbench.bench.cpu.allocator import give_back_freed_memory
from rankbench.bench.records import Curve
from rankbench.bench.run import knowledge
from rankbench.bench.run.checkpoint import Checkpoint, kept
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.order import Listener
from rankbench.bench.run.sharding import in_turn, shard
from rankbench.bench.run.start import attached
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.run.train import Watch, Work, train
from rankbench.bench.seeds import generator
from rankbench.bench.suite import AdapterSpec, Model, Training, make_adapter
from rankbench.tasks import Batch, Head, create
from rankbench.tasks.causal import chunks
from rankbench.tasks.causal import loss as causal_loss
from tests import golden
from tests.conftest import TARGETS, tiny_model
from tests.examples import example
from tests.tiny_architectures import ENCODERS, cut, spec_of
from tests.tiny_text import bert, encoder_tokenizer

TOYS = ("lora", "scalora", "scalora-nnls", "lora2")
SETTINGS = Training(steps=6, batch_size=6, accumulation=2, learning_rate=1e-2, precision="no")
PAPERS = {  # run of a suite -> by how much, of a loss, the arithmetic of other batches may move it
    ("paper-glue-scalora", "mnli--lora--s0"): 1e-5,
    ("paper-glue-scalora", "mnli--scalora-nnls--s0"): 1e-5,
    ("paper-rslora", "openorca--rslora-r2048--s0"): 5e-3,  # bf16, gradient checkpointing
    ("paper-commonsense", "boolq-llama2--scalora-nnls--s0"): 5e-3,
}
SHARED = [name for name in adapters.names() if not adapters.kind(name).one_process]
EVERYWHERE = [(name, "llama") for name in SHARED]
EVERYWHERE += [(name, "deberta-v2") for name in ("lora", "lora2", "scalora", "full")]  # each kind of its own
EVERYWHERE += [("scalora", "gpt2"), ("full", "gpt2")]  # Conv1D: what is cut are columns of the weight
LONG = [("lora", "llama", False), ("lora", "llama", True), ("full", "gpt2", False), ("full", "gpt2", True)]
"""Adapter, architecture and whether weights are in parts; gpt2 has one matrix for words and logits."""
STOPPED = [("lora", False), ("scalora", False), ("scalora", True), ("adalora", True), ("full", True)]
"""Adapter and whether weights are in parts."""

FOUND = "found.pickle"
Result = dict[str, Any]


def result(model: nn.Module, losses: list[float]) -> Result:
    """The losses, and a hash of the weights."""
    digest = sha256()
    for tensor in model.state_dict().values():
        digest.update(whole(tensor).flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return {"losses": losses, "weights": digest.hexdigest()}


def toy(name: str, dtype: torch.dtype = torch.float64) -> Result:
    net = golden.model().eval().to(dtype)
    net[2].p = 0.0  # each process would draw its own dropout
    adapter = example(name, steps=6)
    adapter.attach(net, ["0", "3"], heads=["5"], generator=generator(0, "adapter"))
    return result(net, train(net, adapter, golden.work(), SETTINGS, 0).curve.loss)


def folded(*, in_parts: bool = False) -> dict[str, torch.Tensor]:
    """Weights in bfloat16 after three folds, in float32: from a state that another adapter takes back; one
    layer's rows are odd in number, and of another, which lies the other way round, its columns."""

    def adapted() -> tuple[nn.Module, adapters.Adapter]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 7), Conv1D(4, 7), nn.Linear(4, 2)).bfloat16()
        adapter = example("scalora", steps=4)
        adapter.attach(net, ["0", "1"], heads=["2"], generator=generator(0, "adapter"))
        return (shard(net, make_accelerator().device) if in_parts else net), adapter

    _, adapter = adapted()
    draw = generator(1, "gradients")
    factors = [layer.get_parameter(key) for layer in adapter.layers.values() for key in ("A", "B")]
    optimizer = AdamW(factors, lr=1e-2)
    for step in range(3):
        for factor in factors:
            factor.grad = torch.randn(factor.shape[::-1], generator=draw).t()
        adapter.before_step(optimizer, step)
        optimizer.step()
    net, other = adapted()
    other.load_state_dict(kept(adapter.state_dict(copy=False)))
    held = [own(buffer).numel() for _, buffer in net.named_buffers()]
    found = {name: other.weight(name) for name in other.layers} | {"held": torch.tensor(held)}
    other.merge(net, dtype=torch.float32)
    return found | {
        f"merged {name}": whole(net.get_parameter(f"{name}.weight").detach()) for name in ("0", "1")
    }


def dropped() -> Result:
    """Which of 64 ones dropout leaves in a process's first two batches; both processes have the same."""
    net, masks = nn.Sequential(nn.Linear(64, 64)), []

    def loss(net: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        masks.append(functional.dropout(torch.ones(64)).ne(0).int().tolist())
        return net(inputs["x"]).sum()

    adapter = make_adapter(AdapterSpec(name="full"), learning_rate=1e-3, steps=2)
    adapter.attach(net, ["0"])
    ones = Work(
        [{"x": torch.ones(64)}] * 8, [1] * 8,
        lambda chosen: Batch({"x": torch.stack([row["x"] for row in chosen])}, len(chosen)), loss,
    )  # fmt: skip
    train(net, adapter, ones, Training(steps=2, batch_size=2, accumulation=2, learning_rate=1e-3), 0)
    return {"masks": masks}


IN_PARTS = ("paper-rslora", "openorca--rslora-r2048--s0")
"""Also with weights in parts."""


def paper(
    run: tuple[str, str], folder: Path, examples: int, batch_size: int, accumulation: int, **training: Any
) -> Result:
    """Five steps of a suite's run on a tiny model, all examples in each."""
    spec = spec_of(*run)
    task = create("tiny-classification" if spec.model.name in ENCODERS else "tiny-causal", train=examples)
    spec = cut(
        spec, folder / Path(spec.model.name).name,
        steps=5, batch_size=batch_size, accumulation=accumulation, warmup=0.0, observe=0, select="last",
        **training,
    )  # fmt: skip
    prepared = task.prepare(None)
    accelerator = make_accelerator(spec.training.precision)
    model, adapter = attached(spec, task, accelerator.device)
    work = Work(prepared.train, prepared.lengths, task.collate, task.loss)
    progress = train(model, adapter, work, spec.training, 0, accelerator=accelerator)
    return result(model, progress.curve.loss)


def merged(name: str, architecture: str, *, in_parts: bool = False, answers: bool = False) -> Result:
    """Curve and weights of four steps in float64 without dropout, and the share of the frozen weights that
    this process held. `answers`: by the loss of our tasks, all tokens learned."""
    model = tiny_model(architecture, dtype=torch.float64)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    adapter = example(name, steps=4)
    adapter.attach(model, TARGETS[architecture], generator=generator(0, "adapter"))
    tokens = RandomTokens(architecture != "deberta-v2", 16, 7)
    ids = list(tokens.draw(model.config).inputs["input_ids"] % 64)

    def collate(chosen: Any) -> Batch:
        rows = torch.stack([row["input_ids"] for row in chosen])
        return Batch({"input_ids": rows, "attention_mask": torch.ones_like(rows)}, len(rows))

    accelerator = make_accelerator()
    if in_parts:
        shard(model, accelerator.device)
    frozen = [p for p in model.parameters() if name == "full" or not p.requires_grad]
    held = sum(own(p).numel() for p in frozen) / sum(p.numel() for p in frozen)

    def loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return causal_loss.answer_loss(model, inputs | {"labels": inputs["input_ids"]})

    work = Work([{"input_ids": row} for row in ids], [7] * 16, collate, loss if answers else tokens.loss)
    settings = Training(steps=4, batch_size=4, accumulation=2, learning_rate=1e-2)
    curve = train(model, adapter, work, settings, 0, accelerator=accelerator).curve
    adapter.merge(model)
    weights = {key: whole(tensor).numpy().copy() for key, tensor in model.state_dict().items()}
    return {"loss": curve.loss, "norm": curve.gradient_norm, "weights": weights, "held": held}


def stopped_and_resumed(name: str, in_parts: bool, path: Path, listener: Listener) -> list[Result]:
    """Of four steps with dropout: done in one go; stopped after the first and gone on with; and the state of
    the last step put into a new model. Rows are odd in number: one process has one more than the other."""
    work = golden.work()

    def train_it(steps: int, checkpoint: Checkpoint | None, watch: Watch, state: Any = None) -> Any:
        torch.manual_seed(0)
        sizes = ((8, 7), (7, 5), (5, 3))
        first, second, head = (nn.Linear(*size, dtype=torch.float64) for size in sizes)
        net = nn.Sequential(first, nn.Tanh(), nn.Dropout(0.5), second, nn.Tanh(), head)
        adapter = example(name, steps=4)
        adapter.attach(net, ["0", "3"], heads=["5"], generator=generator(0, "adapter"))
        accelerator = make_accelerator()
        if in_parts:
            shard(net, accelerator.device)
        if state is not None:
            adapter.load_state_dict(state)
            return result(net, [])
        settings = Training(steps=steps, batch_size=6, accumulation=2, learning_rate=1e-2)
        progress = train(
            net, adapter, work, settings, 0, accelerator=accelerator, watch=watch, checkpoint=checkpoint
        )
        return result(net, progress.curve.loss), kept(adapter.state_dict(copy=False))

    in_one_go, state = train_it(4, None, Watch())
    checkpoint = Checkpoint(path, "f", every_seconds=1e9)
    try:
        train_it(4, checkpoint, Watch(stopped=listener.stopped))
        raise AssertionError("it was not stopped")
    except Interrupted:
        distributed.barrier()
    resumed, _ = train_it(4, checkpoint, Watch())
    loaded = train_it(0, None, Watch(), state)
    return [in_one_go, resumed, loaded]


def representations(*, in_parts: bool = False) -> torch.Tensor:
    """Of the general text, by an encoder."""
    model = bert(2)
    if in_parts:
        shard(model, make_accelerator().device)
    with patch.object(knowledge.models, "load_tokenizer", lambda _: encoder_tokenizer()):
        found = knowledge.read(model, Model(name="any"), Head("sequence", 2))
    assert found is not None
    return found


def growth() -> float:
    """By how much of a model's size a process grows that had it whole and keeps a part of it."""
    make_accelerator()
    give_back_freed_memory()
    before = psutil.Process().memory_info().rss

    def made() -> nn.Module:
        layers = nn.ModuleList(nn.Linear(2048, 2048, bias=False) for _ in range(8))
        return shard(nn.Sequential(layers).requires_grad_(False), torch.device("cpu"))

    model = in_turn(made)
    size = sum(4 * parameter.numel() for parameter in model.parameters())
    return (psutil.Process().memory_info().rss - before) / size


def both(folder: Path, listener: Listener) -> None:
    """Write what the two processes found, by what they did: of each step's micro-batches each takes every
    other. Then the second one fails, while the first waits for it. Both hear no signal that the run hears."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    found: dict[Any, Any] = {name: toy(name) for name in TOYS} | {"dropped": dropped()}
    found["bfloat16"] = toy("scalora", torch.bfloat16)
    found["folded"] = folded(in_parts=True)
    found |= {cell: paper((suite, cell), folder, 8, 2, 4) for suite, cell in PAPERS}
    found["growth"] = growth()
    found["representations"] = representations(in_parts=True)
    found["in parts"] = paper(IN_PARTS, folder, 8, 2, 4, processes=2, shard=True)
    for name, architecture in EVERYWHERE:
        for parts in (False, True):
            found[name, architecture, parts] = merged(name, architecture, in_parts=parts)
    # `cross_entropy` is of logits that are formed whole.
    with patch.object(causal_loss, "LARGE", 0), patch.multiple(chunks, CHUNK=5 * 64, cross_entropy=None):
        for name, architecture, parts in LONG:
            found["long", name, parts] = merged(name, architecture, in_parts=parts, answers=True)
    for name, parts in STOPPED:
        path = folder / f"{name}-{parts}.pt"
        found[name, parts] = stopped_and_resumed(name, parts, path, listener)
    listener.tick(
        Curve(
            step=[1, 2],
            loss=[3.0, 4.0],
            penalty=[0, 0],
            gradient_norm=[0, 0],
            learning_rate=[0, 0],
            seconds=[0, 0],
        )
    )
    gathered: list[Any] = [None, None]
    distributed.all_gather_object(gathered, found)
    if distributed.get_rank() == 1:
        raise MemoryError
    (folder / FOUND).write_bytes(pickle.dumps(gathered))
    distributed.barrier()
