"""The papers' suites: planned without a network, counted right, and every code path of theirs trained
and scored on tiny random models of the same architectures."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset

from rankbench.bench import models
from rankbench.bench.cli import main
from rankbench.bench.cost.estimate import estimate, peak_bytes
from rankbench.bench.cost.sizes import sizes
from rankbench.bench.records import Folders, RunRecord
from rankbench.bench.run.job import make_task
from rankbench.bench.run.scores import merge_parity
from rankbench.bench.run.start import attached
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.run.train import Work, train
from rankbench.bench.suite import Model, RunSpec, load_suite, plan, suite_names
from rankbench.reports.claims.published import load_papers
from rankbench.reports.claims.reproductions import TASKS
from rankbench.tasks import Head, create
from tests.bench.tiny_suite import record_of
from tests.tasks import made_data
from tests.tiny_architectures import (
    DEBERTA,
    ENCODERS,
    GEMMA_3,
    LLAMA_2,
    LLAMA_3,
    SHRUNK,
    cut,
    save,
    spec_of,
)
from tests.tiny_text import encoder_tokenizer, tokenizer, write_mirror

SUITES = [name for name in suite_names() if name.startswith("paper-") and name != "paper-overhead"]
"""But the one that has no runs: `tests/bench/test_turns.py` has its measurement."""

PUBLISHED = {  # parameters of the hub's checkpoints, the encoders with a fresh head of two classes
    DEBERTA: 184_423_682,
    LLAMA_2: 6_738_415_616,
    LLAMA_3: 8_030_261_248,
    GEMMA_3: 12_187_325_040,
}

# Sum of (in + out) over a model's adapted matrices: a rank's worth of LoRA parameters.
DEBERTA_SIX = 12 * (4 * (768 + 768) + 2 * (768 + 3072))
LLAMA_2_FIVE = 32 * (3 * (4096 + 4096) + 2 * (4096 + 11008))
LLAMA_2_SEVEN = 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
LLAMA_3_FIVE = 32 * ((4096 + 4096) + 2 * (4096 + 1024) + 2 * (4096 + 14336))
GEMMA_3_FIVE = 48 * ((3840 + 4096) + 2 * (3840 + 2048) + 2 * (3840 + 15360))

RUNS = {
    "paper-glue-scalora": 8 * 7 * 5,
    "paper-commonsense": 2 * (8 + 1) * 6 * 3,
    "paper-math": 6 * 3,
    "paper-rslora": 12,
    "paper-glue-lora2": (8 * 8 + 4 * 4) * 5,
}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*words, **options):
        raise AssertionError("a plan must not open a connection")

    for method in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, method, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_paper_suite_is_looked_at_here():
    assert sorted(RUNS) == SUITES


PLANNED = {
    "paper-glue-scalora": "rte--*",
    "paper-commonsense": "boolq-*",
    "paper-math": "*",
    "paper-rslora": "*",
    "paper-glue-lora2": "rte--*",
}
"""Runs with each model and adapter of the suite: other tasks differ in the length of their texts."""


@pytest.mark.parametrize("suite", RUNS)
def test_a_suite_has_as_many_runs_as_its_paper(suite):
    assert len(list(plan(load_suite(suite)))) == RUNS[suite]


@pytest.mark.parametrize("suite", RUNS)
def test_what_is_planned_has_each_model_and_adapter(suite):
    def pairs(only: str) -> set[tuple[str, str]]:
        return {(spec.model.name, spec.label) for spec in plan(load_suite(suite), seeds=1, only=only)}

    assert pairs(PLANNED[suite]) == pairs("*")


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "only"), PLANNED.items())
def test_plan_prints_runs_parameters_memory_and_gpu_hours_without_a_network(suite, only, no_network, capsys):
    assert main(["plan", suite, "--only", only]) == 0
    out = capsys.readouterr().out
    assert f"\n{len(list(plan(load_suite(suite), only=only)))} runs" in out
    assert "GPU-hours a run" in out
    assert "MiB" in out
    assert "of an A100's peak: 312 TFLOP/s in bf16" in out
    total = float(out.rpartition("or about ")[2].partition(" GPU-hours")[0].replace(",", ""))
    assert 0.01 <= total < 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_architectures_have_the_published_number_of_parameters(name):
    head = Head("sequence", 2) if name in ENCODERS else Head("causal")
    model = models.empty_model(Model(name=name), head)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("suite", "cell", "parameters"),
    [
        ("paper-glue-scalora", "mnli--lora--s0", 4 * DEBERTA_SIX),
        ("paper-glue-scalora", "mnli--scalora-i--s0", 4 * DEBERTA_SIX),
        ("paper-glue-scalora", "mnli--hira--s0", 4 * DEBERTA_SIX),
        ("paper-glue-scalora", "mnli--full--s0", PUBLISHED[DEBERTA] - (768 + 1) * (2 + 768)),
        ("paper-commonsense", "piqa-llama2--lora-r32--s0", 32 * LLAMA_2_FIVE),
        ("paper-commonsense", "piqa-llama3--scalora--s0", 8 * LLAMA_3_FIVE),
        ("paper-math", "metamath--scalora--s0", 8 * GEMMA_3_FIVE),
        ("paper-commonsense", "piqa-llama3--hira--s0", 8 * LLAMA_3_FIVE),
        ("paper-rslora", "openorca--rslora-r2048--s0", 2048 * LLAMA_2_SEVEN),
        # Width times (in + out), and two inner factors and e for each of the 72 (144) matrices.
        ("paper-glue-lora2", "sst2--lora2--s0", 8 * DEBERTA_SIX + 72 * (2 * 8 * 8 + 8)),
        ("paper-glue-lora2", "sst2--lora2-k1--s0", DEBERTA_SIX + 72 * (2 * 8 + 8)),
        ("paper-glue-lora2", "mrpc--lora2-k1-planes--s0", 167_616),  # its table 4: 167.6k
        ("paper-glue-lora2", "sst2--lora-r1--s0", DEBERTA_SIX),
        ("paper-glue-lora2", "sst2--lora-r8--s0", 1_327_104),  # AdaLoRA's table: 1.33M
        ("paper-glue-lora2", "sst2--adalora-r2--s0", 4 * (DEBERTA_SIX + 72)),
        ("paper-glue-lora2", "sst2--adalora-r8--s0", 12 * (DEBERTA_SIX + 72)),
    ],
)
def test_adapters_of_the_suites_have_the_parameters_of_the_papers(suite, cell, parameters, no_network):
    spec = spec_of(suite, cell)
    assert sizes(spec, make_task(spec)).adapter == parameters


def test_gpu_hours_are_those_of_a_computation_by_hand():
    embedded = 2 * 32000 * 4096  # embedding and output product of Llama 2
    frozen, adapter = PUBLISHED[LLAMA_2] - embedded, 8 * LLAMA_2_SEVEN
    tokens = 625 * 32 * 256  # steps, batch, half of 512
    # Forward, backward to the activations, forward again; and the adapter's own gradient.
    operations = (6 * (frozen + adapter) + 2 * adapter) * tokens
    cost = estimate(spec_of("paper-rslora", "openorca--lora-r8--s0"))
    assert cost.operations == pytest.approx(operations, rel=1e-12)
    assert cost.gpu_hours == pytest.approx(operations / (0.4 * 312e12) / 3600, rel=1e-12)
    assert cost.gpu_hours == pytest.approx(0.444, rel=0.01)


def test_full_fine_tuning_costs_six_operations_a_weight_and_token():
    cost = estimate(spec_of("paper-glue-scalora", "cola--full--s0"))
    passed = PUBLISHED[DEBERTA] - 128100 * 768 - 768 * 2 - 512 * 768  # embeddings, their norm, positions
    assert cost.operations == 6 * passed * 6700 * 32 * 32
    assert cost.gpu_hours == pytest.approx(cost.operations / (0.4 * 19.5e12) / 3600)


def test_memory_holds_weights_and_what_is_trained():
    small, large = (estimate(spec_of("paper-rslora", f"openorca--lora-r{r}--s0")).memory for r in (8, 2048))
    weights = 4 * PUBLISHED[LLAMA_2] / 1024**2
    assert weights < small < 1.2 * weights
    # Value, gradient and two moments in float32; a layer's half-precision copy is small beside them.
    assert large - small == pytest.approx(2040 * LLAMA_2_SEVEN * 16 / 1024**2, rel=0.02)


@pytest.mark.slow
def test_only_rank_2048_needs_more_than_a_gpu_with_80_gb():
    needed = {}
    for suite, longest in (("paper-commonsense", "boolq-*"), ("paper-math", None), ("paper-rslora", None)):
        for spec in plan(load_suite(suite), seeds=1, only=longest):
            needed[spec.label] = max(needed.get(spec.label, 0), peak_bytes(spec))
    large = {label: memory for label, memory in needed.items() if memory > 80e9}
    assert large.keys() == {"lora-r2048", "rslora-r2048"}
    assert all(memory / 1024**3 == pytest.approx(104, abs=1) for memory in large.values())  # as the file says


@pytest.mark.parametrize(
    ("task", "steps", "warm_up", "examples", "epochs"),
    [
        ("cola", 6700, 100, 8551, 25),
        ("sst2", 50520, 1000, 67349, 24),
        ("mrpc", 3450, 345, 3668, 30),
        ("stsb", 4500, 100, 5749, 25),
        ("qqp", 227420, 2000, 363846, 20),
        ("mnli", 85904, 1000, 392702, 7),
        ("qnli", 16370, 500, 104743, 5),
        ("rte", 3900, 200, 2490, 50),
    ],
)
def test_steps_and_warm_up_are_the_release_s(task, steps, warm_up, examples, epochs):
    training = load_suite("paper-glue-lora2").experiments[task].training
    assert training.steps == steps == epochs * math.ceil(examples / 32)
    assert round(training.warmup * training.steps) == warm_up


def test_target_ranks_are_what_lora2s_figure_3_leaves():
    (paper,) = (paper for paper in load_papers() if paper.name == "LoRA²")
    (figure,) = (found for found in paper.tables if found.table == "Figure 3")
    experiments = load_suite("paper-glue-lora2").experiments
    for task, matrices in figure.rows[0].ranks.items():
        left = [rank for ranks in matrices.values() for rank in ranks]
        for label in ("lora2", "lora2-k1"):
            given = experiments[TASKS[task]].adapters[label].hyperparameters
            assert given["target_rank"] == round(sum(left) / len(left)), task


# What follows trains: each adapter of each suite, on a tiny model with the architecture's own switches.

MATRICES = {  # adapted matrices of two layers, by suite and model
    ("paper-glue-scalora", DEBERTA): 12,
    ("paper-glue-lora2", DEBERTA): 12,
    ("paper-commonsense", LLAMA_2): 10,
    ("paper-commonsense", LLAMA_3): 10,
    ("paper-math", GEMMA_3): 10,
    ("paper-rslora", LLAMA_2): 14,
}


@pytest.fixture(scope="module")
def tiny_folders(tmp_path_factory) -> dict[str, Path]:
    """Hub id -> a folder with a tiny random model of its architecture and a byte-level tokenizer."""
    folders = {}
    for name in SHRUNK:
        folders[name] = tmp_path_factory.mktemp("tiny") / name.rpartition("/")[2].lower()
        save(name, folders[name])
        made = encoder_tokenizer() if name in ENCODERS else tokenizer(1024)
        made.save_pretrained(folders[name])
    return folders


def _cells() -> list:
    """One run for each suite, model and adapter: one task and one rank stand for the others."""
    seen: dict[tuple, RunSpec] = {}
    for suite in SUITES:
        first: dict[str, str] = {}
        for spec in plan(load_suite(suite), seeds=1):
            if first.setdefault(spec.model.name, spec.experiment) == spec.experiment:
                values = {**spec.adapter.hyperparameters, "rank": None}
                seen.setdefault((suite, spec.model.name, spec.adapter.name, str(values)), spec)
    return [pytest.param(spec, id=f"{suite}-{spec.cell}") for (suite, *_), spec in seen.items()]


@pytest.mark.parametrize("spec", _cells())
def test_two_steps_on_a_tiny_model_of_the_same_architecture(spec, tiny_folders):
    matrices = None if spec.adapter.name == "full" else MATRICES[spec.suite, spec.model.name]
    task = create(
        "tiny-classification" if spec.model.name in ENCODERS else "tiny-causal", train=8, selection=4, test=4
    )
    spec = cut(
        spec, tiny_folders[spec.model.name],
        steps=3, batch_size=8, accumulation=1, warmup=0.0, schedule="constant", observe=0, select="last",
    )  # fmt: skip
    prepared = task.prepare(None)
    accelerator = make_accelerator(spec.training.precision)
    model, adapter = attached(spec, task, accelerator.device)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert model.is_activation_checkpointing == spec.training.gradient_checkpointing
    assert matrices is None or len(adapter.layers) == matrices
    work = Work(prepared.train, prepared.lengths, task.collate, task.loss)
    curve = train(model, adapter, work, spec.training, 0, accelerator=accelerator).curve
    # All examples are in every batch: the third loss is the first two steps' outcome.
    assert all(math.isfinite(loss) for loss in curve.loss)
    assert curve.loss[2] < curve.loss[0]
    before = task.logits(model)
    parity = merge_parity(before, task.logits(adapter.merge(model)))
    assert parity.largest_logit_difference < 1e-4 * (1 + before.abs().max())
    plain = models.load_model(spec.model, task, seed=0).state_dict()
    assert model.state_dict().keys() == plain.keys()
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in model.state_dict().items())


SCORED = [  # by classes, by a rating, by the likelihood of choices, by what is written
    ("paper-glue-scalora", "mnli--scalora-nnls--s0"),
    ("paper-glue-lora2", "stsb--lora2--s0"),
    ("paper-glue-lora2", "sst2--lora-r8--s0"),
    ("paper-commonsense", "winogrande-llama2--scalora-nnls--s0"),
    ("paper-commonsense", "piqa-llama3--lora--s0"),
    ("paper-commonsense", "piqa-llama3--scalora-i--s0"),
    ("paper-math", "metamath--scalora--s0"),
    ("paper-rslora", "openorca--rslora-r2048--s0"),
    ("paper-commonsense", "commonsense-170k-llama3--scalora--s0"),
]
SCORED_ITEMS = {"paper-math": 5 + 7 * 5, "paper-rslora": 5, "paper-commonsense": 8 * 4}
"""Of runs that are trained on one set and scored on others."""


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    """A few rows of every data set that is scored."""

    def rows(split: str, count: int, **columns) -> Dataset:
        made = [{key: make(f"{split} {i}", i) for key, make in columns.items()} for i in range(count)]
        return Dataset.from_list(made)

    def text(word: str):
        return lambda place, i: f"{place}: {word}"

    def data(*scored: str, **columns) -> dict[str, Dataset]:
        return {"train": rows("train", 16, **columns), **{name: rows(name, 6, **columns) for name in scored}}

    root, glue = tmp_path_factory.mktemp("mirror"), "nyu-mll/glue"
    names = ("validation_matched", "validation_mismatched")
    mnli = data(*names, premise=text("one"), hypothesis=text("two"), label=lambda _, i: i % 3)
    stsb = data("validation", sentence1=text("one"), sentence2=text("two"), label=lambda _, i: i % 5 + 0.5)
    sst2 = data("validation", sentence=text("one"), label=lambda _, i: i % 2)
    choice = {"sentence": text("it is _ here"), "option1": text("a"), "option2": text("b")}
    winogrande = data("validation", **choice, answer=lambda _, i: str(i % 2 + 1))
    ways = {"goal": text("to do"), "sol1": text("so"), "sol2": text("otherwise")}
    piqa = data("validation", **ways, label=lambda _, i: i % 2)
    gsm8k = data("test", question=text("how many"), answer=lambda place, i: f"{place}\n#### {i}")
    for name, splits in {"mnli": mnli, "stsb": stsb, "sst2": sst2}.items():
        write_mirror(root / name, glue, name, splits)
    write_mirror(root / "winogrande", "allenai/winogrande", "winogrande_xl", winogrande)
    write_mirror(root / "piqa", "baber/piqa", "default", piqa)
    _write_instruct(root / "instruct", gsm8k)
    return root


def _write_instruct(root: Path, gsm8k: dict[str, Dataset]) -> None:
    """What is trained on, and what such runs are scored on."""

    def trained(repo: str, **columns: str) -> None:
        made = [{key: f"{value} {i}" for key, value in columns.items()} for i in range(24)]
        write_mirror(root, repo, "default", {"train": Dataset.from_list(made)})

    trained("meta-math/MetaMathQA", query="How many are", response="#### ")
    trained("Open-Orca/OpenOrca", system_prompt="Be brief.", question="How many are", response="It is")
    trained("zwhe99/commonsense_170k", instruction="Please choose", output="the correct answer is answer")
    write_mirror(root, "openai/gsm8k", "main", gsm8k)
    kinds = "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory"
    for kind in (*kinds, "prealgebra", "precalculus"):
        made = [{"problem": f"{kind} {i}?", "solution": rf"So it is $\boxed{{{i}}}$."} for i in range(6)]
        rows = Dataset.from_list(made)
        write_mirror(root, "EleutherAI/hendrycks_math", kind, {"train": rows, "test": rows})
    for name in ("boolq", "piqa", "social_iqa", "hellaswag", "winogrande"):
        made_data.write_stock(root, name, made_data.stock_splits(name))
    for name in ("arc_easy", "arc_challenge", "openbookqa"):
        made_data.write_stock(root, name, made_data.stock_splits(name))


def _on_rows(spec: RunSpec, folder: Path, mirror: Path, **training) -> RunSpec:
    """The run on the tiny model and the few rows, with at most two micro-batches a step."""
    accumulation = min(spec.training.accumulation, 2)
    small = cut(spec, folder, steps=3, batch_size=2, accumulation=accumulation, **training)
    sizes: dict[str, Any] = {"train": 8, "selection": 4, "test": 5}
    own = {"sizes": sizes.copy(), "max_length": 768} if spec.task["name"] == "instruct" else sizes
    own |= {"mirror": str(mirror / spec.task["name"])}
    return small.model_copy(update={"task": spec.task | own})


@pytest.mark.parametrize(("suite", "cell"), SCORED)
def test_a_whole_run_on_a_tiny_model(suite, cell, tiny_folders, mirror, tmp_path, monkeypatch):
    """As `rankbench run` does it: observed, selected, merged and scored as the suite says."""
    if suite == "paper-math":
        pytest.importorskip("math_verify", reason="the math extra is not installed")
    monkeypatch.setattr("lm_eval.models.huggingface.HFLM.max_gen_toks", 8)
    given = spec_of(suite, cell)
    spec = _on_rows(given, tiny_folders[given.model.name], mirror)
    folders = Folders(tmp_path)
    record = record_of(spec, tmp_path)
    assert isinstance(record, RunRecord)
    assert all(math.isfinite(value) for value in [*record.curve.loss, *record.metrics.best.values()])
    assert record.protocol["accumulation"] == min(given.training.accumulation, 2)
    assert len(record.observations) == min(given.training.observe, 3)
    if given.training.select == "best":
        scores = {seen.selection: seen.step for seen in reversed(record.observations)}
        assert record.metrics.best_step == scores[max(scores)]
    rows = pd.read_parquet(folders.record(spec.cell).with_suffix(".parquet"))
    counted = SCORED_ITEMS[suite] if spec.task["name"] == "instruct" else 5
    assert len(rows) == counted * (2 if spec.task["name"] == "mnli" else 1)
    hits = rows["score"] if "score" in rows else rows["target"] == rows["prediction"]
    if record.metrics.main == "pearson":
        assert record.metrics.best["pearson"] == pytest.approx(rows["target"].corr(rows["prediction"]))
    else:
        assert record.metrics.best[record.metrics.main] == pytest.approx(hits[:counted].mean())
    assert record.merge_parity.items
    assert record.merge_parity.largest_logit_difference < 1e-3


def test_a_run_in_bf16_is_observed(tiny_folders, mirror, tmp_path):
    given = spec_of("paper-commonsense", "winogrande-llama2--scalora-nnls--s0")
    record = record_of(_on_rows(given, tiny_folders[LLAMA_2], mirror), tmp_path)
    assert isinstance(record, RunRecord)
    (seen,) = record.observations
    assert seen.gradient_rank.keys() == seen.accumulated_rank.keys() != set()
    assert all(1 <= rank <= 32 for rank in seen.gradient_rank.values())
