"""Trained on one set, scored on many: rows, chats, lm-eval's tasks and held-out answers."""

from __future__ import annotations

import inspect
import json
import re
from datetime import datetime
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from tokenizers import models

from rankbench import tasks
from rankbench.tasks import TaskError
from rankbench.tasks.causal.instruct import InstructTask
from rankbench.tasks.causal.loss import IGNORED
from tests.tasks.made_instruct import (
    CHATML,
    TEMPLATES,
    TURNS,
    chats,
    chatty,
    choice_yaml,
    created,
    learned,
    rows,
    write,
)
from tests.tiny_text import llama, tokenizer


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


def test_an_answer_that_a_token_would_join_to_its_prompt_is_whole(tmp_path):
    """SmolLM2's tokenizer has ":-": of "Answer:" and "-3", lm-eval makes "Answer:" and "3"."""
    made = tokenizer(1024)
    vocabulary = made.get_vocab() | {":-": len(made)}
    made.backend_tokenizer.model = models.BPE(vocabulary, [(":", "-")])
    asked = [{"question": f"minus {i}", "solution": f"-{i}"} for i in range(40)]
    data = created(tmp_path, asked, prompt="{question}:", answer="{solution}").prepare(made)
    for row in data.train:
        question, _, number = made.decode(row["input_ids"]).partition(":")
        assert question == f"minus {number[1:]}"
        assert row["input_ids"] == made(f"{question}:")["input_ids"] + made(number)["input_ids"]
        assert row["answer"] == [*made(number)["input_ids"], made.eos_token_id]


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


SAYS_THE_DATE = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '<|im_end|>\n' }}"
MARKS = CHATML.replace("{{'<|im_start|>'", "{% generation %}{{'<|im_start|>'").replace(
    "{% endfor", "{% endgeneration %}{% endfor"
)


@pytest.mark.parametrize("template", [CHATML, MARKS], ids=["between", "marked"])
def test_a_template_that_writes_the_date_writes_the_same_one_every_day(tmp_path, template):
    """Llama 3.2's, Mistral Small's and gpt-oss' call `strftime_now`."""
    made = chatty()
    made.chat_template = SAYS_THE_DATE + template
    model, asked = llama(len(made)), []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, given: asked.extend(given[0].tolist()))
    scores = [{"yaml": str(choice_yaml(tmp_path))}]
    task = created(tmp_path, chats(40), messages="messages", chat=True, score=scores)
    train = task.prepare(made).train
    task.score(model, "test")
    for ids in [*(row["input_ids"] for row in train), *asked]:
        assert made.decode(ids).startswith("<|im_start|>system\nToday is 26 July 2024<|im_end|>\n")
    now = made.apply_chat_template(TURNS[:1], tokenize=False)
    assert f"{datetime.now():%B %Y}" in now, "the clock is stopped for us alone"


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


def test_a_row_whose_answer_begins_beyond_the_length_is_left_out_and_told(tmp_path):
    lines = [
        {"question": f"{i} " + "x" * (200 if i % 4 else 10), "solution": "y" * (120 if i % 8 else 5)}
        for i in range(40)
    ]
    data = created(tmp_path, lines, **TEMPLATES, max_length=100).prepare(tokenizer(1024))
    assert sum(data.sizes.values()) == 10, "every fourth has a short question"
    assert sum(data.truncated.values()) == 5, "every eighth a short answer"
    assert data.dropped == 30
    left_out = 26 - data.sizes["train"]
    told = f"train: {left_out} rows have no answer within max_length and are left out, {26 - left_out} items"
    assert any(note.startswith(told) for note in data.notes())


def test_held_out_answers_may_come_from_a_file(tmp_path):
    test, selection = (write(tmp_path / f"{i}.jsonl", rows(5, start=i)) for i in (38, 36))
    task = created(tmp_path, **TEMPLATES, test=test, selection=selection)
    data = task.prepare(tokenizer(1024))
    assert data.sizes == {"train": 36, "selection": 2, "test": 5}
    assert data.dropped == 4 + 3, "rows 36 to 39 are held out, and a model is not chosen by 38 to 40"
    assert task.fingerprint()["source"].keys() == {"train", "selection", "test", "scores"}


def test_of_a_data_set_with_splits_the_usual_ones_are_read(tmp_path):
    saved = tmp_path / "saved"
    splits = {"train": rows(9), "validation": rows(3, start=9), "test": rows(4, start=12)}
    DatasetDict({split: Dataset.from_list(each) for split, each in splits.items()}).save_to_disk(saved)
    given = dict.fromkeys(("train", "selection", "test"), str(saved))
    data = tasks.create("instruct", **given, **TEMPLATES, score=["perplexity"]).prepare(tokenizer(1024))
    assert data.sizes == {"train": 9, "selection": 3, "test": 4}


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


def test_rows_without_an_answer_are_left_out_where_that_is_allowed(tmp_path):
    lines = [*rows(40), {"question": "Why?", "solution": " "}, {"question": "Who?", "solution": None}]
    data = created(tmp_path, lines, **TEMPLATES, skip_empty=True).prepare(tokenizer(1024))
    assert data.sizes["train"] == 26
    assert data.dropped == 2


def test_a_missing_number_is_no_answer(tmp_path):
    """A float column of Parquet has NaN where nothing stands."""
    asked = [f"How much is {i} and one half?" for i in range(60)]
    said = [float("nan") if i == 7 else i + 0.5 for i in range(60)]
    Dataset.from_dict({"question": asked, "solution": said}).to_parquet(tmp_path / "t.parquet")
    options = TEMPLATES | {"train": str(tmp_path / "t.parquet"), "sizes": {"selection": 6, "test": 8}}
    data = tasks.create("instruct", **options, score=["perplexity"], skip_empty=True).prepare(tokenizer(1024))
    assert data.dropped == 1
    with pytest.raises(TaskError, match=r"t\.parquet, row 8, column 'solution': there is no value"):
        tasks.create("instruct", **options, score=["perplexity"]).prepare(tokenizer(1024))


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
