"""What `instruct` is scored by: lm-eval's tasks, one's own, held-out answers, and their mean."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from datasets import Dataset
from tokenizers.processors import TemplateProcessing

from rankbench.tasks import TaskError
from tests.tasks import made_data
from tests.tasks.made_instruct import (
    CHATML,
    TEMPLATES,
    chats,
    chatty,
    choice_yaml,
    created,
    rows,
    write,
)
from tests.tiny_text import SHARED_HUB, llama, tokenizer


@pytest.mark.parametrize("split", ["test", "validation"])
def test_examples_before_a_question_are_not_of_those_that_are_scored(tmp_path, split):
    files = {each: str(tmp_path / "colours.jsonl") for each in (split, "shots")}
    changes = {"test_split": None, f"{split}_split": split, "dataset_kwargs": {"data_files": files}}
    path = choice_yaml(tmp_path, num_fewshot=4, **changes)
    with pytest.raises(TaskError, match=f"the 4 examples before a question are of the split '{split}'"):
        created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}]).prepare(tokenizer(1024))
    without = created(tmp_path, **TEMPLATES, score=[{"yaml": str(path), "fewshot": 0}])
    without.prepare(tokenizer(1024))
    with_one = created(tmp_path, **TEMPLATES, score=[{"yaml": str(path), "fewshot": 1}])
    assert with_one.protocol() != without.protocol(), "they would share a column"
    path = choice_yaml(tmp_path, num_fewshot=4, fewshot_split="shots", **changes)
    created(tmp_path, **TEMPLATES, score=[{"yaml": str(path)}]).prepare(tokenizer(1024))


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


WRITTEN = {
    "output_type": "generate_until", "generation_kwargs": {"max_gen_toks": 2, "until": ["."]},
    "doc_to_choice": None, "doc_to_target": "{{right}}", "metric_list": [{"metric": "exact_match"}],
}  # fmt: skip


@pytest.mark.parametrize("template", [CHATML, "{{ bos_token }}" + CHATML], ids=["without", "with"])
@pytest.mark.parametrize("changes", [{}, WRITTEN], ids=["chosen", "written"])
def test_a_chat_is_asked_with_the_tokens_before_it_that_it_was_trained_with(tmp_path, template, changes):
    """Llama's tokenizer begins each text with a token that ChatML has not."""
    made = chatty()
    made.bos_token, made.chat_template = "<cls>", template
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<cls> $A", special_tokens=[("<cls>", made.bos_token_id)]
    )
    path = choice_yaml(tmp_path, **changes)
    task = created(tmp_path, chats(40), messages="messages", chat=True, score=[{"yaml": str(path)}])
    data, model, asked = task.prepare(made), llama(len(made)), []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, given: asked.extend(given[0].tolist()))
    task.score(model, "test")
    expected = made.apply_chat_template([{"role": "user", "content": "colours thing 3 is"}])["input_ids"]
    system = expected[: expected.index(made.convert_tokens_to_ids("<|im_start|>"), 3)]
    assert data.train[0]["input_ids"][: len(system)] == system
    prompts = [row for row in asked if len(row) > len(system)]
    assert prompts
    assert all(row[: len(system)] == system for row in prompts)


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
