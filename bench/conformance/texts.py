"""A tokenizer of bytes and tiny random models that read it: whatever a task makes of texts can be tried."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.models.bert import BertConfig, BertForSequenceClassification
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

VOCABULARY = 260
"""Bytes and special tokens."""


def tokenizer(max_length: int = 512) -> PreTrainedTokenizerFast:
    """One token a byte, for a decoder: nothing is trained."""
    special = ["<pad>", "<cls>", "<sep>", "<eos>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(special + letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", model_max_length=max_length
    )


def encoder_tokenizer(max_length: int = 512) -> PreTrainedTokenizerFast:
    """The same, with <cls> … <sep> around an encoder's texts."""
    made = tokenizer(max_length)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<cls> $A <sep>",
        pair="<cls> $A <sep> $B:1 <sep>:1",
        special_tokens=[("<cls>", 1), ("<sep>", 2)],
    )
    return made


def bert(outputs: int, vocabulary: int = VOCABULARY, dropout: float = 0.0) -> BertForSequenceClassification:
    """An encoder of two layers."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=outputs,
        hidden_dropout_prob=dropout,
    )
    return BertForSequenceClassification(config)


def llama(vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    """A decoder of two layers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=1024,
    )
    return LlamaForCausalLM(config)
