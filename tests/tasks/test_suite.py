"""A suite over data that are wrong in part: told before the first run, recorded, and the others run."""

import json

import pytest
import yaml
from transformers import BertConfig, BertModel

from rankbench.bench.cli import main
from tests.tasks.test_faults import column, glue
from tests.tiny_text import encoder_tokenizer


@pytest.fixture
def suite(tmp_path):
    """Runs the experiments given as task options; returns the results folder, exit code in `.code`."""
    config = BertConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    encoder_tokenizer().save_pretrained(tmp_path / "bert")

    def run(folder, **tasks):
        shared = {
            "model": str(tmp_path / "bert"),
            "targets": ["query"],
            "training": {"steps": 2, "batch_size": 2, "learning_rate": 1e-3},
            "adapters": {"lora": {"rank": 2}},
            "seeds": [0],
        }
        made = {
            "name": "made",
            "experiments": {name: shared | {"task": task} for name, task in tasks.items()},
        }
        path = tmp_path / "made.yaml"
        path.write_text(yaml.safe_dump(made))
        code = main(["run", str(path), "--results", str(tmp_path / folder)])
        return code, tmp_path / folder / "made"

    return run


def record(folder, kind, name):
    return json.loads((folder / kind / f"{name}--lora--s0.json").read_text())


def test_data_that_cannot_be_used_stop_their_own_runs_only(tmp_path, suite, capsys):
    good = {"name": "rte", "selection": 2, "mirror": str(glue(tmp_path / "good [1] 100%").mirror)}
    hidden = glue(tmp_path / "hidden", label=column([0, -1, 1, 0])).mirror
    code, folder = suite(
        "results",
        first=good,
        taken=good | {"selection": 200},
        hidden=good | {"mirror": str(hidden)},
        absent=good | {"name": "qnli"},
        last=good | {"train": 4},
    )
    told = capsys.readouterr().err
    assert code == 1
    assert "Traceback" not in told
    assert sorted(path.name for path in (folder / "runs").glob("*.json")) == [
        "first--lora--s0.json",
        "last--lora--s0.json",
    ]
    for name, reason in (
        ("taken", "10 became the selection slice (selection: 200)"),
        ("hidden", "split validation, row 1, column 'label': label -1 is none"),
        ("absent", "no Parquet file of the configuration qnli"),
    ):
        assert reason in record(folder, "failed", name)["reason"]
        assert reason in told


def test_fewer_items_than_a_batch_has_are_told(tmp_path, suite, capsys):
    """A step takes all of them, whatever the protocol's batch size says."""
    task = {"name": "rte", "selection": 2, "mirror": str(glue(tmp_path / "mirror").mirror)}
    code, _ = suite("few", few=task | {"train": 1}, enough=task | {"train": 2})
    told = capsys.readouterr().err
    assert code == 0
    assert "few: train: batches of 2 asked for, of 1 used: there are no more items" in told
    assert "enough: train" not in told


def test_a_split_smaller_than_asked_for_is_told_and_compares(tmp_path, suite, capsys):
    task = {"name": "rte", "selection": 2, "max_length": 30, "mirror": str(glue(tmp_path / "mirror").mirror)}
    code, asked = suite("asked", small=task | {"test": 5000})
    told = capsys.readouterr().err
    assert code == 0
    assert "small: test: 5000 items asked for, 4 used: there are no more" in told
    assert "small: test: 4 of 4 items are longer than max_length and cut" in told
    code, whole = suite("whole", small=task | {"test": 4})
    assert code == 0
    assert "asked for" not in capsys.readouterr().err
    assert record(asked, "runs", "small")["protocol"] == record(whole, "runs", "small")["protocol"]
    assert main(["compare", str(asked), str(whole)]) == 0
    assert "another protocol" not in capsys.readouterr().out
    assert main(["report", str(asked)]) == 0
    said = (asked / "report.md").read_text()
    assert "`small` was asked for 5000 test items and has 4: all were used." in said
    assert record(asked, "runs", "small")["protocol"]["truncated"] == {"train": 8, "selection": 2, "test": 4}
