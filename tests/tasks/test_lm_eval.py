"""lm-eval tasks: training text is what lm-eval scores, and its scores are what we keep."""

import copy
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from datasets.utils import are_progress_bars_disabled
from lm_eval.models.huggingface import HFLM
from transformers import PhiConfig, PhiForCausalLM

from rankbench import tasks
from rankbench.tasks.causal import harness, prompts, stock
from tests.tiny_text import SHARED_HUB, llama, tokenizer, write_mirror

needs_hub = pytest.mark.skipif(not SHARED_HUB.is_dir(), reason="../shared/hub is absent")


def winogrande_rows(prefix: str, count: int) -> Dataset:
    rows = [
        {
            "sentence": f"{prefix} {i}: the cup did not fit the box because the _ was too big.",
            "option1": "cup",
            "option2": "box",
            "answer": "1" if i % 2 else "2",
        }
        for i in range(count)
    ]
    return Dataset.from_list(rows)


@pytest.fixture(scope="module")
def winogrande_mirror(tmp_path_factory):
    splits = {"train": winogrande_rows("train", 12), "validation": winogrande_rows("valid", 6)}
    root = tmp_path_factory.mktemp("mirror")
    return write_mirror(root, "allenai/winogrande", "winogrande_xl", splits)


def winogrande(mirror):
    return tasks.create("winogrande", selection=4, test=5, mirror=mirror)


def arc():
    return tasks.create("arc_easy", train=8, selection=6, test=5, max_length=700, mirror=SHARED_HUB)


def gsm8k(**options):
    sizes = {"train": 6, "selection": 4, "test": 2, "max_length": 1024} | options
    return tasks.create("gsm8k", mirror=SHARED_HUB, **sizes)


@pytest.fixture(scope="module")
def model():
    return llama()


@pytest.fixture(params=["winogrande", pytest.param("arc_easy", marks=needs_hub)])
def choices(request, winogrande_mirror):
    task = winogrande(winogrande_mirror) if request.param == "winogrande" else arc()
    return task, task.prepare(tokenizer(1024))


def test_training_pairs_are_lm_evals_own_requests(choices):
    task, _ = choices
    scorer = task._task
    scorer.set_fewshot_seed(1)
    scorer.build_all_requests(limit=20)
    docs = list(scorer.eval_docs)[:20]
    for doc_id, doc in enumerate(docs):
        asked = [request.args for request in scorer.instances if request.doc_id == doc_id]
        right = int(doc["answer"]) - 1 if "answer" in doc else doc["choices"]["label"].index(doc["answerKey"])
        assert prompts.render(scorer, doc)[:2] == asked[right]


def test_our_loss_is_lm_evals_log_likelihood(choices, model):
    task, prepared = choices
    score = task.score(model, "selection")
    ours, _ = task.answers(model, task._selection_examples, batch=3)
    gold = [row["loglikelihoods"][row["target"]] for _, row in score.predictions.iterrows()]
    assert ours == pytest.approx(gold, rel=1e-4)
    tokens = sum(len(example["answer"]) for example in task._selection_examples)
    assert score.metrics["answer_loglikelihood"] == pytest.approx(sum(gold) / tokens)
    right = score.predictions["target"] == score.predictions["prediction"]
    assert score.metrics["acc"] == pytest.approx(right.mean())
    assert prepared.lengths == [len(example["input_ids"]) for example in prepared.train]


def test_lm_eval_scores_the_fixed_test_items(choices, model, monkeypatch):
    """In each of the processes that share a run."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    task, prepared = choices
    score = task.score(model, "test")
    rows = score.predictions
    assert prepared.sizes["test"] == len(rows) == 5
    assert rows["item"].tolist() == [str(i) for i in task._indices]
    assert score.metrics["acc"] == pytest.approx((rows["target"] == rows["prediction"]).mean())
    assert score.metrics["acc"] == pytest.approx(rows["score"].mean())
    for i, doc_id in enumerate(task._indices):
        assert rows["target"][i] == prompts.gold(task._task, task._task.eval_docs[doc_id])
    assert task.logits(model).shape == (min(8, prepared.sizes["selection"]), 260)


def test_tokens_are_split_where_lm_eval_splits_them(model):
    made = tokenizer()
    pairs = [("Question: why\nAnswer:", " because"), ("trailing space ", "moves"), ("", "alone"), ("a", "b")]
    seen = []

    class Spy(HFLM):
        def _loglikelihood_tokens(self, requests, **_):
            seen.extend((context, answer) for _, context, answer in requests)
            return [(0.0, False)] * len(requests)

    spy = Spy(pretrained=model, tokenizer=made, backend="causal", batch_size=1)
    spy.loglikelihood([harness.Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
    assert harness.PairEncoder(made).encode(pairs) == seen


@pytest.mark.parametrize("split", ["selection", "test"])
def test_a_tied_output_layer_with_a_bias_can_be_trained_after_it_was_scored(winogrande_mirror, split):
    config = PhiConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        tie_word_embeddings=True,
    )  # fmt: skip
    tied, task = PhiForCausalLM(config), winogrande(winogrande_mirror)
    bias = tied.lm_head.bias
    task.prepare(tokenizer(1024))
    task.score(tied, split)
    assert tied.lm_head.bias is bias
    assert not [name for name, parameter in tied.named_parameters() if parameter.is_inference()]
    assert tied.training
    bias.requires_grad_(False).requires_grad_(True)


def test_a_bfloat16_model_answers_in_its_precision_and_its_likelihoods_are_not_rounded_again(model):
    half, made = copy.deepcopy(model).bfloat16().eval(), tokenizer()
    lm = harness.wrap(half, made, 1, 64)
    assert lm.batch_size == 1
    for pair in (("Question: why\nAnswer:", " because of it"), ("a b", "c d e f g h")):
        ((likelihood, _),) = lm.loglikelihood(
            [harness.Instance("loglikelihood", {}, pair, 0)], disable_tqdm=True
        )
        ((prompt, answer),) = harness.PairEncoder(made).encode([pair])
        logits = half(torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :]
        assert logits.dtype == torch.bfloat16
        chances = logits.double().log_softmax(-1)
        expected = sum(chances[i, token].item() for i, token in enumerate(answer))
        assert likelihood == pytest.approx(expected, rel=1e-6)
        ids, written = torch.tensor([prompt]), []
        for _ in range(4):
            written.append(
                int(half(torch.cat([ids, torch.tensor([written]).long()], 1)).logits[0, -1].argmax())
            )
        asked = (pair[0], {"until": ["<none>"], "max_gen_toks": 4})
        (text,) = lm.generate_until([harness.Instance("generate_until", {}, asked, 0)], disable_tqdm=True)
        assert text == made.decode(written)


@needs_hub
def test_generated_answers_end_and_are_scored(model):
    task = gsm8k()
    prepared = task.prepare(tokenizer(1024))
    made = task._tokenizer
    for example in prepared.train:
        assert example["answer"][-1] == made.eos_token_id
        answer = made.decode(example["answer"][:-1])
        whole = made.decode(example["input_ids"])
        assert whole.startswith("Question: ")
        assert whole.endswith(f"\nAnswer:{answer}")
        assert "\n#### " in answer
        assert answer.startswith(" ")
    selection = task.score(model, "selection")
    assert selection.metrics[task.selection_metric] < 0
    task._task.config.generation_kwargs["max_gen_toks"] = 8
    score = task.score(model, "test")
    assert task.metric in score.metrics
    assert score.metrics["exact_match_strict_match"] == score.predictions["score"].mean()
    assert len(score.predictions) == 2
    for doc_id, found in zip(task._indices, score.predictions["loglikelihood"], strict=True):
        prompt, answer, *_ = prompts.render(task._task, task._task.eval_docs[doc_id])
        ids = torch.tensor([made(prompt + answer)["input_ids"] + [made.eos_token_id]])
        asked = len(made(prompt)["input_ids"])
        with torch.no_grad():
            likely = model(ids).logits[0].log_softmax(-1)
        expected = sum(float(likely[i - 1, ids[0, i]]) for i in range(asked, ids.shape[1]))
        assert found == pytest.approx(expected, rel=1e-4), "the right answer's, whatever was written"


@needs_hub
def test_long_prompts_lose_their_beginning_and_are_counted():
    def arc_of(limit):
        return tasks.create("arc_easy", train=8, selection=6, test=20, max_length=limit, mirror=SHARED_HUB)

    short = arc_of(180)
    cut, whole = short.prepare(tokenizer()), arc().prepare(tokenizer(1024))
    assert cut.truncated["train"] == sum(length > 180 for length in whole.lengths) > 0
    longest = max(range(8), key=lambda i: whole.lengths[i])
    kept = next(row for row in cut.train if row["answer"] == whole.train[longest]["answer"])
    assert kept["input_ids"] == whole.train[longest]["input_ids"][-180:]

    def longer(doc):  # one token a byte, and the last one is not fed
        prompt = f"Question: {doc['question']}\nAnswer:"
        return max(len(f"{prompt} {choice}".encode()) - 1 for choice in doc["choices"]["text"]) > 180

    test = [short._task.eval_docs[i] for i in short._indices]
    assert cut.truncated["test"] == sum(map(longer, test)) > 0
    assert cut.truncated["selection"] == sum(map(longer, short._selection)) > 0
    assert f"test: {cut.truncated['test']} of 20 items are longer than max_length and cut" in cut.notes()
    with pytest.raises(tasks.TaskError, match="an answer has 115 tokens, above max_length 80"):
        arc_of(80).prepare(tokenizer())


@needs_hub
def test_a_generated_answer_needs_room_beside_the_prompt(model, monkeypatch):
    scored = tasks.create("gsm8k", test=40, selection=4, train=6, max_length=1024, mirror=SHARED_HUB)
    assert scored.prepare(tokenizer(1024)).truncated["test"] == 0
    docs = [scored._task.eval_docs[i] for i in scored._indices]
    lengths = sorted(len(f"Question: {doc['question']}\nAnswer:".encode()) for doc in docs)

    def of(limit):
        return gsm8k(test=40, max_length=limit).prepare(tokenizer(2048))

    fits = lengths[-1] + 256
    with pytest.raises(tasks.TaskError, match=rf"leaves \d+ tokens for a prompt .* {fits} would fit all"):
        of(lengths[10] + 256)
    assert of(fits).truncated["test"] == 0
    few = gsm8k(test=40, max_length=max(lengths[30] + 256, 800))
    prepared = few.prepare(tokenizer(2048))
    seen = []

    def generate(self, context, **_):
        seen.extend((context != self.tokenizer.pad_token_id).sum(1).tolist())
        return context

    monkeypatch.setattr(HFLM, "_model_generate", generate)
    few.score(model, "test")
    room = few.sizes.max_length - 256
    assert sorted(seen) == [min(length, room) for length in lengths]
    assert prepared.truncated["test"] == sum(length > room for length in lengths)


@needs_hub
def test_bad_input(tmp_path):
    with pytest.raises(tasks.TaskError, match=r"an answer has .* tokens, above max_length 20"):
        gsm8k(max_length=20).prepare(tokenizer())
    with pytest.raises(tasks.TaskError, match="max_length 1024 is above the 512 tokens"):
        gsm8k().prepare(tokenizer(512))
    with pytest.raises(tasks.TaskError, match="tokenizer"):
        gsm8k().prepare(None)
    with pytest.raises(tasks.TaskError, match="holds no allenai/openbookqa"):
        tasks.create("openbookqa", mirror=SHARED_HUB).prepare(tokenizer())
    with pytest.raises(
        tasks.TaskError, match=r"no Parquet file of the configuration ARC-Challenge .folders: ARC-Easy"
    ):
        tasks.create("arc_challenge", mirror=SHARED_HUB).prepare(tokenizer())


def test_the_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(tasks.TaskError, match=r"pip install rankbench\[arithmetic\]"):
        tasks.create("arithmetic").prepare(tokenizer(1024))


def test_an_empty_split(tmp_path):
    splits = {"train": winogrande_rows("train", 3), "validation": winogrande_rows("valid", 2)}
    mirror = write_mirror(tmp_path, "allenai/winogrande", "winogrande_xl", splits)
    with pytest.raises(
        tasks.TaskError, match=r"of 3 rows of the training split, 0 .* 3 became the selection slice"
    ):
        winogrande(mirror).prepare(tokenizer())


def test_training_text_that_is_in_the_test_split_is_left_out(tmp_path):
    train = [*winogrande_rows("train", 8), *winogrande_rows("VALID", 2)]
    splits = {"train": Dataset.from_list(train), "validation": winogrande_rows("valid", 6)}
    mirror = write_mirror(tmp_path, "allenai/winogrande", "winogrande_xl", splits)
    prepared = winogrande(mirror).prepare(tokenizer())
    assert prepared.dropped == 2
    assert prepared.sizes == {"train": 4, "selection": 4, "test": 5}


@pytest.mark.network
def test_our_own_yaml_runs_without_us(model):
    task = harness.build("bbc_topic", harness.OWN_FOLDER)
    lm = harness.wrap(model, tokenizer(), 8, 256)
    with harness.quiet():
        scored = harness.evaluate(lm, task, [0, 3, 5])
    assert 0 <= scored.metrics["acc"] <= 1
    assert [row["doc_id"] for row in scored.samples] == [0, 3, 5]


def test_flattened_names():
    results = {"alias": "x", "acc,none": 0.5, "acc_stderr,none": "N/A", "exact_match,strict-match": 0.25}
    assert harness.flatten(results) == {"acc": 0.5, "exact_match_strict_match": 0.25}


@pytest.mark.parametrize("name", ["winogrande", "bbc"])
def test_an_edited_yaml_is_another_task(tmp_path, monkeypatch, name):
    entry = tasks.create(name).entry
    before = entry.template(name)
    assert tasks.create(name).fingerprint()["template"] == before
    root = harness.STOCK_FOLDER.parent if entry.folder else harness.OWN_FOLDER.parent
    copy = (
        shutil.copytree(root / "tasks" / entry.folder, tmp_path / "tasks" / entry.folder)
        if entry.folder
        else (shutil.copytree(harness.OWN_FOLDER, tmp_path / "lm_eval_tasks"))
    )
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(stock, "find_spec", lambda _: found)
    monkeypatch.setattr(stock, "__file__", str(tmp_path / "stock.py"))
    assert entry.template(name) == before
    path = next(copy.glob(f"{entry.yaml or 'default'}*.yaml"))
    path.write_text(path.read_text().replace("acc", "acc_norm"))
    assert entry.template(name) != before


def test_no_bars_of_datasets_in_the_log(tmp_path, capfd):
    rows = {
        "ctx": "x",
        "ctx_a": "a",
        "ctx_b": "b",
        "activity_label": "c",
        "endings": list("wxyz"),
        "label": "2",
    }
    splits = {
        split: Dataset.from_list([rows | {"ctx": f"{split} {i}"} for i in range(9)])
        for split in ("train", "validation")
    }
    mirror = write_mirror(tmp_path, "Rowan/hellaswag", "default", splits)
    task = tasks.create("hellaswag", selection=3, mirror=mirror)
    capfd.readouterr()
    task.prepare(tokenizer())
    task.score(llama(), "test")
    assert capfd.readouterr() == ("", "")
    assert not are_progress_bars_disabled(), "they are the user's own again"


@needs_hub
@pytest.mark.slow
@pytest.mark.parametrize("name", ["arc_easy", "piqa"])
def test_scores_are_those_of_lm_eval_alone(name, model):
    """An untouched model, lm-eval's stock task reading the mirror by itself, against ours, item by item."""
    ours = tasks.create(name, train=2, selection=2, test=20, max_length=1000, mirror=SHARED_HUB)
    ours.prepare(tokenizer(1024))
    score = ours.score(model, "test")
    folder = harness.STOCK_FOLDER / ours.entry.folder
    member = {"task": name, "num_fewshot": 0, "dataset_path": str(SHARED_HUB / ours.entry.pin.repo)}
    with harness.quiet(), harness.without_bars():
        manager = harness.TaskManager(include_defaults=False, include_path=folder)
        stock_task = manager.load({"group": "own", "task": [member]})["tasks"][name]
        lm = HFLM(
            pretrained=model, tokenizer=tokenizer(1024), backend="causal", batch_size=4, max_length=1000
        )
        alone = harness.evaluator.simple_evaluate(
            model=lm, tasks=[stock_task], samples={name: ours._indices}, bootstrap_iters=0, log_samples=True,
            task_manager=manager,  # by itself it reads the 14,000 files of all stock tasks
        )  # fmt: skip
    for metric in ("acc", "acc_norm"):
        assert score.metrics[metric] == pytest.approx(alone["results"][name][f"{metric},none"])
    rows = {row["doc_id"]: [reply[0] for reply in row["filtered_resps"]] for row in alone["samples"][name]}
    for _, row in score.predictions.iterrows():
        assert row["loglikelihoods"] == pytest.approx(rows[int(row["item"])], abs=1e-4)
