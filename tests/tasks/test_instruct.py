"""Trained on one set, scored on many: rows, chats, lm-eval's tasks and held-out answers."""

from __future__ import annotations

import inspect
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from datasets import Dataset

from rankbench import tasks
from rankbench.tasks import TaskError
from rankbench.tasks.causal.instruct import InstructTask
from rankbench.tasks.causal.loss import IGNORED
from tests.tasks import made_data
from tests.tiny_text import SHARED_HUB, llama, tokenizer

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's."""
QUESTIONS = {"question": "How much is {} and one?", "solution": "It is {}."}
TEMPLATES = {"prompt": "Question: {question}\nAnswer:", "answer": " {solution}"}


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"question": QUESTIONS["question"].format(i), "solution": QUESTIONS["solution"].format(i + 1)}
        for i in range(start, start + count)
    ]


def write(path: Path, lines: list) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def choice_yaml(folder: Path, name: str = "colours", **changes) -> Path:
    """A task of six choices between two colours, with its data beside it."""
    write(folder / f"{name}.jsonl", [{"thing": f"{name} thing {i}", "right": i % 2} for i in range(6)])
    stated = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{thing}} is",
        "doc_to_choice": ["red", "blue"],
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(stated | changes))
    return path


def created(folder: Path, lines: list | None = None, **options) -> tasks.Task:
    train = write(folder / "rows.jsonl", rows(40) if lines is None else lines)
    given = {"score": ["perplexity"], "sizes": {"selection": 6, "test": 8}, "max_length": 700} | options
    return tasks.create("instruct", train=train, **given)


def chatty():
    """A byte-level tokenizer with the chat template of SmolLM2, whose turns end with its end token."""
    made = tokenizer(1024)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"})
    made.chat_template = CHATML
    return made


def learned(made, example) -> list[str]:
    """The stretches of an example that are learned, as text."""
    stretches: list[list[int]] = [[]]
    for token in example["answer"]:
        if token == IGNORED:
            stretches.append([])
        else:
            stretches[-1].append(token)
    return [made.decode(each) for each in stretches if each]


def test_prompt_and_answer_are_filled_from_columns_and_the_answer_is_learned(tmp_path):
    task = created(tmp_path, **TEMPLATES)
    made = tokenizer(1024)
    data = task.prepare(made)
    assert data.sizes == {"train": 26, "selection": 6, "test": 8}
    texts = {made.decode(row["input_ids"]) + made.decode(row["answer"][-1:]) for row in data.train}
    known = {f"Question: {row['question']}\nAnswer: {row['solution']}<eos>" for row in rows(40)}
    assert texts < known
    for row in data.train:
        (answer,) = learned(made, row)
        assert made.decode(row["input_ids"]).endswith("Answer:" + answer.removesuffix("<eos>"))


def test_no_prompt_is_in_two_splits(tmp_path):
    doubled = rows(30) + [row | {"solution": "another"} for row in rows(30)]
    task = created(tmp_path, doubled, **TEMPLATES, sizes={"selection": 5, "test": 7})
    made = tokenizer(1024)
    data = task.prepare(made)
    asked = [
        {made.decode(row["input_ids"]).partition("Answer:")[0] for row in examples}
        for examples in task._examples.values()
    ]
    assert sum(map(len, asked)) == len(set.union(*asked)) == 30
    assert data.sizes == {"train": 46, "selection": 5, "test": 7}
    assert data.dropped == 2, "a double of what is held out, and one of what is selected by"


def test_conversations_that_begin_with_one_question_are_in_one_split(tmp_path):
    grown = [{"messages": turns[:end]} for each in chats(30) for turns in each.values() for end in (2, 4)]
    task = created(tmp_path, grown, messages="messages", chat=True, sizes={"selection": 5, "test": 7})
    made = chatty()
    data = task.prepare(made)
    asked = [
        {re.search(r"number \d+", made.decode(row["input_ids"]))[0] for row in examples}
        for examples in task._examples.values()
    ]
    assert sum(map(len, asked)) == len(set.union(*asked))
    assert sum(data.sizes.values()) + data.dropped == 60


def test_where_nothing_is_said_a_tenth_and_a_fifth_are_carved(tmp_path):
    data = created(tmp_path, rows(100), **TEMPLATES, sizes=None).prepare(tokenizer(1024))
    assert data.sizes == {"train": 70, "selection": 10, "test": 20}


def test_rows_whose_text_is_scored_are_not_trained_on(tmp_path):
    thing = "a long thing of many words that is scored here"
    path = choice_yaml(tmp_path)
    write(tmp_path / "colours.jsonl", [{"thing": f"{thing} {i}", "right": 0} for i in range(6)])
    leaking = [{"question": f"{thing.upper()}  {i}", "solution": "red"} for i in range(6)]
    task = created(tmp_path, rows(40) + leaking, **TEMPLATES, score=[{"yaml": str(path)}])
    data = task.prepare(tokenizer(1024))
    assert data.dropped == 6
    assert not any("thing" in tokenizer().decode(row["input_ids"]) for row in data.train)
    selection = write(tmp_path / "selection.jsonl", rows(3, start=50) + leaking)
    scores = [{"yaml": str(path)}]
    task = created(tmp_path, **TEMPLATES, score=scores, selection=selection)
    assert task.prepare(tokenizer(1024)).sizes["selection"] == 3
    task = created(tmp_path, **TEMPLATES, score=scores, selection=write(tmp_path / "s.jsonl", leaking))
    with pytest.raises(TaskError, match="no row of selection is left"):
        task.prepare(tokenizer(1024))


def test_a_scored_text_without_spaces_is_not_trained_on(tmp_path):
    things = [f"小明有{i}个苹果他又买了三个苹果请问现在一共有多少个苹果" for i in range(6)]
    path = choice_yaml(tmp_path)
    write(tmp_path / "colours.jsonl", [{"thing": thing, "right": 0} for thing in things])
    leaking = [{"question": thing, "solution": "红"} for thing in things]
    task = created(tmp_path, rows(40) + leaking, **TEMPLATES, score=[{"yaml": str(path)}])
    assert task.prepare(tokenizer(1024)).dropped == 6


@pytest.mark.parametrize("split", ["test", "validation"])
def test_examples_before_a_question_are_not_of_those_that_are_scored(tmp_path, split):
    files = {each: str(tmp_path / "colours.jsonl") for each in (split, "shots")}
    changes = {"test_split": None, f"{split}_split": split, "dataset_kwargs": {"data_files": files}}
    path = choice_yaml(tmp_path, num_fewshot=4, **changes)
    with pytest.raises(TaskError, match=f"the 4 examples before a question are of the split '{split}'"):
        created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}]).prepare(tokenizer(1024))
    created(tmp_path, **TEMPLATES, score=[{"yaml": str(path), "fewshot": 0}]).prepare(tokenizer(1024))
    path = choice_yaml(tmp_path, num_fewshot=4, fewshot_split="shots", **changes)
    created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}]).prepare(tokenizer(1024))


TURNS = [
    {"role": "user", "content": "How much is one and one?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "And one more?"},
    {"role": "assistant", "content": "Three,\nof course. "},
]


def chats(count: int) -> list[dict]:
    """Conversations of two answers, told apart by their first turn."""
    return [
        {"messages": [{"role": "user", "content": f"Hello, I am number {i}."}, *TURNS[1:]]}
        for i in range(count)
    ]


def test_every_answer_of_a_chat_is_learned_and_nothing_else(tmp_path):
    made = chatty()
    data = created(tmp_path, chats(40), messages="messages", chat=True).prepare(made)
    for row in data.train:
        assert learned(made, row) == ["Two.<|im_end|>", "Three,\nof course. <|im_end|>"]
    assert made.decode(data.train[0]["input_ids"]).startswith("<|im_start|>system\nYou are a helpful AI")


def test_the_mask_of_a_chat_is_that_of_a_template_that_marks_its_answers():
    from rankbench.tasks.causal import chat

    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    plain, marked = chatty(), chatty()
    marked.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
        "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    theirs = marked.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    expected = theirs["input_ids"], [bool(each) for each in theirs["assistant_masks"]]
    assert sum(expected[1]) > 20
    assert chat.encode(plain, turns) == expected
    assert chat.encode(marked, turns) == expected


def test_a_prompt_in_training_is_the_prompt_that_lm_eval_asks_with(tmp_path):
    made = chatty()
    task = created(tmp_path, **TEMPLATES, chat=True, score=[{"yaml": str(choice_yaml(tmp_path))}])
    data = task.prepare(made)
    from rankbench.tasks.causal import harness

    (scorer,) = task.scores.scorers
    (first, *_), *_ = harness.all_requests(scorer.task, scorer.indices, harness.PairEncoder(made))
    row = data.train[0]
    asked = row["input_ids"][: len(row["input_ids"]) + 1 - len(row["answer"])]
    before, _, after = made.decode(asked).partition("Question:")
    assert first.args[0].startswith(before)
    assert first.args[0].endswith(after.partition("Answer:")[2])
    assert "thing" in first.args[0]


def test_the_loss_of_a_chat_is_that_of_its_answers_tokens(tmp_path):
    made = chatty()
    task = created(tmp_path, chats(40), messages="messages", chat=True)
    data = task.prepare(made)
    model = llama(len(made)).double().eval()
    batch = task.collate(list(data.train)[:3])
    expected, count = 0.0, 0
    for row in list(data.train)[:3]:
        whole = row["input_ids"] + row["answer"][-1:]
        chances = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        labels = [IGNORED] * (len(whole) - len(row["answer"])) + row["answer"]
        places = [i for i, label in enumerate(labels) if label != IGNORED]
        expected -= sum(chances[i - 1, labels[i]].item() for i in places)
        count += len(places)
    assert batch.weight == count
    assert task.loss(model, batch.inputs).item() == pytest.approx(expected, rel=1e-6)


def test_a_long_row_is_cut_on_the_right_and_counted(tmp_path):
    lines = [{"question": f"{i} " + "x" * 60, "solution": "y" * 60} for i in range(40)]
    made = tokenizer(1024)
    data = created(tmp_path, lines, **TEMPLATES, max_length=100).prepare(made)
    assert data.truncated == data.sizes
    for row in data.train:
        assert len(row["input_ids"]) == 100
        (answer,) = learned(made, row)
        assert answer.startswith(" yyy")
        assert "eos" not in answer


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two tasks, one of twice as many items, and the perplexity, with their scores of a model by hand."""
    folder = tmp_path_factory.mktemp("scored")
    choice_yaml(folder)
    path = choice_yaml(folder, "shapes", doc_to_choice=["round", "square", "flat"])
    write(folder / "shapes.jsonl", [{"thing": f"shape {i}", "right": i % 3} for i in range(12)])
    score = [{"folder": str(folder), "task": "colours"}, {"yaml": str(path)}, "perplexity"]
    task = created(folder, **TEMPLATES, score=score, sizes={"selection": 6, "test": 12})
    made, model = tokenizer(1024), llama()
    return task, task.prepare(made), model, task.score(model, "test")


def choose(model, made, prompt: str, choices: list[str]) -> int:
    """The likeliest choice, by full logits."""
    found = []
    for choice in choices:
        asked, said = (made(text, add_special_tokens=False)["input_ids"] for text in (prompt, f" {choice}"))
        chances = model(torch.tensor([asked + said])).logits[0].log_softmax(-1)
        found.append(sum(chances[len(asked) - 1 + i, token].item() for i, token in enumerate(said)))
    return int(np.argmax(found))


def test_scores_are_those_of_lm_evals_tasks(scored):
    _, _, model, score = scored
    made, colours = tokenizer(1024), ["red", "blue"]
    model.eval()
    hits = [choose(model, made, f"colours thing {i} is", colours) == i % 2 for i in range(6)]
    assert score.metrics["colours/acc"] == pytest.approx(np.mean(hits))
    rows = score.predictions.set_index("item")
    assert [rows.loc[f"colours/{i}", "value"] for i in range(6)] == [float(hit) for hit in hits]
    shapes = ["round", "square", "flat"]
    hits = [choose(model, made, f"shape {i} is", shapes) == i % 3 for i in range(12)]
    assert score.metrics["shapes/acc"] == pytest.approx(np.mean(hits))


def test_the_main_score_is_the_mean_of_the_shares_and_of_its_items_parts(scored):
    task, data, _, score = scored
    assert task.metric == "mean"
    assert score.metrics["mean"] == pytest.approx(
        (score.metrics["colours/acc"] + score.metrics["shapes/acc"]) / 2
    )
    assert len(score.predictions) == data.sizes["test"] == 6 + 12 + 12
    assert score.predictions["score"].mean() == pytest.approx(score.metrics["mean"])
    assert score.predictions["item"].is_unique


def test_the_perplexity_is_that_of_a_token_of_held_out_answers(scored):
    score = scored[3]
    made = tokenizer(1024)
    held_out = score.predictions[score.predictions["item"].str.startswith("perplexity/")]
    tokens = [len(made(f" {row['solution']}")["input_ids"]) + 1 for row in rows(40)]
    assert set(held_out["tokens"]) <= set(tokens)
    expected = math.exp(held_out["loss"].sum() / held_out["tokens"].sum())
    assert score.metrics["perplexity"] == pytest.approx(expected)
    assert held_out["value"].mean() == pytest.approx(expected)


def test_a_score_may_be_the_main_one(tmp_path, scored):
    folder = Path(scored[0].scores.asked[0].group.members[0].path).parent
    score = [{"yaml": str(folder / "colours.yaml")}, {"yaml": str(folder / "shapes.yaml")}, "perplexity"]
    for main, metric in (("shapes", "shapes/acc"), ("perplexity", "perplexity")):
        task = created(folder, **TEMPLATES, score=score, main=main, sizes={"selection": 6, "test": 12})
        assert task.metric == metric
        task.prepare(tokenizer(1024))
        found = task.score(scored[2], "test")
        assert "mean" not in found.metrics
        assert found.predictions["score"].mean() == pytest.approx(found.metrics[metric])
        assert found.metrics[metric] == pytest.approx(scored[3].metrics[metric])
        outside = found.predictions[~found.predictions["item"].str.startswith(main)]
        assert outside["score"].to_numpy() == pytest.approx(found.metrics[metric])


def test_scoring_says_nothing_in_a_folder_that_is_no_repository(scored, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    scored[0].score(scored[2], "test")
    assert capfd.readouterr().err == ""


def test_answers_are_selected_by_their_log_likelihood(scored):
    task, _, model, _ = scored
    score = task.score(model, "selection")
    assert task.selection_metric == "answer_loglikelihood"
    tokens = sum(len(row["answer"]) for row in task._examples["selection"])
    assert score.metrics["answer_loglikelihood"] == pytest.approx(
        score.predictions["loglikelihood"].sum() / tokens
    )


def test_held_out_answers_may_come_from_a_file(tmp_path):
    test, selection = (write(tmp_path / f"{i}.jsonl", rows(5, start=i)) for i in (38, 36))
    task = created(tmp_path, **TEMPLATES, test=test, selection=selection)
    data = task.prepare(tokenizer(1024))
    assert data.sizes == {"train": 36, "selection": 2, "test": 5}
    assert data.dropped == 4 + 3, "rows 36 to 39 are held out, and a model is not chosen by 38 to 40"
    assert task.fingerprint()["source"].keys() == {"train", "selection", "test", "scores"}


def test_a_group_is_weighed_as_its_yaml_says(tmp_path):
    choice_yaml(tmp_path)
    choice_yaml(tmp_path, "shapes", doc_to_choice=["a", "b"])
    write(tmp_path / "shapes.jsonl", [{"thing": f"shape {i}", "right": 0} for i in range(12)])
    group = {"group": "both", "task": ["colours", "shapes"]}
    found = {}
    for by_size in (True, False):
        means = [{"metric": "acc", "aggregation": "mean", "weight_by_size": by_size}]
        path = tmp_path / "both.yaml"
        path.write_text(yaml.safe_dump(group | {"aggregate_metric_list": means}))
        task = created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}], sizes={"test": 12})
        task.prepare(tokenizer(1024))
        found[by_size] = task.score(llama(), "test")
        assert found[by_size].predictions["score"].mean() == pytest.approx(found[by_size].metrics["both/acc"])
    colours, shapes = (found[True].metrics[f"{name}/acc"] for name in ("colours", "shapes"))
    assert found[True].metrics["both/acc"] == pytest.approx((6 * colours + 12 * shapes) / 18)
    assert found[False].metrics["both/acc"] == pytest.approx((colours + shapes) / 2)


def test_its_identity_is_what_it_is_made_of_wherever_that_lies(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    found = []
    for folder in (here, there):
        folder.mkdir()
        write(folder / "colours.jsonl", [])
        path = choice_yaml(folder, dataset_kwargs={"data_files": {"test": "colours.jsonl"}})
        found.append(created(folder, **TEMPLATES, score=[{"yaml": str(path)}, "perplexity"]).fingerprint())
    assert found[0] == found[1]
    assert json.loads(json.dumps(found[0])) == found[0]
    path = choice_yaml(there, doc_to_text="{{thing}} seems")
    assert created(there, **TEMPLATES, score=[{"yaml": str(path)}, "perplexity"]).fingerprint() != found[1]
    other = created(here, rows(41), **TEMPLATES, score=[{"yaml": str(here / "colours.yaml")}, "perplexity"])
    assert other.fingerprint() != found[0]


@pytest.mark.parametrize(
    "named", [{"data_dir": ""}, {"data_dir": "", "data_files": "*.jsonl"}, {"data_files": "*"}]
)
def test_an_edited_file_of_a_score_is_another_task(tmp_path, named):
    folder = tmp_path / "colours"
    folder.mkdir()
    key = "data_dir" if "data_dir" in named else "data_files"
    named |= {key: str(folder / named[key])}
    path = choice_yaml(folder, dataset_kwargs=named)
    before = created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}]).fingerprint()
    write(folder / "colours.jsonl", [{"thing": "another", "right": 0}])
    assert created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}]).fingerprint() != before


@pytest.mark.skipif(not SHARED_HUB.is_dir(), reason="../shared/hub is absent")
def test_stock_tasks_are_scored_from_the_mirror(tmp_path):
    score = ["arc_easy", {"task": "gsm8k", "metric": "exact_match_flexible_extract"}]
    task = created(tmp_path, **TEMPLATES, score=score, sizes={"test": 3}, max_length=1024, mirror=SHARED_HUB)
    made = tokenizer(2048)
    task.prepare(made)
    for scorer in task.scores.scorers:
        if scorer.generation:
            scorer.task.config.generation_kwargs["max_gen_toks"] = 4
    score = task.score(llama(), "test")
    assert {"arc_easy/acc", "gsm8k/exact_match_flexible_extract", "mean"} <= score.metrics.keys()
    assert score.predictions["answer"].notna().sum() == 3
    fingerprint = task.fingerprint()["source"]["scores"]
    assert fingerprint["arc_easy"]["members"]["arc_easy"]["data"]["hub"] == "allenai/ai2_arc"


WRONG = {
    "no train": ({"train": None}, "say what to train on"),
    "no such file": ({"train": "rowz.jsonl"}, "there is no file rowz.jsonl"),
    "no column": ({"prompt": "Answer this:"}, "prompt 'Answer this:' names no column"),
    "open brace": ({"prompt": "{question"}, "expected '}' before end of string"),
    "a format": ({"prompt": "{question:>9}"}, "between braces stands a column, no more"),
    "no answer": ({"answer": None}, "`answer` is missing"),
    "both": ({"messages": "messages", "chat": True}, "give either `prompt` and `answer`, or `messages`"),
    "messages without chat": (
        {"prompt": None, "answer": None, "messages": "messages"},
        "`messages` are laid out by the model's chat template; add chat: true",
    ),
    "system without chat": ({"system": "{question}"}, "`system` is a turn of a chat"),
    "chat is a text": ({"chat": "yes"}, "chat must be true or false, got 'yes'"),
    "nothing to score": ({"score": []}, "say what to score, a list"),
    "unknown task": ({"score": ["gsm8"]}, "lm-eval has no task 'gsm8'; did you mean gsm8k"),
    "a bare file": ({"score": ["mine.yaml"]}, "write {yaml: mine.yaml}"),
    "no yaml": ({"score": [{"yaml": "mine.yaml"}]}, "cannot read mine.yaml: No such file"),
    "no folder": ({"score": [{"folder": "mine", "task": "x"}]}, "there is no folder mine"),
    "unknown key": ({"score": [{"task": "gsm8k", "metrc": "x"}]}, "did you mean metric"),
    "no commit": ({"score": ["wikitext"]}, "of which no commit is known here; name one"),
    "twice": ({"score": ["gsm8k", "gsm8k"]}, "gsm8k would be scored twice"),
    "unknown main": ({"score": ["gsm8k", "perplexity"], "main": "gsm"}, "did you mean gsm8k"),
    "no share": (
        {"score": [{"task": "gsm8k", "metric": "bleu"}]},
        "is no share to be averaged; name a `main`",
    ),
    "unknown metric": (
        {"score": [{"task": "gsm8k", "metric": "taste"}]},
        "gsm8k: nothing is known of a metric 'taste'; of its own there are exact_match",
    ),
    "negative shots": ({"score": [{"task": "gsm8k", "fewshot": -1}]}, "fewshot must be a whole number"),
    "tested on none": ({"sizes": {"test": 0}}, "test must be a whole number above 0"),
    "no split": ({"sizes": {"tset": 3}}, "sizes: 'tset' is no split; did you mean test"),
    "sizes are a number": ({"sizes": 3}, "sizes: give rows at most a split"),
    "skip is a text": ({"skip_empty": "no"}, "skip_empty must be true or false"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named_before_anything_is_read(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", rows(40))
    given = {"train": "rows.jsonl", "score": ["perplexity"]} | TEMPLATES | options
    with pytest.raises(TaskError) as caught:
        tasks.create("instruct", **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN = {
    "misspelt column": (
        rows(40),
        {"prompt": "{questoin}"},
        "there is no column 'questoin'; did you mean question",
    ),
    "empty answer": (
        [*rows(40), {"question": "Why?", "solution": " "}],
        {},
        "the answer is empty",
    ),
    "no value": (
        [*rows(40), {"question": None, "solution": "x"}],
        {},
        "line 41, column 'question': there is no value",
    ),
    "a list": (
        [*rows(40), {"question": ["x"], "solution": "x"}],
        {},
        "line 41, column 'question': \"['x']\" is no text",
    ),
    "too few": (rows(8), {}, "nothing is left to train on"),
    "too short": (rows(40), {"max_length": 5}, "leaves no answer of train a token; raise it"),
    "too long": (rows(40), {"max_length": 5000}, "max_length 5000 is above the 1024 tokens"),
    "no template": (
        rows(40),
        {"chat": True},
        "this model's tokenizer has no chat template; leave `chat` out",
    ),
}


@pytest.mark.parametrize(("lines", "options", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_named(tmp_path, lines, options, message):
    with pytest.raises(TaskError) as caught:
        created(tmp_path, lines, **(TEMPLATES | options)).prepare(tokenizer(1024))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


CHATS = {
    "a role": (
        {"messages": [{"role": "usr", "content": "Hi"}]},
        "turn 1: 'usr' is no role; did you mean user?",
    ),
    "no list": ({"messages": "hello"}, "column 'messages': 'hello' is no list of turns"),
    "other keys": ({"messages": [{"from": "human", "value": "hi"}]}, "turn 1: \"{'from': 'human'"),
    "no answer": ({"messages": TURNS[:1]}, "no turn is the assistant's, only user"),
    "an empty answer": ({"messages": [TURNS[0], TURNS[1] | {"content": ""}]}, "the answer is empty"),
    "an answer first": ({"messages": TURNS[1:2]}, "it begins with an answer"),
}


@pytest.mark.parametrize(("line", "message"), CHATS.values(), ids=CHATS)
def test_a_broken_chat_is_named_by_its_line(tmp_path, line, message):
    with pytest.raises(TaskError, match=r"rows\.jsonl, line 1") as caught:
        created(tmp_path, [line] * 3 + chats(40), messages="messages", chat=True).prepare(chatty())
    assert message in str(caught.value)


def test_rows_without_an_answer_are_left_out_where_that_is_allowed(tmp_path):
    lines = [*rows(40), {"question": "Why?", "solution": " "}, {"question": "Who?", "solution": None}]
    data = created(tmp_path, lines, **TEMPLATES, skip_empty=True).prepare(tokenizer(1024))
    assert data.sizes["train"] == 26
    assert data.dropped == 2


def test_a_template_that_rewrites_an_answer_once_more_turns_follow_is_refused(tmp_path):
    made = chatty()
    made.chat_template = CHATML.replace("message['content']", "(message['content'] if loop.last else 'gone')")
    with pytest.raises(
        TaskError, match="writes turn 2 otherwise where it is generated; give rows of one answer"
    ):
        created(tmp_path, chats(40), messages="messages", chat=True).prepare(made)


def test_a_template_that_refuses_a_role_says_so(tmp_path):
    made = chatty()
    made.chat_template = "{{ raise_exception('no system turn, please') }}"
    with pytest.raises(TaskError, match="refuses it: no system turn, please"):
        created(tmp_path, chats(40), messages="messages", chat=True).prepare(made)


YAML = {
    "broken": ("task: [", "is no YAML"),
    "no task": ("group: x", "states neither `task: NAME` nor"),
    "a text": ("hello", "no lm-eval task"),
    "python": ("task: x\nclass: !function x.Y", "this task is Python code"),
    "lost member": ("group: x\ntask: [gsm8kk]", "there is no task 'gsm8kk'; did you mean gsm8k"),
    "metrics": ("task: x\nmetric_list: acc", "metric_list must be a list, got 'acc'"),
    "a metric": ("task: x\nmetric_list: [acc]", "metric_list: 'acc' has no `metric`"),
    "a path": ("task: x\ndataset_path: [a]", "dataset_path must be a text"),
    "lost include": ("include: nothing.yaml\ntask: x", "cannot read"),
    "a circle": ("include: mine.yaml\ntask: x", "which includes it"),
}


@pytest.mark.parametrize(("text", "message"), YAML.values(), ids=YAML)
def test_a_broken_yaml_is_one_line(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(TaskError) as caught:
        created(tmp_path, **TEMPLATES, score=[{"yaml": str(tmp_path / "mine.yaml")}])
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value) or "nothing.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doc_to_text": "{{nothing.at.all}} is"}, "lm-eval cannot use this"),
        ({"doc_to_choice": "{{thing"}, "lm-eval cannot use this"),
        ({"test_split": "tset"}, "lm-eval cannot use this"),
        ({"metric_list": [{"metric": "f1"}]}, "is no mean over items"),
    ],
)
def test_a_task_that_lm_eval_cannot_use_is_one_line(tmp_path, changes, message):
    task = created(tmp_path, **TEMPLATES, score=[{"yaml": str(choice_yaml(tmp_path, **changes))}])
    with pytest.raises(TaskError) as caught:
        task.prepare(tokenizer(1024))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["arc", "mmlu/default", "super_glue", "minerva_math", "benchmarks"])
def test_names_stand_for_the_files_and_tags_for_the_tasks_that_lm_eval_finds(folder):
    from lm_eval.tasks._index import Kind, TaskIndex

    from rankbench.tasks.causal.harness import STOCK_FOLDER
    from rankbench.tasks.causal.index import declared

    theirs = TaskIndex.build([STOCK_FOLDER / folder])
    ours = declared(STOCK_FOLDER / folder)
    assert ours.files == {name: one.yaml_path for name, one in theirs.items() if one.kind != Kind.TAG}
    assert ours.tags == {name: one.tags for name, one in theirs.items() if one.kind == Kind.TAG}


def test_files_that_include_each_other_have_no_tags(tmp_path):
    from rankbench.tasks.causal.index import declared

    for name, other in ("ab", "ba"):
        (tmp_path / f"{name}.yaml").write_text(f"include: {other}.yaml\ntask: {name}\n")
    assert declared(tmp_path).files.keys() == {"a", "b"}
    assert declared(tmp_path).tags == {}


def test_commonsense_170k_is_asked_in_the_words_that_it_is_written_in(tmp_path):
    asked = {
        "boolq": ("passage 0", "is it?\n\nAnswer format: true/false"),
        "piqa": ("goal", "Solution1: do one\n\nSolution2: do two\n\nAnswer format: solution1/solution2"),
        "social_iqa": (
            "context",
            "Answer1: one Answer2: two Answer3: three\n\nAnswer format: answer1/answer2/answer3",
        ),
        "hellaswag": ("Cooking: context", "Ending1: one. Ending2: two. Ending3: three. Ending4: four."),
        "winogrande": ("the _ is big", "Option1: box Option2: cup\n\nAnswer format: option1/option2"),
        "arc_easy": ("Q", "Answer1: one Answer2: two Answer3: three Answer4: four"),
        "openbookqa": ("stem", "Answer format: answer1/answer2/answer3/answer4"),
    }
    right = {"boolq": "true", "piqa": "solution2", "social_iqa": "answer3", "hellaswag": "ending3"}
    right |= {"winogrande": "option2", "arc_easy": "answer2", "openbookqa": "answer3"}
    for name in asked:
        made_data.write_stock(tmp_path, name, made_data.stock_splits(name))
    train = made_data.stock_splits("arc_challenge")
    made_data.write_stock(tmp_path / "challenge", "arc_challenge", train)
    from rankbench.tasks.causal.asked import asked as entry
    from rankbench.tasks.causal.scorer import Scorer

    group = entry("commonsense_170k")
    assert not group.group.by_size
    assert len(group.group.members) == 8
    for stated in group.group.members:
        name = stated.name.removeprefix("commonsense_170k_")
        if name == "arc_challenge":
            continue
        scorer = Scorer(stated, group, tmp_path, None)
        doc = scorer.docs[0]
        text = scorer.task.doc_to_text(doc)
        assert text.startswith("Please ")
        assert text.endswith("\n\nthe correct answer is")
        assert asked[name][1] in text, name
        choices, target = scorer.task.doc_to_choice(doc), scorer.task.doc_to_target(doc)
        assert choices[int(target)] == right[name], name


def test_means_of_several_tasks_have_the_variance_of_a_stratified_sample():
    from rankbench.tasks.causal.means import Part, linearised, mean

    draw = np.random.default_rng(0)
    parts = [
        Part(draw.normal(3, 1, 40), 0.5),
        Part(draw.normal(-3, 2, 400), 0.5),
        Part(draw.normal(0, 1, 9), 0.0),
    ]
    shares = linearised(parts)
    assert shares.mean() == pytest.approx(mean(parts))
    expected = sum(part.weight**2 * part.values.var() / len(part.values) for part in parts)
    assert shares.var() / len(shares) == pytest.approx(expected)


def test_a_perplexity_s_parts_have_its_spread():
    """Against resampled items."""
    from rankbench.tasks.causal.means import perplexity

    draw = np.random.default_rng(0)
    tokens = draw.integers(5, 50, 400).astype(float)
    losses = tokens * draw.gamma(9, 0.1, 400)
    part = perplexity(losses, tokens)
    assert part.values.mean() == pytest.approx(np.exp(losses.sum() / tokens.sum()))
    drawn = draw.integers(0, 400, (4000, 400))
    resampled = np.exp(losses[drawn].sum(1) / tokens[drawn].sum(1))
    assert part.values.std() / 20 == pytest.approx(resampled.std(), rel=0.1)


def test_its_predictions_give_the_score_of_a_record(scored, tmp_path):
    from rankbench.bench.records.predictions import packed

    (tmp_path / "x.parquet").write_bytes(packed(scored[3].predictions))
    back = pd.read_parquet(tmp_path / "x.parquet")
    assert back["score"].mean() == pytest.approx(scored[3].metrics["mean"], rel=1e-6)
    assert Dataset.from_pandas(back).num_rows == len(back)


PAGE = Path(__file__).parents[2] / "docs/your-data.md"


def test_the_suite_of_the_page_is_one(tmp_path, monkeypatch):
    from rankbench.bench.suite import load_suite, plan

    monkeypatch.chdir(tmp_path)
    _, block = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "chats.yaml").write_text(block)
    write(tmp_path / "chats.jsonl", chats(40))
    choice_yaml(tmp_path, "mine")
    assert len(list(plan(load_suite("chats.yaml")))) == 6


def test_the_options_of_the_page_are_those_that_there_are():
    named = {*re.findall(r"`(\w+)[:`]", PAGE.read_text(encoding="utf-8"))}
    known = {*inspect.signature(InstructTask).parameters} - {"name", "mirror", "scoring_batch"}
    assert known <= named, "each is told of"


@pytest.mark.slow
def test_a_run_on_chats_is_kept_with_the_parts_of_its_score(tmp_path):
    """From a suite to its record, whose predictions the report reads item by item."""
    from rankbench.bench.records import RunRecord
    from rankbench.bench.suite import Suite, plan
    from rankbench.reports.stats.items import main_scores
    from tests.bench.tiny_suite import record_of

    made = chatty()
    folder = tmp_path / "model"
    llama(len(made)).save_pretrained(folder)
    made.save_pretrained(folder)
    choice_yaml(tmp_path)
    train = write(tmp_path / "chats.jsonl", chats(40))
    score = [{"folder": str(tmp_path), "task": "colours"}, "perplexity"]
    task = {"name": "instruct", "train": train, "messages": "messages", "chat": True, "score": score}
    experiment = {
        "task": task | {"sizes": {"selection": 6, "test": 6}, "max_length": 600},
        "model": str(folder),
        "targets": ["q_proj", "v_proj"],
        "training": {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "observe": 2, "select": "best"},
        "adapters": {"lora": {"rank": 2}},
    }
    suite = Suite.model_validate({"name": "chats", "experiments": {"chats": experiment}})
    runs = {spec.seed: record_of(spec, tmp_path) for spec in plan(suite, seeds=2)}
    assert all(isinstance(record, RunRecord) for record in runs.values())
    assert {record.metrics.main for record in runs.values()} == {"mean"}
    assert runs[0].metrics.selection == "answer_loglikelihood"
    assert runs[0].metrics.scales["colours/acc"].percent
    scores = main_scores(tmp_path / "runs", {"lora": runs})["lora"]
    for seed, record in runs.items():
        assert scores[seed].shape == (12,)
        assert scores[seed].mean() == pytest.approx(record.metrics.best["colours/acc"], rel=1e-5)
