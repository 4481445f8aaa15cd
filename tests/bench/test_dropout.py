"""Cheap masks: the distribution asked for, attention as PyTorch computes it, gradients through the mask."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy import stats
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from rankbench.bench.cpu import dropout
from rankbench.bench.cpu.dropout import CheapDropout, has_dropout, masked, use_cheap_dropout

pytestmark = pytest.mark.numerical

COUNT = 2**20


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003])
def test_elements_are_dropped_independently_with_the_probability_asked_for(p):
    torch.manual_seed(0)
    dropped = masked(torch.ones(COUNT), p) == 0
    assert stats.binomtest(int(dropped.sum()), COUNT, p).pvalue > 1e-3
    # Neighbours share a 64-bit draw: pairs at every distance within one must be independent too.
    for distance in (1, 2, 3, 4):
        both = int((dropped[:-distance] & dropped[distance:]).sum())
        assert stats.binomtest(both, COUNT - distance, p * p).pvalue > 1e-3
    for lane in range(4):
        own = dropped[lane::4]
        assert stats.binomtest(int(own.sum()), len(own), p).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_stays(dtype):
    torch.manual_seed(0)
    kept = masked(torch.ones(COUNT, dtype=dtype), 0.1)
    assert kept.dtype == dtype
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9], rel=1e-4)
    assert kept.mean().item() == pytest.approx(1, abs=4 * (0.1 / 0.9 / COUNT) ** 0.5)


def test_gradients_pass_where_elements_passed():
    torch.manual_seed(0)
    x = torch.randn(33, 7, requires_grad=True)
    y = masked(x, 0.4)
    y.sum().backward()
    assert torch.equal(x.grad == 0, y == 0)
    assert torch.allclose(y, x * x.grad)


def test_the_same_seed_gives_the_same_mask_and_another_seed_another():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(masked(torch.ones(5, 5), 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_are_exact(p):
    expected = torch.zeros(100) if p == 1 else torch.ones(100)
    assert torch.equal(masked(torch.ones(100), p), expected)


def test_nothing_is_dropped_in_evaluation():
    x = torch.randn(100)
    assert CheapDropout(0.5).eval()(x) is x


def bert(p=0.1):
    config = AutoConfig.for_model(
        "bert", vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, hidden_dropout_prob=p, attention_probs_dropout_prob=p,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).train()


@pytest.mark.parametrize("padded", [False, True])
def test_a_model_computes_what_it_did_but_for_the_masks(padded, monkeypatch):
    stock, cheap = bert(), bert()
    use_cheap_dropout(cheap)
    ids = torch.randint(0, 50, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 5:] = mask[3, 2:] = 0
    reference = copy.deepcopy(stock).eval()(input_ids=ids, attention_mask=mask).logits
    used = []
    monkeypatch.setattr(dropout, "masked", lambda x, p: used.append(x.shape) or x)
    found = cheap(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(found, reference, atol=1e-6)
    assert used.count((4, 4, 9, 9)) == 2, "one of attention's shares a layer"
    assert len(used) == 1 + 2 * 3 + 1
    kinds = {type(layer) for layer in cheap.modules() if isinstance(layer, nn.Dropout)}
    assert kinds == {CheapDropout}


def test_attention_without_dropout_and_causal_attention_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(dropout, "masked", lambda x, p: pytest.fail("ours was used"))
    q, k, v = torch.randn(3, 2, 4, 9, 8)
    layer = nn.Module()
    layer.is_causal = False
    expected = nn.functional.scaled_dot_product_attention(q, k, v)
    found, _ = dropout.attention(layer, q, k, v, None)
    assert torch.allclose(found.transpose(1, 2), expected, atol=1e-6)
    layer.is_causal = True
    causal, _ = dropout.attention(layer, q, k, v, None, dropout=0.1)
    assert causal.shape == (2, 9, 4, 8)


def test_which_models_have_dropout():
    assert has_dropout(bert())
    assert not has_dropout(bert(p=0.0))
