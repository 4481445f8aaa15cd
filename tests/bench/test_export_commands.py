"""`export` and `score` as they are typed, and what they say of anything else: one line, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rankbench.bench.cli import main
from rankbench.bench.export import layout, write
from rankbench.bench.export.scoring import Scores
from rankbench.bench.records import RunRecord, read_record
from rankbench.bench.records.files import write_atomically
from rankbench.bench.run.job import resolve
from rankbench.bench.run.scores import evaluate
from rankbench.bench.run.start import ready
from rankbench.bench.suite import load_suite, plan
from tests.bench.tiny_suite import TINY

CLASSES = TINY["experiments"]["tiny"] | {
    "adapters": {"lora": {"rank": 2}, "scalora": {"rank": 2}, "full": {}}
}
CAUSAL = CLASSES | {
    "task": {"name": "tiny-causal"}, "model": "tiny-llama", "targets": ["q_proj", "v_proj"],
    "adapters": {"lora": {"rank": 2}},
}  # fmt: skip
OWN = CLASSES | {
    "task": {"name": "linear-regression"}, "targets": ["linear"], "adapters": {"lora": {"rank": 2}},
}  # fmt: skip
SUITE = {"save": "adapter", "seeds": [0], "experiments": {"tiny": CLASSES, "causal": CAUSAL, "own": OWN}}
PROBE = {"input_ids": torch.arange(24).view(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.long)}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with what five runs trained."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "mine.yaml").write_text(yaml.safe_dump(SUITE))
    assert main(["run", str(folder / "mine.yaml"), "--results", str(folder)]) == 0
    return folder


@pytest.fixture
def rankbench(done: Path, tmp_path: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """The exit code of a command in an empty folder, and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        code = main([*words, "--results", str(done)])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def adapter_of(done: Path, cell: str) -> Path:
    return done / "mine" / "runs" / f"{cell}.safetensors"


def test_three_lines_load_what_was_trained(rankbench, done, tmp_path):
    code, told = rankbench("export", "mine/tiny--lora--s0", "out", "--as", "peft")
    assert code == 0, told
    assert told.splitlines()[-1] == "out"
    assert "vLLM: takes it; releases without heads" in told
    base = AutoModelForSequenceClassification.from_pretrained("out/base", num_labels=2)
    model = PeftModel.from_pretrained(base, "out").eval()
    assert rankbench("export", "mine/tiny--lora--s0", "whole", "--as", "merged")[0] == 0
    merged = AutoModelForSequenceClassification.from_pretrained("whole").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**PROBE).logits, merged(**PROBE).logits, rtol=0, atol=1e-5)
    spec = next(plan(load_suite(str(done / "mine.yaml")), only="tiny--lora--s0"))
    record = read_record(done / "mine/runs/tiny--lora--s0.json", RunRecord)
    task, _ = ready(resolve(spec))
    assert evaluate(task, merged, "test", 0).metrics == pytest.approx(record.metrics.best, rel=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_decoder_is_exported_by_its_records_file(rankbench, done):
    path = done / "mine/runs/causal--lora--s0.json"
    code, told = rankbench("export", str(path), "out", "--as", "peft")
    assert code == 0, told
    assert "vLLM: takes it\nllama.cpp: takes it\n" in told
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("out/base"), "out")
    assert model.peft_config["default"].r == 2


def test_the_card_has_the_records_figures_and_how_to_load_it(rankbench, done):
    assert rankbench("export", "mine/tiny--scalora--s0", "out", "--as", "low-rank", "--rank", "3")[0] == 0
    record = read_record(done / "mine/runs/tiny--scalora--s0.json", RunRecord)
    text = Path("out/README.md").read_text()
    fields = yaml.safe_load(text.split("---")[1])
    assert fields == {"library_name": "peft", "tags": ["rankbench", "scalora"]}
    assert f"{record.metrics.best['accuracy']:.4f}" in text
    for told in ("rank", "2", "relative Frobenius norm", "random weights", "none: generated", "smoothness"):
        assert told in text, told
    lines = text.split("```python\n")[1].split("```")[0].replace("FOLDER", "out")
    scope: dict = {}
    exec(lines, scope)
    export = json.loads(Path("out/rankbench.json").read_text())
    assert "what was trained, whole (step" in text
    assert "these weights (step" not in text, "they were never scored"
    assert (export["form"], export["rank"], export["run"]) == ("low-rank", 3, "tiny--scalora--s0")
    assert 0 < export["error"] < 1


def test_the_runs_own_rank_is_the_default(rankbench):
    assert rankbench("export", "mine/tiny--scalora--s0", "out", "--as", "low-rank")[0] == 0
    assert json.loads(Path("out/adapter_config.json").read_text())["r"] == 2


def test_a_saved_run_and_its_exports_score_alike_on_further_tasks(rankbench, done):
    record = read_record(done / "mine/runs/tiny--lora--s0.json", RunRecord)
    runs = done / "mine" / "runs"
    before = {path: path.read_bytes() for path in runs.iterdir()}
    tasks = ("--tasks", "tiny-classification, {name: tiny-classification, data_seed: 1}")
    code, told = rankbench("score", "mine/tiny--lora--s0", *tasks)
    assert code == 0, told
    path = done / "mine" / "scores" / "tiny--lora--s0.json"
    assert told.splitlines()[-1] == str(path)
    own, other = read_record(path, Scores).scores
    assert own.metrics == pytest.approx(record.metrics.best)
    assert (own.task["options"]["data_seed"], other.task["options"]["data_seed"]) == (0, 1)
    assert own.data != other.data
    for form in ("peft", "merged"):
        assert rankbench("export", "mine/tiny--lora--s0", form, "--as", form)[0] == 0
        assert rankbench("score", form, *tasks)[0] == 0
        found = read_record(Path(form, "scores.json"), Scores)
        for one, same in zip(found.scores, (own, other), strict=True):
            assert one.metrics == pytest.approx(same.metrics, rel=1e-5)
        assert found.form == form
    third = ("--tasks", "{name: tiny-classification, data_seed: 2}", "--tasks", "tiny-classification")
    assert rankbench("score", "mine/tiny--lora--s0", *third)[0] == 0
    seeds = [one.task["options"]["data_seed"] for one in read_record(path, Scores).scores]
    assert seeds == [1, 2, 0], "the same task's score is renewed"
    assert {path: path.read_bytes() for path in runs.iterdir()} == before


def test_a_decoder_is_scored(rankbench, done):
    record = read_record(done / "mine/runs/causal--lora--s0.json", RunRecord)
    assert rankbench("score", "mine/causal--lora--s0", "--tasks", "tiny-causal")[0] == 0
    found = read_record(done / "mine/scores/causal--lora--s0.json", Scores)
    assert found.scores[0].metrics == pytest.approx(record.metrics.best)


LORA, OUT, PEFT = "mine/tiny--lora--s0", "out", ("--as", "peft")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("export", "mine/tiny--lora--s9", OUT, *PEFT),
            "no run 'tiny--lora--s9' in mine; did you mean mine/",
        ),
        (("export", "nowhere/tiny--lora--s0", OUT, *PEFT), "no folder of results 'nowhere'"),
        (("export", LORA, OUT), "Missing option '--as'"),
        (("export", LORA, OUT, "--as", "gguf"), "'gguf' is not one of 'peft', 'merged', 'low-rank'"),
        (("export", LORA, OUT, *PEFT, "--rank", "0"), "'0' is not a positive whole number"),
        (("export", LORA, OUT, *PEFT, "--rank", "4"), "--rank goes with --as low-rank; --as peft takes all"),
        (("export", "mine/tiny--scalora--s0", OUT, *PEFT), "export it --as merged, or --as low-rank"),
        (
            ("export", "mine/tiny--full--s0", OUT, "--as", "low-rank"),
            "full has no rank of its own; say --rank",
        ),
        (("export", "mine/own--lora--s0", OUT, *PEFT), "linear-regression makes its model itself"),
        (("export", LORA, "full", *PEFT), "full is there already; name another folder, or remove it"),
        (("export", LORA, "file", *PEFT), "file is there already"),
        (("export", LORA, "file/out", *PEFT), "cannot write file/out: "),
        (("score", LORA, "--tasks", "tiny-classificaton"), "unknown task 'tiny-classificaton'; did you mean"),
        (("score", LORA, "--tasks", "{name: tiny-classification, data_sed: 1}"), "no option 'data_sed'"),
        (("score", LORA, "--tasks", "{task: movie}"), "--tasks {task: movie}: a task's name, or"),
        (("score", LORA, "--tasks", "{name: movie"), "--tasks {name: movie: a task's name, or"),
        (("score", LORA, "--tasks", ""), "--tasks : a task's name, or"),
        (("score", LORA), "Missing option '--tasks'"),
        (
            ("score", LORA, "--tasks", "tiny-causal"),
            "tiny-causal needs a language model; the run has trained",
        ),
        (("score", LORA, "--tasks", "amazon"), "amazon needs a head with 1 outputs; the run's has 2"),
        (
            ("export", LORA, OUT, "--as", "low-rank", "--rank", "100000"),
            "--rank 100000: no layer of this model has more than 32; lower it",
        ),
        (
            ("score", LORA, "--tasks", "sst2"),
            "sst2 has negative, positive; the run's head has classes without names: they are not the same",
        ),
        (("score", "mine/causal--lora--s0", "--tasks", "sst2"), "sst2 needs an encoder with a head"),
        (("score", "full", "--tasks", "sst2"), "no run 'full' under"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(words, told, rankbench, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    code, said = rankbench(*words)
    assert code == 2
    assert said.startswith("rankbench: ")
    assert told in said
    assert len(said.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda path: path.unlink(),
            "the adapter of tiny--lora--s0, is gone; `rankbench run mine.yaml --only",
        ),
        (lambda path: write_atomically(path, path.read_bytes()[:-1]), "is not what tiny--lora--s0 has saved"),
    ],
)
def test_an_adapter_that_is_not_as_it_was_is_one_line(spoil, told, rankbench, done, tmp_path):
    path = adapter_of(done, "tiny--lora--s0")
    content = path.read_bytes()
    try:
        spoil(path)
        for words in (("export", LORA, OUT, *PEFT), ("score", LORA, "--tasks", "tiny-classification")):
            code, said = rankbench(*words)
            assert code == 2
            assert told in said
            assert len(said.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
    finally:
        write_atomically(path, content)


def test_a_run_that_has_saved_none_says_how(rankbench, done):
    path = done / "mine/runs/tiny--lora--s0.json"
    content = path.read_bytes()
    try:
        record = json.loads(content)
        del record["saved"]
        path.write_text(json.dumps(record))
        code, said = rankbench("export", LORA, OUT, *PEFT)
    finally:
        write_atomically(path, content)
    assert code == 2
    assert said == (
        "rankbench: tiny--lora--s0 has saved no adapter; "
        "`rankbench run mine.yaml --only tiny--lora--s0 --save` does the run again and keeps it\n"
    )


def test_what_answers_otherwise_or_cannot_be_loaded_is_not_exported(rankbench, tmp_path, monkeypatch):
    load = layout.load

    def spoilt(place, trained, form):
        model = load(place, trained, form)
        with torch.no_grad():
            next(model.parameters()).add_(torch.randn(32))
        return model

    def broken(*_):
        raise KeyError("base_model.model.classifier.weight")

    for instead, told in ((spoilt, "does not give the trained model again"), (broken, "could not be loaded")):
        monkeypatch.setattr(write, "load", instead)
        code, said = rankbench("export", LORA, OUT, *PEFT)
        assert code == 2
        assert told in said
        assert "take --as merged" in said
        assert list(tmp_path.iterdir()) == []


def test_a_spoilt_export_is_one_line(rankbench, tmp_path):
    assert rankbench("export", LORA, OUT, *PEFT)[0] == 0
    (tmp_path / "out/adapter_model.safetensors").write_bytes(b"")
    code, said = rankbench("score", "out", "--tasks", "tiny-classification")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "out cannot be loaded" in said
    (tmp_path / "out/rankbench.json").write_text("{")
    code, said = rankbench("score", "out", "--tasks", "tiny-classification")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "rankbench.json is corrupt" in said
