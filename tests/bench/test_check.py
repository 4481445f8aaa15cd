"""`rankbench check`: what a file holds by the rules that ours keep, a line a fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rankbench.bench.cli import main
from rankbench.bench.conformance import check

HEAD = """
from dataclasses import dataclass
from typing import ClassVar
import torch
from torch import nn
from rankbench.adapters import Adapter, AdapterError
from rankbench.adapters.base import ParameterGroup
from rankbench.adapters.lora import Lora, LowRankLinear

@dataclass(kw_only=True)
class Mine(Lora):
    name: ClassVar[str] = "mine"
"""
ADAPTERS = "\nADAPTERS = {'mine': Mine}\n"
STARTS = """
    def wrap(self, linear, generator):
        layer = super().wrap(linear, generator)
        nn.init.ones_(layer.A)
        return layer
"""
GLOBAL = """
    def wrap(self, linear, generator):
        return super().wrap(linear, None)
"""
NOTHING_TRAINED = """
    def install(self, model, selected, generator):
        super().install(model, selected, generator)
        model.requires_grad_(False)
"""
FORGETS = """
    def after_step(self, optimizer, step):
        self.steps = getattr(self, "steps", 0) + 1
        for layer in self.layers.values():
            layer.scale = self.scale / (1 + self.steps)
"""
STATE = """
    def extra_state(self):
        return {"function": print}
"""
MERGES = """
    def folded(self, name):
        return {"weight": 1.5 * super().folded(name)["weight"]}
"""
FOLDS = """
    moves_base: ClassVar[bool] = True
"""
REFUSES = """
    def install(self, model, selected, generator):
        super().install(model, selected, generator)
        raise AdapterError("not today")
"""
FROZEN = """
    def install(self, model, selected, generator):
        super().install(model, selected, generator)
        self.bias = next(p for n, p in model.named_parameters() if "embed" in n)

    def after_step(self, optimizer, step):
        self.bias.data += 0.01
"""
RAISES = """
    def wrap(self, linear, generator):
        return super().wrap(linear.no_such_thing, generator)
"""
GROUPS = """
    def parameter_groups(self):
        return [ParameterGroup([layer.A for layer in self.layers.values()], rate=4.0)]
"""
SPACE = """
    space: ClassVar = {"apha": (1.0, 2.0, "log")}
"""
ENDS = """
    space: ClassVar = {"alpha": (-1.0, 2.0, "linear")}
"""
TURNED = """
    space: ClassVar = {"alpha": (2.0, 1.0, "linear")}
"""
NEEDS = """
    many: int
"""
RISES = """
    def before_step(self, optimizer, step):
        for parameter in self.trained():
            parameter.grad.neg_()
"""
WRAPS = """
    def wrap(self, linear, generator):
        return Layer(linear, self.rank, self.scale, generator)
"""
ON_A_FACTOR = """
class Layer(LowRankLinear):
    def __init__(self, base, rank, scale, generator):
        super().__init__(base, rank, scale, generator)
        self.drop = nn.Dropout(0.3)

    def factors(self):
        return self.A, self.drop(self.B)
"""
ON_INPUTS = """
class Layer(LowRankLinear):
    def __init__(self, base, rank, scale, generator):
        super().__init__(base, rank, scale, generator)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        thin = self.drop(x.to(self.B.dtype)) @ self.B @ self.A.t()
        return self.base(x) + (self.scale * thin).to(x.dtype)
"""
OF_ITS_OWN = """
class Layer(LowRankLinear):
    def __init__(self, base, rank, scale, generator):
        super().__init__(base, rank, scale, generator)
        self.draw = generator
        self.train(base.training)

    def factors(self):
        if not self.training:
            return self.A, self.B
        return self.A, self.B * (torch.rand(self.B.shape, generator=self.draw) > 0.3) / 0.7
"""


@pytest.fixture(autouse=True)
def one_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ARCHITECTURES", ["bert"])


def told(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    path = folder / "mine.py"
    path.write_text(text)
    code = main(["check", str(path)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out.splitlines()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (STARTS, r"starts as the identity \(on bert\): attaching changes the model's outputs, by up to"),
        (GLOBAL, r"leaves the global generator alone \(on bert\): attaching draws from PyTorch's global"),
        (NOTHING_TRAINED, r"attaches in place \(on bert\): nothing of it is trained"),
        (FORGETS, r"resumes bit by bit \(on bert\): an adapter with the saved state has other outputs"),
        (STATE, r"resumes bit by bit \(on bert\): `extra_state` holds more than plain values"),
        (MERGES, r"trains the loss down and merges \(on bert\): the merged model's outputs are not"),
        (MERGES, r"merges a bfloat16 model in float32 \(on bert\): the merged model's outputs are not"),
        (
            FOLDS,
            r"merges a bfloat16 model in float32 \(on bert\): it takes a bfloat16 model, which rounds away",
        ),
        (REFUSES, r"attaches \(on bert\): it refuses a model \(not today\) and leaves it changed"),
        (FROZEN, r"trains the loss down and merges \(on bert\): training moves what is not in its state"),
        (GROUPS, r"keeps the head trainable \(on bert\): mine has .*\.B in 0 parameter groups, not in one"),
        (RAISES, r"attaches \(on bert\): .*mine\.py, line 15: AttributeError: 'Linear' object has no"),
        (
            SPACE,
            r"has a space that it takes: space of mine: it has no hyperparameter 'apha'; did you mean",
        ),
        (
            ENDS,
            r"has a space that it takes: space of mine: it refuses alpha -1: alpha must be a positive number",
        ),
        (TURNED, r"has a space that it takes: space of mine: alpha: the range ends at 1, which is not above"),
        (RISES, r"trains the loss down and merges \(on bert\): the loss rises in 8 steps, from"),
        (RISES, r"trains under bfloat16 autocast \(on bert\): the loss rises in 8 steps, from"),
        (WRAPS + OF_ITS_OWN, r"resumes bit by bit \(on bert\): .*a step draws from another generator than"),
        (NEEDS, r"cannot be made as its `example` says: mine needs the hyperparameter 'many'"),
    ],
)
def test_a_broken_rule_of_an_adapter_is_a_line(
    body: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = told(tmp_path, HEAD + body + ADAPTERS, capsys)
    assert code == 1
    assert all(line.startswith("adapter mine: ") for line in lines)
    assert any(re.match("adapter mine: " + fault, line) for line in lines), lines


def test_an_adapter_that_is_lora_keeps_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = told(tmp_path, HEAD + ADAPTERS, capsys)
    assert (code, lines) == (0, ["adapter mine: keeps 13 rules on bert"])


@pytest.mark.parametrize("layer", [ON_A_FACTOR, ON_INPUTS])
def test_dropout_is_no_fault(layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = told(tmp_path, HEAD + WRAPS + layer + ADAPTERS, capsys)
    assert (code, lines) == (0, ["adapter mine: keeps 13 rules on bert"])


def test_what_refuses_every_architecture_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "\n    def check(self, linear):\n        raise AdapterError('too wide')\n"
    code, (line,) = told(tmp_path, HEAD + body + ADAPTERS, capsys)
    assert code == 1
    assert re.match(r"adapter mine: attaches to no architecture; refuses bert: mine on .*: too wide", line)


TASK = """
from rankbench.tasks.toy.synthetic import TinyClassification
from rankbench.tasks.base import Score

class Mine(TinyClassification):
    {body}

TASKS = {{"mine": Mine}}
"""
TEXTS = """
import random
from rankbench.tasks.base import Head
from rankbench.tasks.options import Sizes
from rankbench.tasks.text.encoder import EncoderTask, Item, Items

ROWS, OTHERS = (
    [Item(str(i), (f"a {{i}}", f"b {{i}}"), float(i % 2)) for i in numbers]
    for numbers in (range(30), range(30, 50))
)

class Mine(EncoderTask):
    licence = source = "none: generated"
    head = Head("sequence", 2, ("even", "odd"))
    metrics = ("accuracy",)

    def __init__(self, name, *, max_length=32):
        super().__init__(name, Sizes(None, None, None, max_length, 4))

    def items(self):
        return Items({splits})

TASKS = {{"mine": Mine}}
"""
SCORE = "def score(self, model, split):\n        found = super().score(model, split)\n        "


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("licence = ''", "says what it is without its data: `licence` is empty"),
        ("metric = 'no-such'", "says what it is without its data: nothing is known of its metric no-such"),
        (
            "def options(self):\n        return {}",
            "has its options in its fingerprint: `options` leaves out train, selection, test",
        ),
        (
            "def loss(self, model, inputs):\n"
            "        return super().loss(model, inputs) / len(inputs['labels'])",
            "sums its loss over what the weights count: a batch's loss is",
        ),
        (
            SCORE + "model.eval()\n        return found",
            "scores with its evidence and changes nothing: `score` leaves the model in evaluation mode",
        ),
        (
            SCORE + "import torch; torch.rand(1)\n        return found",
            "scores with its evidence and changes nothing: `score` moves PyTorch's generator",
        ),
        (
            SCORE + "return Score({'accuracy': 0.9}, found.predictions)",
            "scores with its evidence and changes nothing: accuracy is 0.9, the mean of its items'",
        ),
        (
            SCORE + "return Score(found.metrics, found.predictions.drop(columns='target'))",
            "scores with its evidence and changes nothing: the predictions have no target, of which",
        ),
        ("def prepare(self, tokenizer):\n        return tokenizer.no", "prepares its data: "),
    ],
)
def test_a_broken_rule_of_a_task_is_a_line(
    body: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = told(tmp_path, TASK.format(body=body), capsys)
    assert code == 1
    assert any(line.startswith(f"task mine: {fault}") for line in lines), lines


@pytest.mark.parametrize(
    ("splits", "fault"),
    [
        ("dict.fromkeys(('train', 'selection', 'test'), ROWS)", "item 0 stands in train and selection"),
        (
            "{'train': ROWS[:9], 'selection': ROWS[9:], 'test': [*OTHERS, Item('9', ('B  5', 'a 5'), 1.0)]}",
            "item 9 stands in train and test",
        ),
        ("{'train': ROWS[:20], 'selection': ROWS[20:], 'test': OTHERS}", ""),
    ],
)
def test_a_text_in_two_splits_is_a_fault(
    splits: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However it is written, and a pair in either order."""
    code, lines = told(tmp_path, TEXTS.format(splits=splits), capsys)
    assert (code == 1) == bool(fault)
    assert any("has no text in two splits: the text of " in line and fault in line for line in lines) == code


def test_data_that_are_drawn_anew_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = "{'train': random.sample(ROWS[:20], 9), 'selection': ROWS[20:], 'test': OTHERS}"
    code, lines = told(tmp_path, TEXTS.format(splits=drawn), capsys)
    assert code == 1
    assert lines == [
        "task mine: prepares the same again: `prepare` has other data at every call: its hash is another"
    ]


def test_a_task_as_ours_keeps_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path, TASK.format(body="pass"), capsys) == (0, ["task mine: keeps 9 rules"])


@pytest.mark.parametrize("metric", ["mse", "pearson"])
def test_texts_may_be_rated_by_any_metric(
    metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parts of the mean squared error are of a column that classes have no use for."""
    template = (Path(check.__file__).parents[1] / "templates/task.py").read_text("utf-8")
    changes = {'2, ("wrong", "right")': "", '"accuracy", "f1")': f'"{metric}",)'}
    rated = template
    for ours, theirs in changes.items():
        assert ours in rated
        rated = rated.replace(ours, theirs)
    assert told(tmp_path, rated, capsys) == (0, ["task my-task: keeps 9 rules"])


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("ERROR, compute=lambda t, p: float(abs(t - p).mean())", ""),
        ("SHARE, compute=lambda t, p: float(abs(t - p).mean())", "of a perfect answer it is 0, its better"),
        ("ERROR, compute=lambda t, p: -1.0", "it is -1, outside 0.0 to inf"),
        (
            "ERROR, compute=lambda t, p: float(abs(t - p).mean()), constant=0.0",
            "the best constant answer scores 0.32, its `constant` says 0",
        ),
        # The mean is a constant answer too, and of some targets nobody knows the best.
        ("ERROR, compute=lambda t, p: float(((t - p) ** 2).mean()), constant=pvariance", ""),
        ("ERROR, compute=lambda t, p: float(abs(t - p).mean()), constant=lambda t: None", ""),
        (
            "ERROR, compute=lambda t, p: float(abs(t - p).mean()), parts=HITS",
            "it is 0.2",
        ),
    ],
)
def test_a_metric_is_as_its_entry_says(
    entry: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "from dataclasses import replace\nfrom statistics import pvariance\n"
    text += "from rankbench.tasks.metrics import ERROR, HITS, SHARE\n"
    code, (line,) = told(tmp_path, text + f"METRICS = {{'mine': replace({entry})}}\n", capsys)
    assert code == (1 if fault else 0)
    assert line.startswith(f"metric mine: {fault or 'is as its entry says'}")


def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "gone.py")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.endswith("gone.py cannot be read: No such file or directory")
