"""A table from the suite file to the report: run once, again where edited, and refused where it is broken."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from transformers import BertConfig, BertModel, pipeline

from rankbench.bench.cli import main
from rankbench.bench.export.scoring import Scores
from rankbench.bench.records import read_record, read_runs
from rankbench.bench.run.job import resolve
from rankbench.bench.run.start import prepare
from rankbench.bench.suite import load_suite, plan
from rankbench.reports.stats.items import main_scores
from rankbench.tasks import TaskError
from tests.tasks.made_data import write_reviews
from tests.tiny_text import encoder_tokenizer

TASK = {"name": "table", "train": "reviews.csv", "text": ["title", "body"], "label": "stars"}
TASKS = {
    "stars": TASK | {"metric": "f1_macro"},
    "rated": TASK | {"kind": "regression", "metric": ["mean_absolute_error", "pearson"], "group": "author"},
    "several": TASK | {"label": ["early", "good"], "sizes": {"train": 50}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = BertConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained("model")
    encoder_tokenizer().save_pretrained("model")
    write_reviews(tmp_path / "reviews.csv", 120)
    table = pd.read_csv("reviews.csv")
    table.assign(early=(table.index < 60).astype(int), good=(table["stars"] > 2).astype(int)).to_csv(
        "reviews.csv"
    )
    shared = {
        "model": "model",
        "targets": ["query"],
        "training": {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "observe": 1, "select": "best"},
        "adapters": {"lora": {"rank": 2}, "full": None},
    }
    suite = {
        "seeds": [0, 1],
        "experiments": {name: shared | {"task": task} for name, task in TASKS.items()},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    return tmp_path


def run(capsys, *words):
    code = main(["run", "mine.yaml", *words])
    return code, capsys.readouterr()


@pytest.mark.slow
def test_from_a_table_to_the_report(folder, capsys):
    code, told = run(capsys)
    assert code == 0, told.err
    assert "runs: 12 done, 0 there already, 0 failed" in told.out
    assert "runs: 0 done, 12 there already, 0 failed" in run(capsys)[1].out
    authors = pd.read_csv("reviews.csv")["author"]
    for record in read_runs(folder / "results/mine"):
        metrics = record.metrics
        assert metrics.lower_is_better == (record.task == "rated")
        assert metrics.scale.percent == (record.task != "rated")
        found = main_scores(folder / "results/mine/runs", {"a": {0: record}})["a"][0]
        items = pd.read_parquet(folder / f"results/mine/runs/{record.predictions}")["item"]
        assert len(items) == record.protocol["sizes"]["test"], "item by item"
        own_authors = authors[[int(item) - 2 for item in items]].nunique()
        assert found.shape == (own_authors if record.task == "rated" else len(items),)
        assert found.mean() == pytest.approx(metrics.best[metrics.main])
    assert main(["report", "mine.yaml"]) == 0
    page = (folder / "results/mine/report.md").read_text()
    for heading in (
        "stars: sklearn/f1_macro ×100 ↑",
        "rated: sklearn/mean_absolute_error ↓",
        "sklearn/f1_micro",
    ):
        assert heading in page
    assert page.count("A constant answer scores") == 3
    text = (folder / "reviews.csv").read_text()
    (folder / "reviews.csv").write_text(text.replace("title 7,", "title 8,"))
    code, told = run(capsys, "--only", "stars--lora--s0")
    assert "runs: 1 done, 0 there already, 0 failed" in told.out
    assert "task.source.train.sha256" in told.err


def test_exports_answer_in_transformers_pipeline_as_was_scored(folder, capsys):
    """Read as the card says: a rating by mean and deviation, each of several classes by itself."""
    suite = yaml.safe_load((folder / "mine.yaml").read_text())
    blocks = suite["experiments"]
    del blocks["stars"]
    for block in blocks.values():
        block["adapters"], block["task"] = {"lora": {"rank": 2}}, block["task"] | {"max_length": 24}
    (folder / "mine.yaml").write_text(yaml.safe_dump(suite | {"seeds": [0], "save": "adapter"}))
    assert run(capsys)[0] == 0
    table = pd.read_csv("reviews.csv", keep_default_na=False)
    for name in blocks:
        cell = f"{name}--lora--s0"
        rows = pd.read_parquet(f"results/mine/runs/{cell}.parquet")[:8]
        texts = [table.loc[int(item) - 2, ["title", "body"]] for item in rows["item"]]
        assert main(["export", f"mine/{cell}", f"{name}-merged", "--as", "merged"]) == 0
        assert main(["export", f"mine/{cell}", f"{name}-peft", "--as", "peft"]) == 0
        cards = [Path(f"{name}-{form}/README.md").read_text() for form in ("merged", "peft")]
        scope: dict = {}
        exec(cards[1].split("```python\n")[1].split("```")[0].replace("FOLDER", f"{name}-peft"), scope)
        whole = pipeline("text-classification", model=f"{name}-merged", top_k=None)
        assert scope["base"].config.problem_type == whole.model.config.problem_type
        assert scope["base"].config.id2label == whole.model.config.id2label
        answers = whole(
            [{"text": title, "text_pair": body} for title, body in texts], truncation=True, max_length=24
        )
        for card in cards:
            assert "at most 24 tokens" in card
            for expected, answer in zip(rows["prediction"], answers, strict=True):
                scores = {each["label"]: each["score"] for each in answer}
                if name == "rated":
                    deviation, mean = re.search(r"output × (\S+) \+ (\S+)\.\n", card).groups()
                    assert scores["LABEL_0"] * float(deviation) + float(mean) == pytest.approx(expected, 1e-5)
                else:
                    assert "Outputs, in order: `early`, `good`." in card
                    assert [scores["early"] > 0.5, scores["good"] > 0.5] == [*expected]


def test_ratings_are_scored_in_the_unit_that_was_learnt_and_from_the_weights_that_were(folder, capsys):
    """Whatever the training split of a further table is, and whatever has become of the folder of weights."""
    table = pd.read_csv("reviews.csv")
    table[:80].to_csv("train.csv")
    table[80:].to_csv("test.csv")
    table[:80].assign(stars=table["stars"] * 10 + 100).to_csv("other.csv")
    task = TASKS["rated"] | {"train": "train.csv", "test": "test.csv", "group": None}
    suite = yaml.safe_load((folder / "mine.yaml").read_text())
    block = suite["experiments"]["rated"] | {"task": task, "adapters": {"lora": {"rank": 2}}}
    again = {"seeds": [0], "save": "adapter", "experiments": {"rated": block}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(again))
    assert run(capsys)[0] == 0
    (record,) = read_runs(folder / "results/mine")
    words = yaml.safe_dump(task | {"train": "other.csv"}, default_flow_style=True, width=1000).strip()

    def score(subject, path):
        assert main(["score", subject, "--tasks", words]) == 0
        assert read_record(Path(path), Scores).scores[0].metrics == pytest.approx(
            record.metrics.best, rel=1e-4
        )

    score("mine/rated--lora--s0", "results/mine/scores/rated--lora--s0.json")
    for form in ("peft", "merged"):
        assert main(["export", "mine/rated--lora--s0", form, "--as", form]) == 0
        score(form, f"{form}/scores.json")
    BertModel(BertConfig.from_pretrained("model")).save_pretrained("model")
    capsys.readouterr()
    for form in ("peft", "merged"):
        assert main(["score", form, "--tasks", words]) == 2
        assert "model model has other weights (sha256:" in capsys.readouterr().err


def test_scored_texts_that_the_run_has_learned_from_are_counted(folder, capsys):
    """However they are written, a pair in either order; without the run's data nobody can tell."""
    suite = yaml.safe_load((folder / "mine.yaml").read_text())
    block = suite["experiments"]["stars"] | {"adapters": {"lora": {"rank": 2}}}
    again = {"seeds": [0], "save": "adapter", "experiments": {"stars": block}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(again))
    assert run(capsys)[0] == 0
    table, tested = pd.read_csv("reviews.csv"), pd.read_parquet("results/mine/runs/stars--lora--s0.parquet")
    used = table.drop(index=tested["item"].astype(int) - 2)[:40]
    swapped = used.assign(title=used["body"].str.upper(), body=" " + used["title"])
    new = used.assign(title="new", body=[f"text {i}" for i in used.index])
    pd.concat([swapped, new[:20]]).to_csv("scored.csv")
    new[20:30].to_csv("train.csv")
    new[30:].to_csv("dev.csv")

    def told(**files):
        words = yaml.safe_dump(TASK | files, default_flow_style=True, width=1000).strip()
        assert main(["score", "mine/stars--lora--s0", "--tasks", words]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "of the run" in line]

    scored = {"train": "train.csv", "selection": "dev.csv", "test": "scored.csv", "labels": [1, 2, 3]}
    assert told(**scored) == ["table: 40 of 60 items are in the training or selection data of the run"]
    assert told() == []
    (folder / "reviews.csv").unlink()
    assert told(**scored) == []


def test_a_broken_row_is_told_before_anything_runs(folder, capsys):
    with (folder / "reviews.csv").open("a") as file:
        file.write('121,title,"open\n')
    code, told = run(capsys)
    assert code != 0
    assert told.err.strip().count("\n") == 0
    assert (
        "mine.yaml: experiments.stars.task: reviews.csv, line 122: the row that begins here is broken"
        in told.err
    )
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("changes", "scored_on", "told"),
    [
        ({}, "test", "`select: best` is scored on it; choose another metric or selection split, or `sel"),
        ({"select": "last"}, "selection", "trials are scored on it; choose another metric or selection"),
        ({"select": "last"}, "test", ""),
    ],
)
def test_a_metric_that_the_selection_split_cannot_have_is_refused_where_it_is_asked_for(
    folder, changes, scored_on, told
):
    """Before training, and by every run: one that selects may share its data with one that does not."""
    for split, stars in {"train": (1, 2), "selection": (1,), "test": (1, 2)}.items():
        rows = [{"text": f"{split} {star} {i}", "stars": star} for i in range(4) for star in stars]
        pd.DataFrame(rows).to_csv(f"{split}.csv")
    files = {split: f"{split}.csv" for split in ("train", "selection", "test")}
    suite = yaml.safe_load((folder / "mine.yaml").read_text())
    task = {"name": "table", **files, "text": "text", "label": "stars", "metric": "roc_auc"}
    block = suite["experiments"]["stars"] | {"task": task, "adapters": {"lora": {"rank": 2}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump({"seeds": [0], "experiments": {"stars": block}}))
    (spec,) = plan(load_suite("mine.yaml"))
    training = spec.training.model_copy(update=changes)
    job = resolve(spec.model_copy(update={"training": training, "scored_on": scored_on}))
    if not told:
        assert prepare(job) == []
        return
    with pytest.raises(TaskError) as refused:
        prepare(job)
    assert "metric sklearn/roc_auc is nan on the selection split" in str(refused.value)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
