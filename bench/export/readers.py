"""What other programs make of an adapter in PEFT's layout, by what they read of it.

vLLM (`vllm/lora/peft_helper.py`, autumn 2026, and docs.vllm.ai, `vllm.config.lora`): LoRA alone, no DoRA, no
trained biases, no starts that change the pretrained weights; of modules that are saved whole `classifier` and
`score` at most, and none at all in releases before; a rank up to `--max-lora-rank`, which is one of
`VLLM_RANKS`. Releases before also pass over `rank_pattern`.
llama.cpp (`convert_lora_to_gguf.py`, `llama_adapter_lora_weight::get_scale`): lora_A and lora_B alone, scaled
by lora_alpha over the tensor's own rank; other settings are passed over, `use_rslora` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
VLLM_RANK = 16
"""Where nothing is said."""

HARMLESS_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Of PEFT's `init_lora_weights`: those that leave the pretrained weights as they are."""

MERGED = "--as merged gives a whole model"


def remarks(config: dict[str, Any] | None) -> list[str]:
    """A line for each program. `config`: PEFT's adapter_config.json; None of a whole model."""
    if config is None:
        return ["vLLM, llama.cpp: a whole model, as any of its architecture"]
    return [
        _told("vLLM", list(_refused_by_vllm(config)), _for_vllm(config)),
        _told("llama.cpp", list(_refused_by_llama_cpp(config)), iter(())),
    ]


def _told(program: str, refusals: list[str], notes: Iterator[str]) -> str:
    """`notes` are of what is not refused."""
    if refusals:
        return f"{program}: would refuse it ({'; '.join(refusals)}); {MERGED}"
    return f"{program}: takes it{''.join(f'; {note}' for note in notes)}"


def _refused_by_vllm(config: dict[str, Any]) -> Iterator[str]:
    if config["peft_type"] != "LORA":
        yield f"it reads LoRA alone, not {config['peft_type']}"
        return
    heads = config.get("modules_to_save") or []
    if others := [name for name in heads if name not in ("classifier", "score")]:
        yield f"modules_to_save: {', '.join(others)}"
    yield from _beyond_lora(config)
    if config.get("bias", "none") != "none":
        yield "trained biases"
    if (rank := _rank(config)) > VLLM_RANKS[-1]:
        yield f"rank {rank} is above {VLLM_RANKS[-1]}"


def _for_vllm(config: dict[str, Any]) -> Iterator[str]:
    if config.get("modules_to_save"):
        yield "releases without heads for classification (modules_to_save) refuse it"
    if config.get("rank_pattern"):
        yield "releases that do not read rank_pattern would scale layers wrongly: --as low-rank has one rank"
    if (rank := _rank(config)) > VLLM_RANK:
        yield f"start it with --max-lora-rank {next(most for most in VLLM_RANKS if most >= rank)}"


def _refused_by_llama_cpp(config: dict[str, Any]) -> Iterator[str]:
    if config["peft_type"] != "LORA":
        yield f"it reads LoRA alone, not {config['peft_type']}"
        return
    if heads := config.get("modules_to_save"):
        yield f"modules_to_save: {', '.join(heads)}"
    yield from _beyond_lora(config)
    if config.get("bias", "none") != "none":
        yield "trained biases"
    for key in ("use_rslora", "alpha_pattern"):
        if config.get(key):
            yield f"it passes over {key}, and would scale wrongly"


def _beyond_lora(config: dict[str, Any]) -> Iterator[str]:
    for key in ("use_dora", "lora_bias"):
        if config.get(key):
            yield key
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in HARMLESS_STARTS:
        yield f"init_lora_weights {start}, which changes the pretrained weights"


def _rank(config: dict[str, Any]) -> int:
    return max([config["r"], *(config.get("rank_pattern") or {}).values()])
