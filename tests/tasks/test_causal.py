"""The loss of causal tasks: answer tokens only, whatever the padding."""

import pytest
import torch

from rankbench import tasks
from rankbench.tasks.causal.loss import IGNORED, collate_left
from tests.tiny_text import gpt2, llama

EXAMPLES = [
    {"input_ids": [5, 6, 7, 8, 9, 10, 11], "answer": [12]},
    {"input_ids": [20, 21, 22, 30, 31], "answer": [30, 31, 32]},
    {"input_ids": [40, 41], "answer": [41, 42]},
]


@pytest.fixture(scope="module")
def task():
    made = tasks.create("tiny-causal")
    made.prepare(None)
    return made


def by_hand(model, example) -> float:
    """Full logits of the unpadded text, in float64, then minus the answer's log-likelihood."""
    prompt = example["input_ids"][: len(example["input_ids"]) + 1 - len(example["answer"])]
    text = torch.tensor([prompt + example["answer"]])
    chances = model(text).logits[0].log_softmax(-1)
    return -sum(chances[len(prompt) - 1 + i, token].item() for i, token in enumerate(example["answer"]))


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_loss_is_the_answers_log_likelihood(task, make):
    model = make().double().eval()
    batch = task.collate(EXAMPLES)
    expected = sum(by_hand(model, example) for example in EXAMPLES)
    assert task.loss(model, batch.inputs).item() == pytest.approx(expected, rel=1e-6)
    assert batch.weight == 6
    likelihoods, _ = task.answers(model, EXAMPLES, batch=2)
    assert likelihoods == pytest.approx([-by_hand(model, example) for example in EXAMPLES], rel=1e-6)


def test_gradients_do_not_depend_on_the_padding(task):
    model = llama().double().eval()
    task.loss(model, task.collate(EXAMPLES).inputs).backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for example in EXAMPLES:
        task.loss(model, task.collate([example]).inputs).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, together[name], rtol=1e-4, atol=1e-7), name


def test_answers_end_in_the_last_column():
    inputs = collate_left(EXAMPLES).inputs
    assert inputs["input_ids"].shape == (3, 7)
    assert inputs["labels"].tolist() == [[IGNORED, IGNORED, 12], [30, 31, 32], [IGNORED, 41, 42]]
    assert inputs["attention_mask"].sum(1).tolist() == [7, 5, 2]
    assert inputs["position_ids"][1].tolist() == [0, 0, 0, 1, 2, 3, 4]


def test_only_the_answers_columns_are_multiplied_out(task):
    seen = []
    model = llama()
    model.lm_head.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    task.loss(model, task.collate(EXAMPLES).inputs)
    assert seen == [3]


def test_greedy_answers(task):
    model = llama()
    first = {"input_ids": [5, 6, 7], "answer": [0]}
    choice = int(model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    right, wrong = first | {"answer": [choice]}, first | {"answer": [(choice + 1) % 260]}
    assert task.answers(model, [right, wrong], batch=2)[1] == [True, False]
