"""README and docs name files, commands and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import typer

from rankbench.bench.cli import app
from rankbench.bench.run.step import make_optimizer
from rankbench.bench.suite import Training
from tests.adapters.steps import train
from tests.conftest import seeded, tiny_batch, tiny_model
from tests.examples import example

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {"adapters/my_method.py", "tasks/text/my_task.py", "results/laptop/report.html"}
"""What a reader makes."""
TOP = ("adapters/", "bench/", "docs/", "reports/", "results/", "tasks/", "tests/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = {path for path in re.findall(r"[\w./-]+", text) if path.startswith(TOP)}
    named = {path.rstrip(".") for path in named if not path.startswith(("results/fresh", "results/mine"))}
    named -= EXAMPLES | {path for path in named if path.startswith("results/SUITE")}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_commands_and_options_are_there(page):
    commands = typer.main.get_command(app).commands
    for command, rest in re.findall(r"rankbench (\w[\w-]*)( [^\n`#&]*)?", "\n".join(code(page))):
        assert command in commands, command
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known, command


def code(page: Path) -> list[str]:
    """Lines and words that are set as commands."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [*blocks, *re.findall(r"`(rankbench [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["scalora", "lora-plus", "lora2"])
def test_the_readmes_lines_train_as_the_shared_loop_does(name):
    """A rate of its own and a penalty too, whose method would be another one without them."""
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    made = re.search(r"adapters\.create\(.*\)", lines)
    assert made is not None
    by_readme, by_loop = tiny_model("llama"), tiny_model("llama")
    batches = [tiny_batch(by_readme, step) for step in range(4)]
    one, other = (example(name, steps=4, learning_rate=1e-3) for _ in range(2))
    exec(lines.replace(made[0], "made"), {"made": one, "model": by_readme, "batches": batches})
    other.attach(by_loop, ["q_proj", "v_proj"], generator=seeded())
    pytorchs = Training(steps=4, batch_size=8, learning_rate=1e-3, weight_decay=0.01, decay="all")
    train(other, by_loop, make_optimizer(other, pytorchs), range(4))
    other.merge(by_loop)
    for mine, theirs in zip(by_readme.parameters(), by_loop.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("page", "template"), [("add-an-adapter", "adapter"), ("add-a-task", "task")])
def test_a_page_shows_the_file_that_is_begun_with(page, template):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    shown, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert shown == (ROOT / "bench" / "templates" / f"{template}.py").read_text("utf-8")
