"""Runs over frozen weights in bfloat16 and in four bits, from their suite to what is exported of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from transformers import AutoModelForSequenceClassification

from rankbench import adapters
from rankbench.adapters.shards import in_parts
from rankbench.bench import models
from rankbench.bench.export.restore import restore, trained_of
from rankbench.bench.export.scoring import saved, score
from rankbench.bench.export.write import write
from rankbench.bench.records import Folders, RunRecord
from rankbench.bench.run import runner, scores
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.job import resolve
from rankbench.bench.run.order import Listener
from rankbench.bench.run.runner import ROUNDING, Order
from rankbench.bench.run.sharding import shard
from rankbench.bench.run.start import ready
from rankbench.bench.suite import Model, RunSpec
from rankbench.tasks import Head
from tests.bench.tiny_suite import numbers, record_of

pytest.importorskip("bitsandbytes")
MORE = [("lora", "bfloat16"), ("dora", "nf4"), ("scalora", "bfloat16")]
CASES = [("lora", "nf4"), *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]


def spec(adapter: str, weights: str, **training: Any) -> RunSpec:
    recipe = {"steps": 6, "batch_size": 4, "learning_rate": 0.01, "observe": 3, "select": "best"}
    return RunSpec(
        suite="held", experiment="tiny", label=adapter, seed=0, save=True,
        task={"name": "tiny-classification"}, model={"name": "tiny-llama", "weights": weights},
        targets=["q_proj", "v_proj"], training=recipe | training, adapter={"name": adapter, "rank": 2},
    )  # fmt: skip


def done(one: RunSpec, folder: Path) -> RunRecord:
    record = record_of(one, folder)
    assert isinstance(record, RunRecord)
    return record


@pytest.mark.parametrize(("adapter", "weights"), CASES)
def test_it_is_scored_unmerged_and_says_so(adapter, weights, tmp_path, monkeypatch):
    """Each score is taken of a model whose layers are still adapted, in the weights' precision."""
    one, seen, evaluate = spec(adapter, weights), [], scores.evaluate

    def watched(task, model, split, step):
        layer = model.get_submodule("model.layers.0.self_attn.q_proj")
        seen.append((split, type(layer) is torch.nn.Linear, model.dtype))
        return evaluate(task, model, split, step)

    monkeypatch.setattr(scores, "evaluate", watched)
    record = done(one, tmp_path)
    assert {split for split, *_ in seen} == {"selection", "test"}
    assert all(entry[1:] == (False, torch.bfloat16) for entry in seen)
    assert record.protocol["weights_held_in"] == record.identity["weights_held_in"] == weights
    assert record.protocol["scored"] == "unmerged, as trained"
    assert record.config["model"] == {
        "name": "tiny-llama",
        "revision": None,
        "head": "fresh",
        "weights": weights,
    }
    if adapter == "scalora":  # it has moved the frozen weights: what was trained is not known
        assert ROUNDING not in record.diagnostics
    else:
        assert 0 < record.diagnostics[ROUNDING] < 1
    assert record.merge_parity is not None
    assert 0 < record.merge_parity.largest_logit_difference < 0.1


@pytest.mark.parametrize(("adapter", "weights"), CASES)
def test_one_that_is_stopped_goes_on_bit_for_bit(adapter, weights, tmp_path):
    one = spec(adapter, weights)
    whole = done(one, tmp_path / "whole")
    job, folders, ticks = resolve(one), Folders(tmp_path / "parts"), []
    order = Order(job, folders.checkpoint(one.cell))
    with pytest.raises(Interrupted):
        runner.run(order, Listener(ticks.append, lambda: len(ticks) == 3))
    parts = done(one, tmp_path / "parts")
    assert numbers(parts) | {"saved": None} == numbers(whole) | {"saved": None}


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["bfloat16", "nf4"])
def test_autocast_and_recomputed_activations_run_too(weights, tmp_path):
    plain = done(spec("lora", weights), tmp_path / "plain")
    found = done(spec("lora", weights, precision="bf16", gradient_checkpointing=True), tmp_path / "both")
    torch.testing.assert_close(found.curve.loss, plain.curve.loss, rtol=0.05, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "weights"), CASES)
def test_what_was_saved_is_scored_as_it_was_and_exported_in_float32(adapter, weights, tmp_path):
    one, folders = spec(adapter, weights), Folders(tmp_path / "held")
    record = done(one, folders.root)
    trained = trained_of(folders, record, one.cell)
    again = score(saved(folders, record, one.cell), [ready(resolve(one))[0]])
    assert again.scores[0].metrics["nll"] == record.metrics.best["nll"]
    held, wide = restore(record, trained, as_held=True), restore(record, trained)
    assert {p.dtype for p in wide.model.parameters()} == {torch.float32}
    weights_of = {layer: held.adapter.weight(layer) for layer in held.adapter.layers}
    for layer, exact in weights_of.items():
        torch.testing.assert_close(wide.adapter.weight(layer), exact, rtol=0, atol=1e-7)
    write(wide, one.cell, tmp_path / "merged", "merged")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    for layer, exact in weights_of.items():
        torch.testing.assert_close(loaded.get_submodule(layer).weight, exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize("attach", [False, True])
def test_a_narrow_model_with_a_float32_head_is_cut(attach):
    """What is gathered together has to be of one precision: the head stays whole, before an adapter too."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        name = Model(name="tiny-bert", weights="bfloat16")
        model, expected = (models.load_headed(name, Head("sequence", 2), 0) for _ in range(2))
        if attach:
            adapters.create("lora", rank=2).attach(
                model, ["query"], generator=torch.Generator().manual_seed(0)
            )
        shard(model, torch.device("cpu"))
        ids = torch.arange(12).view(2, 6)
        assert torch.equal(model.eval()(input_ids=ids).logits, expected.eval()(input_ids=ids).logits)
        assert in_parts(model.get_parameter("bert.pooler.dense.weight"))
        assert not in_parts(model.classifier.weight)
    finally:
        distributed.destroy_process_group()
