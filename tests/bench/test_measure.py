"""Ranks, parity, memory and provenance."""

from __future__ import annotations

import copy
import resource
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from rankbench import adapters
from rankbench.bench.cpu.allocator import keep_freed_memory
from rankbench.bench.run import probes, usage
from rankbench.bench.run.provenance import provenance
from rankbench.bench.run.scores import merge_parity
from rankbench.bench.run.start import recompute_activations
from rankbench.tasks import Batch
from rankbench.tasks.scoring import logits
from tests import golden
from tests.examples import example
from tests.tiny_text import gpt2

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize("rank", [0, 1, 5, 20])
def test_accumulated_rank_counts_what_is_above_rounding(rank):
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(64, 48, generator=draw)
    update = torch.randn(64, rank, generator=draw) @ torch.randn(rank, 48, generator=draw) * 1e-3
    # The sum rounds in float32: its noise has full rank and must not count.
    assert probes.numerical_rank((base + update) - base) == rank


@pytest.mark.parametrize("name", ["full", "lora", "scalora", "lora2", "dora"])
@pytest.mark.parametrize("items", [3, 40])
def test_the_gradients_rank_is_that_of_the_weights_own_gradient(name, items):
    model = golden.model()
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(items, 8, generator=draw, dtype=torch.float64)
    target = torch.randn(items, 3, generator=draw, dtype=torch.float64)
    plain = copy.deepcopy(model)
    adapter = example(name, steps=30)
    adapter.attach(model, ["0", "3"], heads=["5"], generator=torch.Generator().manual_seed(0))

    def loss(net, inputs):
        return (net(inputs["x"]) - inputs["y"]).square().sum()

    # Every increment is zero at the start, so the plain model has the same gradients.
    loss(plain.eval(), {"x": x, "y": target}).backward()
    expected = {n: int(torch.linalg.matrix_rank(plain.get_submodule(n).weight.grad, rtol=1e-3)) for n in "03"}
    found = probes.gradient_ranks(model, adapter, loss, Batch({"x": x, "y": target}, items))
    assert found.ranks == expected
    assert max(found.ranks.values()) <= items
    assert found.one_position == ["0", "3"]  # a row is an input
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["deberta-v2", "albert"])
def test_the_gradients_rank_is_over_all_calls_of_a_layer(kind):
    """DeBERTa's queries and keys read the positions too, ALBERT's blocks are one: autograd adds all up."""
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"embedding_size": 16, "num_hidden_layers": 2, "initializer_range": 0.2, "pad_token_id": 0}
    sizes |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
    sizes |= {"position_buckets": 4, "position_biased_input": False, "norm_rel_ebd": "layer_norm"}
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **sizes)).eval()
    names = [name for name, _ in model.named_modules() if name.split(".")[-1].startswith(("query", "key"))]
    adapter = adapters.create("full")
    adapter.attach(model, names)
    batch = Batch({"input_ids": torch.randint(4, 64, (2, 6)), "labels": torch.tensor([0, 1])}, 2)

    def loss(net, inputs):
        return functional.cross_entropy(logits(net, inputs), inputs["labels"])

    found = probes.gradient_ranks(model, adapter, loss, batch)
    loss(model, batch.inputs).backward()
    expected = {name: probes.numerical_rank(model.get_submodule(name).weight.grad) for name in names}
    assert found.ranks == expected
    assert max(expected.values()) > 2
    assert not found.one_position  # an earlier call reads all positions, or reads the model's own


def test_gradients_are_probed_by_recomputing_where_steps_are():
    """Blocks run a second time rather than keep what they compute, without dropout: no number moves."""
    model = gpt2().train()
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["c_attn"], heads=[], generator=torch.Generator().manual_seed(0))
    batch = Batch({"input_ids": torch.arange(24).reshape(4, 6)}, 4)
    losses, calls = [], []
    model.transformer.h[0].ln_1.register_forward_hook(lambda *_: calls.append(0))

    def loss(net, inputs):
        losses.append(net(**inputs, use_cache=False).logits.logsumexp(-1).square().sum())
        return losses[-1]

    kept = probes.gradient_ranks(model, adapter, loss, batch)
    assert len(calls) == 1
    recompute_activations(model)
    assert probes.gradient_ranks(model, adapter, loss, batch) == kept
    assert len(calls) == 3
    assert losses[0] == losses[1]
    assert all("forward" not in vars(block) for block in model.transformer.h)


def test_a_decoder_with_a_head_keeps_no_keys_while_it_is_probed():
    """It would by its configuration; of padded texts, keys that are there twice do not fit the mask."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=64, pad_token_id=0, num_key_value_heads=2, **sizes)
    model = Qwen2ForSequenceClassification(config).train()
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["q_proj"], heads=[], generator=torch.Generator().manual_seed(0))
    ids = torch.arange(1, 25).reshape(4, 6)
    ids[0, 4:] = 0
    batch = Batch({"input_ids": ids, "attention_mask": (ids > 0).long()}, 4)

    def loss(net, inputs):
        return logits(net, inputs).square().sum()

    kept = probes.gradient_ranks(model, adapter, loss, batch)
    with warnings.catch_warnings(action="error"):  # every run would say it on the terminal
        recompute_activations(model)
    assert probes.gradient_ranks(model, adapter, loss, batch) == kept
    assert config.use_cache


def test_layers_behind_which_one_position_reaches_the_loss_are_named():
    """Of three positions an input, the first alone feeds the head; the layers before it mix or keep them."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    adapter = adapters.create("full")
    adapter.attach(model, ["0", "2"], heads=[])
    batch = Batch({"x": torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))}, 5)

    def pooled(net, inputs):
        return net[2](net[:2](inputs["x"])[:, 0]).square().sum()

    def mixed(net, inputs):
        return net[2](net[:2](inputs["x"]).mean(dim=1)).square().sum()

    def every(net, inputs):
        return net(inputs["x"]).square().sum()

    for loss, expected in ((pooled, ["0", "2"]), (mixed, ["2"]), (every, [])):
        assert probes.gradient_ranks(model, adapter, loss, batch).one_position == expected


def test_the_probe_sees_what_training_adds():
    model = golden.model()
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["0", "3"], heads=["5"], generator=torch.Generator().manual_seed(0))
    probe = probes.RankProbe(adapter)
    assert probe.ranks() == {"0": 0, "3": 0}
    with torch.no_grad():
        adapter.layers["3"].A.copy_(torch.randn(12, 2, generator=torch.Generator().manual_seed(1)))
    assert probe.ranks() == {"0": 0, "3": 2}


def test_merge_parity_counts_flips():
    before = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.5, 0.4]])
    after = torch.tensor([[0.0, 1.0], [2.25, 1.0], [0.4, 0.5]])
    assert merge_parity(before, after).model_dump() == {
        "largest_logit_difference": 0.25,
        "top1_flips": 1,
        "items": 3,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot reset a process's peak")
def test_the_peak_is_of_the_time_since_the_reset():
    keep_freed_memory()  # as the loop does
    big = torch.ones(40_000_000)
    with_big = usage.peak_memory().peak_resident
    del big
    usage.reset_peak_memory()
    assert usage.peak_memory().peak_resident < with_big - 100


def test_a_system_that_tells_less_of_memory_fails_no_run(monkeypatch):
    """A peak that may not be reset (AppArmor, a read-only /proc), and gVisor's status, which names none."""
    write, read = Path.write_text, Path.read_text

    def refused(path, *given, **options):
        if path.name == "clear_refs":
            raise PermissionError(13, "Permission denied", str(path))
        return write(path, *given, **options)

    def short(path, *given, **options):
        return "VmRSS:\t1 kB\n" if str(path) == "/proc/self/status" else read(path, *given, **options)

    monkeypatch.setattr(Path, "write_text", refused)
    usage.reset_peak_memory()
    monkeypatch.setattr(Path, "read_text", short)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    assert usage.peak_memory().peak_resident == pytest.approx(peak, rel=0.01)


def test_provenance_says_what_ran_where():
    seen = provenance(data_sha256="abc")
    assert seen["packages"]["torch"] == torch.__version__
    assert seen["threads"] == torch.get_num_threads()
    assert seen["data_sha256"] == "abc"
    assert {"commit", "dirty", "python", "platform", "device"} <= seen.keys()
