"""A user's mistakes in what `instruct` is given: one line each, before anything is trained."""

from __future__ import annotations

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from rankbench import tasks
from rankbench.tasks import TaskError
from tests.tasks.made_instruct import (
    CHATML,
    TEMPLATES,
    TURNS,
    chats,
    chatty,
    choice_yaml,
    created,
    rows,
    write,
)
from tests.tiny_text import tokenizer

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
    "a test that nothing reads": (
        {"score": ["gsm8k"], "test": "rows.jsonl"},
        "`test` is what the perplexity is of; add perplexity to score",
    ),
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
    "one prompt": (
        [row | {"question": ["Go on!", "go  on!"][i % 2]} for i, row in enumerate(rows(400))],
        {},
        "all 400 rows of the training split have the same text or prompt, so that they lie in one split;",
    ),
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


def test_a_tokenizer_that_ends_every_text_is_refused_and_what_the_message_says_mends_it(tmp_path):
    made = tokenizer(1024)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", made.eos_token_id)]
    )
    task = created(tmp_path, **TEMPLATES)
    with pytest.raises(TaskError, match="and so each prompt, with '<eos>'; load it with add_eos_token=False"):
        task.prepare(made)
    made.save_pretrained(tmp_path / "model")
    mended = AutoTokenizer.from_pretrained(tmp_path / "model", add_eos_token=False)
    assert task.prepare(mended).train == task.prepare(tokenizer(1024)).train


CHATS = {
    "a role": (
        {"messages": [{"role": "usr", "content": "Hi"}]},
        "turn 1: 'usr' is no role; did you mean user?",
    ),
    "no list": ({"messages": "hello"}, "column 'messages': 'hello' is no list of turns"),
    "other keys": ({"messages": [{"from": "human", "value": "hi"}]}, "turn 1: \"{'from': 'human'"),
    "a call of a tool": (
        {"messages": [TURNS[0], TURNS[1] | {"tool_calls": [{"type": "function"}]}]},
        "turn 2: 'tool_calls' cannot be learned, only role and content; leave the key or the row out",
    ),
    "tools": (
        {"messages": TURNS, "tools": [{"type": "function"}]},
        "column 'tools': tools cannot be learned; leave the column or the row out",
    ),
    "a weight": ({"messages": [TURNS[0] | {"name": None, "weight": 0}, TURNS[1]]}, "turn 1: 'weight' cannot"),
    "no answer": ({"messages": TURNS[:1]}, "no turn is the assistant's, only user"),
    "an empty answer": ({"messages": [TURNS[0], TURNS[1] | {"content": ""}]}, "the answer is empty"),
    "an answer first": ({"messages": TURNS[1:2]}, "it begins with an answer"),
}


@pytest.mark.parametrize(("line", "message"), CHATS.values(), ids=CHATS)
def test_a_broken_chat_is_named_by_its_line(tmp_path, line, message):
    with pytest.raises(TaskError, match=r"rows\.jsonl, line 1") as caught:
        created(tmp_path, [line] * 3 + chats(40), messages="messages", chat=True).prepare(chatty())
    assert message in str(caught.value)


def test_keys_of_a_turn_without_a_value_say_nothing(tmp_path):
    """`datasets` writes every key of any turn in all of them."""
    found = [
        created(tmp_path, [{"messages": [turn | more for turn in each["messages"]]} for each in chats(40)],
                messages="messages", chat=True).prepare(chatty()).train
        for more in ({}, {"tool_calls": None, "name": None}, {"tool_calls": [], "name": ""})
    ]  # fmt: skip
    assert found[0] == found[1]


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
