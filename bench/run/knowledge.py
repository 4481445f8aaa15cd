"""What training takes from what a model knew: before and after it, the model reads a fixed general text.

Of a causal model it is the rise of the loss, in nats a token: what PEFT's comparison of methods calls
forgetting, on a sample of Wikipedia (huggingface/peft, pull requests 2925 and 3419). Of an encoder it is the
drift of its representations: how far the sentences no longer lie to each other as they did. The first reading
is of the model that no adapter is attached to yet, since not every method starts as the identity. The text is
32 sentences that were written for this: they are at hand wherever the package is, and are taken from nothing
that models were trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rankbench.bench import models
from rankbench.bench.records import Forgetting
from rankbench.bench.run.failures import RunFailed
from rankbench.bench.suite import Model
from rankbench.tasks.base import Head, usable_positions
from rankbench.tasks.scoring import evaluating, logits

LONGEST = 128
"""Tokens of a sentence that are read: all of them, unless a token is a letter."""
TOGETHER = 8
"""Sentences at once, at most: where the vocabulary is large, so are the logits."""
FEWEST = 4
"""Sentences that a drift can be told from."""

_read_last: dict[tuple[Model, str, Head, int, str], Tensor | None] = {}
"""The last reading of a pretrained model. Runs of one model and seed follow each other, and of a decoder a
reading takes some hundredths of a small run."""


@cache
def text() -> bytes:
    """A sentence a line."""
    return files(__package__).joinpath("general.txt").read_bytes()


def pretrained(model: nn.Module, known: Model, head: Head, seed: int) -> Tensor | None:
    """As `read`, of a model that nothing was attached to yet: read once for the runs of a process that follow
    each other and start from it. What its checkpoint does not hold is drawn from the seed."""
    if head.kind == "own":
        return None
    start = known, models.identity(known), head, seed, str(next(model.parameters()).device)
    if start not in _read_last:
        found = read(model, known, head)
        _read_last.clear()
        _read_last[start] = found
    return _read_last[start]


def read(model: nn.Module, known: Model, head: Head) -> Tensor | None:
    """What a model makes of the text, in main memory: of a causal one each token's loss, (tokens,), of an
    encoder each sentence's representation, (sentences, width), the mean of its tokens' last states.

    None of a model that reads no words: a task's own, or one of random weights, which knows nothing; and of
    one whose tokenizer makes no tokens of them. Processes that hold parts of a model read together. Mode and
    generators are left as they were.
    """
    tokenizer = None if head.kind == "own" else models.load_tokenizer(known)
    if tokenizer is None:
        return None
    assert isinstance(model, PreTrainedModel)
    longest = min(LONGEST, usable_positions(model) or LONGEST)
    sentences = [ids for ids in _encoded(tokenizer, longest) if len(ids) > 1]
    if len(sentences) < FEWEST:
        return None
    with evaluating(model) as device:
        of = _losses if head.kind == "causal" else _representations
        return torch.cat([of(model, ids.to(device)).cpu() for ids in _together(sentences)])


def _encoded(tokenizer: PreTrainedTokenizerBase, longest: int) -> list[list[int]]:
    """Token ids of each sentence; of none where the tokenizer knows no word for some and has no other."""
    try:
        sentences = text().decode().splitlines()
        ids: list[list[int]] = tokenizer(sentences, truncation=True, max_length=longest)["input_ids"]
    except Exception as error:  # the tokenizers' own, which has no name
        if "UNK" not in str(error):
            raise
        return []
    return ids


def _together(sentences: list[list[int]]) -> Iterator[Tensor]:
    """Token ids (sentences, tokens), of sentences of one length: nothing is padded, and so none is seen
    otherwise than alone."""
    for _, alike in groupby(sorted(sentences, key=len), len):
        yield from torch.tensor([*alike]).split(TOGETHER)


def _losses(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Of all tokens but the first of each sentence."""
    found = logits(model, {"input_ids": ids}, use_cache=False)[:, :-1]
    return F.cross_entropy(found.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")


def _representations(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Seen on their way to the head: the whole model is called, which processes may hold in parts."""
    seen: list[Tensor] = []
    handle = model.base_model.register_forward_hook(lambda _, _inputs, output: seen.append(output[0]))
    try:
        model(input_ids=ids)
    finally:
        handle.remove()
    return seen[0].float().mean(1)


def forgotten(before: Tensor | None, after: Tensor | None, head: Head, step: int) -> Forgetting | None:
    """By two readings; None where there are none, and where all sentences were one to an encoder from the
    start. Raises RunFailed where they are not finite."""
    if before is None or after is None:
        return None
    if not (after - before).isfinite().all():
        raise RunFailed("what the model makes of the general text is not finite", step)
    items, sha256 = len(before), hashlib.sha256(text()).hexdigest()
    if head.kind == "causal":
        rise = float(after.double().mean() - before.double().mean())
        return Forgetting(kind="loss", value=rise, items=items, text=sha256)
    moved = drift(before, after)
    return None if moved is None else Forgetting(kind="drift", value=moved, items=items, text=sha256)


def drift(before: Tensor, after: Tensor) -> float | None:
    """1 - linear CKA of two sets of representations of the same items, each (items, width): 0 where they
    differ by a shift, a rotation or a scale at most, 1 where what is near in one says nothing of the other.

    Centred kernel alignment: Kornblith et al. 2019, arXiv 1905.00414. Of fewer items than their width it is
    biased towards 1 whatever they are; its unbiased form (Song et al. 2012; Nguyen et al. 2021, arXiv
    2010.15327) is not. None where the items do not differ before.
    """
    one, other = _centred(before), _centred(after)
    if not one.any():
        return None
    if not other.any():
        return 1.0
    return max(0.0, 1 - float((one * other).sum() / (one.norm() * other.norm())))


def _centred(states: Tensor) -> Tensor:
    """The items' inner products without their diagonal, U-centred (Székely & Rizzo 2014, 10.1214/14-AOS1255):
    the mean product of two such matrices is the unbiased estimate of their covariance."""
    count = len(states)
    if (states == states[0]).all():
        return states.new_zeros(count, count)
    states = states.double() - states.double().mean(0)
    products = states @ states.T
    products.fill_diagonal_(0.0)
    means = products.sum(1) / (count - 2)
    centred = products - means[:, None] - means + products.sum() / ((count - 1) * (count - 2))
    return centred.fill_diagonal_(0.0)
