"""A model's tokenizer, and what the two must agree on."""

from __future__ import annotations

from functools import cache

from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rankbench.bench.models.loading import plain_errors
from rankbench.bench.models.names import identity, is_random, own_config
from rankbench.bench.models.weights import local_folder, location
from rankbench.bench.suite import ConfigError, Model


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer, shared by its tasks; None for tiny random models: their tasks bring ids.

    It pads with its own padding token; where it has none, with its end token, whose positions are
    masked. Raises ConfigError where it has neither, or knows no words, and as `identity` does.
    """
    return None if is_random(model) else _tokenizer(model, identity(model))


@cache
def _tokenizer(model: Model, _contents: str) -> PreTrainedTokenizerBase:
    with plain_errors(model):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location(model), revision=model.revision, trust_remote_code=False
        )
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ConfigError(f"model {model.name}: there are no tokenizer files with a vocabulary beside it")
    config = own_config(model, location(model)).get_text_config()
    # On the left, learned positions would begin in the padding; but XLNet's head takes the last column.
    tokenizer.padding_side = "left" if getattr(config, "summary_type", None) == "last" else "right"
    if tokenizer.pad_token is None:
        ends = config.eos_token_id  # some configurations list several, or none
        end = next(iter(ends), None) if isinstance(ends, list) else ends
        if tokenizer.eos_token is None and end is not None:
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        if tokenizer.eos_token is None:
            raise ConfigError(
                f"model {model.name}: its tokenizer has neither a padding nor an end token; "
                "set `pad_token` in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def agree_with_tokenizer(built: PreTrainedModel, model: Model) -> None:
    """Let a decoder's head look for the last token where the tokenizer's padding begins.

    Raises ConfigError for a tokenizer with ids that the model has no embedding for.
    """
    folder = local_folder(model)
    config = built.config.get_text_config()
    kinds = ("tokenizer*", "vocab*", "merges.txt", "*.model")
    if folder is None or not any(True for kind in kinds for _ in folder.glob(kind)):
        if config.pad_token_id is None:
            config.pad_token_id = 0  # as tasks that bring ids pad
        return
    tokenizer = load_tokenizer(model)
    assert tokenizer is not None
    embedding, last = _embedding(built), max(tokenizer.get_vocab().values())
    if isinstance(embedding, nn.Embedding) and last >= embedding.num_embeddings:
        raise ConfigError(
            f"model {model.name}: its tokenizer's ids go up to {last} "
            f"({tokenizer.convert_ids_to_tokens(last)!r}), but its embedding has {embedding.num_embeddings} "
            "rows; resize and save the model with its added tokens, or take them out of the tokenizer"
        )
    built.config.pad_token_id = config.pad_token_id = tokenizer.pad_token_id


def _embedding(built: PreTrainedModel) -> nn.Module | None:
    """Its table of tokens; None where it has none, as CANINE, which hashes characters."""
    try:
        return built.get_input_embeddings()
    except NotImplementedError:
        return None
