"""A run over narrow frozen weights, asked by lm-eval: it writes and is read as the model that was trained."""

from __future__ import annotations

import io

import pandas as pd
import pytest
import yaml

from rankbench.bench import models
from rankbench.bench.run.job import resolve
from rankbench.bench.run.order import Done, Order
from rankbench.bench.run.runner import run
from rankbench.bench.run.start import ready
from rankbench.bench.suite import load_suite, plan
from rankbench.tasks import Head
from tests.tasks.made_instruct import TEMPLATES, choice_yaml, rows, write
from tests.tiny_text import llama, tokenizer

LENGTH = 6
WRITES = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["<none>"], "max_gen_toks": LENGTH, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def written(model, prompt: str) -> str:
    made = tokenizer()
    asked = made(prompt, return_tensors="pt")
    ids = model.generate(
        **asked, max_new_tokens=LENGTH, do_sample=False, eos_token_id=made.eos_token_id, pad_token_id=0
    )
    return made.decode(ids[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("weights", ["bfloat16", "nf4"])
def test_a_model_that_has_learnt_nothing_answers_as_its_frozen_weights_do(weights, precision, tmp_path):
    if weights == "nf4":
        pytest.importorskip("bitsandbytes")
    for words in (llama(), tokenizer()):
        words.save_pretrained(tmp_path / "model")
    task = {"name": "instruct", "train": write(tmp_path / "rows.jsonl", rows(20)), **TEMPLATES}
    task |= {"sizes": {"test": 6}, "max_length": 128, "scoring_batch": 1}
    scored = [choice_yaml(tmp_path, "colours"), choice_yaml(tmp_path, "written", **WRITES)]
    experiment = {
        "task": task | {"score": [{"yaml": str(path)} for path in scored] + ["perplexity"]},
        "model": {"name": str(tmp_path / "model"), "weights": weights},
        "targets": ["q_proj", "v_proj"],
        "training": {"steps": 1, "batch_size": 2, "learning_rate": 1e-30, "precision": precision},
        "adapters": {"lora": {"rank": 2}},
    }
    suite = tmp_path / "mine.yaml"
    suite.write_text(yaml.safe_dump({"seeds": [0], "experiments": {"mine": experiment}}))
    (spec,) = plan(load_suite(str(suite)))
    done = run(Order(resolve(spec), tmp_path / "run.pt"))
    assert isinstance(done, Done)
    found = pd.read_parquet(io.BytesIO(done.predictions)).set_index("item")
    frozen = models.load_headed(spec.model, Head("causal"), 0).eval()
    for i in range(6):
        assert found["answer"][f"written/{i}"] == written(frozen, f"written thing {i} is")
    made, _ = ready(resolve(spec))
    wide = made.score(models.widen(frozen), "test").metrics["perplexity"]
    assert done.record.metrics.best["perplexity"] == pytest.approx(wide, rel=2e-3)
    assert done.record.metrics.best["perplexity"] != wide, "it was scored in float32"
    assert done.record.protocol["weights_held_in"] == weights
    assert done.record.protocol["scoring_batch"] == 1
