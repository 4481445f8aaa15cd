"""What is slow to import or to load is touched only when it is needed, and once: counted, not timed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from lm_eval import evaluator
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from torch.utils import collect_env

from rankbench.bench import models
from rankbench.bench.suite import Model, RunSpec, Training
from rankbench.tasks.causal import harness
from rankbench.tasks.toy.synthetic import TinyClassification
from tests.bench.tiny_suite import record_of
from tests.tiny_text import llama, tokenizer

REPOSITORY = Path(__file__).parents[2]
SLOW = ("peft", "lm_eval", "evaluate", "datasets", "sklearn", "torch._dynamo", "transformers.modeling_utils")


COMMANDS = """
import sys
from rankbench.bench.cli import main
for kind in ("adapters", "tasks", "suites"):
    main(["list", kind])
main(["report", "smoke", "--results", "no/such/folder"])
print("slow:", [name for name in sys.argv[1].split() if name in sys.modules])
"""


def test_commands_that_train_nothing_import_nothing_slow():
    command = [sys.executable, "-c", COMMANDS, " ".join(SLOW)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "no records" in done.stderr
    assert done.stdout.splitlines()[-1] == "slow: []"


COMPARE = """
import sys
from rankbench.bench.cli import main
assert main(["compare", "results/overhead", "results/overhead"]) == 0
assert main(["show", "laptop/movie--lora--s0"]) == 0
print("torch" in sys.modules, "transformers" in sys.modules)
"""


def test_reading_records_needs_no_torch():
    command = [sys.executable, "-c", COMPARE]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def spec(seed: int, adapter: str) -> RunSpec:
    return RunSpec(
        suite="mine",
        experiment="startup",
        label=adapter,
        seed=seed,
        # Not the default sizes: no other test's task is found in the cache.
        task={"name": "tiny-classification", "train": 17},
        model=Model(name="tiny-bert"),
        targets=["query"],
        training=Training(steps=2, batch_size=4, learning_rate=1e-3, observe=1, select="best"),
        adapter={"name": adapter},
    )


def test_the_runs_of_a_task_prepare_it_once_and_share_no_weights(tmp_path, monkeypatch):
    prepared, loaded = [], []
    prepare, load = TinyClassification.prepare, models.load_model

    def counted_prepare(task, made):
        prepared.append(task)
        return prepare(task, made)

    def kept_load(*given):
        loaded.append(load(*given))
        return loaded[-1]

    monkeypatch.setattr(TinyClassification, "prepare", counted_prepare)
    monkeypatch.setattr(models, "load_model", kept_load)
    for seed, adapter in [(0, "lora"), (1, "lora"), (0, "full")]:
        record_of(spec(seed, adapter), tmp_path)
    assert len(prepared) == 1
    assert len(loaded) == 3
    storages = [{p.untyped_storage().data_ptr() for p in model.parameters()} for model in loaded]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(storages, 2))


def test_a_tokenizer_is_read_once(tmp_path):
    tokenizer().save_pretrained(tmp_path)
    llama().save_pretrained(tmp_path)
    model = Model(name=str(tmp_path))
    assert models.load_tokenizer(model) is models.load_tokenizer(Model(name=str(tmp_path)))


def topics() -> DatasetDict:
    labels = ClassLabel(names=["business", "entertainment", "politics", "sport", "tech"])
    features = Features({"id": Value("string"), "prompt": Value("string"), "label": labels})
    rows = [{"id": str(i), "prompt": f"article {i}\nTopic:", "label": i % 5} for i in range(4)]
    data = Dataset.from_list(rows, features=features)
    return DatasetDict({"train": data, "test": data})


def test_scoring_with_lm_eval_reads_no_stock_task_and_describes_no_machine(monkeypatch):
    model, described, indexed = llama(), [], []
    build = TaskIndex.build

    def spied_build(paths):
        indexed.extend(paths)
        return build(paths)

    monkeypatch.setattr(collect_env, "get_pretty_env_info", lambda: described.append(1) or "")
    monkeypatch.setattr(TaskIndex, "build", staticmethod(spied_build))
    task = harness.build("bbc_topic", harness.OWN_FOLDER, topics())
    scored = harness.evaluate(harness.wrap(model, tokenizer(), 8, 256), task, [0, 2])
    assert indexed == [harness.OWN_FOLDER]
    assert described == []
    # Nothing but that is left out of lm-eval's own call, which still describes the machine elsewhere.
    plain = evaluator.simple_evaluate(
        model=harness.wrap(model, tokenizer(), 8, 256),
        tasks=[task],
        samples={"bbc_topic": [0, 2]},
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    assert described == [1]
    assert scored.metrics == harness.flatten(plain["results"]["bbc_topic"])
    assert scored.samples == plain["samples"]["bbc_topic"]
