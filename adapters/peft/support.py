"""Which of PEFT's methods run under the shared loop, and which of their settings are carried out.

The shared loop calls the bare model: PEFT's wrapper, its callbacks and its extra losses are not
there. So what a method needs beyond its layers is either done by the bridge, or the method or
setting is refused before training. The tests run every method and every setting of these tables;
what a newer PEFT adds is in none of them, and refused until it has been tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PROMPTS = "PROMPT_TUNING MULTITASK_PROMPT_TUNING P_TUNING PREFIX_TUNING CPT CARTRIDGE ADAPTION_PROMPT"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        _PROMPTS.split(),
        "it adds tokens or states and changes no linear layer, so there is nothing to compare or merge",
    ),
    "LILY": "its layers cannot be merged",
    "LN_TUNING": "on linear layers it is full fine-tuning of them; use the adapter full",
    "POLY": "its layers need a task id with every batch",
    "SHADOW": "it runs a second model beside the first, with a loss of its own, and cannot be merged",
    "TRAINABLE_TOKENS": "it trains rows of an embedding, not linear layers",
    "XLORA": "it mixes adapters that were trained before",
}
"""Method -> why it does not run here."""

RUNS: Mapping[str, frozenset[str]] = {
    method: frozenset(settings.split())
    for method, settings in {
        "LORA": "r lora_alpha lora_dropout bias use_rslora init_lora_weights rank_pattern alpha_pattern "
        "use_dora lora_bias",
        "ADALORA": "init_r target_r lora_alpha lora_dropout bias tinit tfinal deltaT beta1 beta2 "
        "orth_reg_weight total_step",
        "ADAMSS": "r num_subspaces subspace_rank use_dynamic_rank svd_threshold random_seed",
        "BOFT": "boft_block_size boft_block_num boft_dropout bias init_weights",
        "IA3": "feedforward_modules init_ia3_weights",
        "BEFT": "init_weights",
        "LOHA": "r alpha rank_dropout module_dropout init_weights rank_pattern alpha_pattern",
        "LOKR": "r alpha rank_dropout module_dropout decompose_both decompose_factor rank_dropout_scale "
        "init_weights rank_pattern alpha_pattern",
        "OFT": "r oft_block_size bias init_weights coft eps block_share use_cayley_neumann "
        "num_cayley_neumann_terms",
        "VERA": "r projection_prng_key vera_dropout d_initial bias init_weights",
        "FROD": "projection_prng_key frod_dropout bias init_weights sparse_rate regularization_alpha",
        "PVERA": "r projection_prng_key pvera_dropout d_initial bias init_weights",
        "FOURIERFT": "n_frequency scaling random_loc_seed bias init_weights",
        "GLORA": "r bias config_A_B config_C config_D_E init_weights",
        "HRA": "r init_weights bias",
        "VBLORA": "r num_vectors vector_length topk vblora_dropout bias init_vector_bank_bound "
        "init_logits_std",
        "UNILORA": "r proj_seed theta_d_length unilora_dropout bias init_theta_d_bound init_weights",
        "MISS": "r miss_dropout mini_r init_weights bias",
        "RANDLORA": "r projection_prng_key sparse very_sparse randlora_dropout randlora_alpha bias "
        "init_weights",
        "ROAD": "variant group_size init_weights",
        "HIRA": "r hira_dropout init_weights",
        "SHIRA": "r random_seed init_weights",
        "C3A": "block_size bias init_weights",
        "WAVEFT": "n_frequency scaling wavelet_family use_idwt random_loc_seed bias n_frequency_pattern "
        "proportional_parameters init_weights",
        "OSF": "effective_rank",
        "DELORA": "r delora_lambda module_dropout bias init_weights rank_pattern lambda_pattern",
        "GRALORA": "r hybrid_r alpha gralora_dropout gralora_k bias init_weights",
        "TINYLORA": "r u weight_tying projection_seed init_v_bound tinylora_dropout bias init_weights",
        "PSOFT": "r psoft_dropout ab_svd_init psoft_svd psoft_svd_lowrank_niter random_seed "
        "psoft_orth psoft_mag_b psoft_mag_a use_cayley_neumann num_cayley_neumann_terms "
        "cayley_neumann_eps init_weights",
        "PEANUT": "r depth act_fn scaling init_weights",
        "SUPERTUNING": "sparsity select_top r lora_alpha lora_dropout init_weights",
        "DEFT": "r decomposition_method init_scale alpha para deft_dropout init_weights bias",
    }.items()
}
"""Method -> the settings that are carried out. Others have no effect under this loop, or none at all in
PEFT (HiRA's `rank_pattern`, OFT's `module_dropout`), or end in values that are not finite."""

IN_FOUR_BITS = frozenset({"LORA", "ADALORA", "HIRA", "IA3", "PVERA", "ROAD"})
"""Methods that train over frozen weights in four bits. For most PEFT has no layers of the kind: it takes such
weights for plain ones, and reads what is packed. RandLoRA's mixes precisions in the backward pass."""

BLIND_STARTS = frozenset({"none", "true", "false", "gaussian", "orthogonal"})
"""`init_lora_weights`, in lower case, that do not look at the frozen weights."""

READ_WEIGHTS = frozenset(
    {"ADAMSS", "C3A", "DEFT", "DELORA", "FROD", "OSF", "PSOFT", "SUPERTUNING", "TINYLORA"}
)
"""Methods whose start is computed from the frozen weights, or drawn where these lie. All others' is drawn on
the CPU and brought to them."""


def reads_weights(config: Any) -> bool:
    """Whether the start that a configuration of PEFT's asks for looks at the frozen weights."""
    method = config.peft_type.value
    if method != "LORA":
        return method in READ_WEIGHTS
    return config.use_dora or str(config.init_lora_weights).lower() not in BLIND_STARTS


NEEDS: Mapping[tuple[str, str], tuple[str, Any]] = {
    ("ADAMSS", "svd_threshold"): ("use_dynamic_rank", True),
    ("LOKR", "rank_dropout_scale"): ("rank_dropout", None),
    ("MISS", "mini_r"): ("init_weights", "mini"),
    ("OFT", "eps"): ("coft", True),
    ("PSOFT", "psoft_svd_lowrank_niter"): ("psoft_svd", "lowrank"),
    ("PSOFT", "random_seed"): ("psoft_svd", "lowrank"),
    ("PSOFT", "num_cayley_neumann_terms"): ("use_cayley_neumann", True),
    ("PSOFT", "cayley_neumann_eps"): ("use_cayley_neumann", True),
    ("SUPERTUNING", "lora_alpha"): ("r", None),
    ("SUPERTUNING", "lora_dropout"): ("r", None),
    ("TINYLORA", "init_v_bound"): ("init_weights", "uniform"),
    ("DEFT", "init_scale"): ("init_weights", False),
}
"""Method and setting -> another setting, and its value (None: any but the default), without which PEFT
ignores the first."""

REASONS: Mapping[str, str] = {
    setting: reason
    for reason, settings in {
        "targets decide it": "target_modules exclude_modules layers_to_transform layers_pattern",
        "only linear layers are adapted": "target_parameters trainable_token_indices",
        "the task's head decides it": "modules_to_save",
        "the task decides it": "task_type",
        "the layers decide it": "fan_in_fan_out",
        "the adapter is trained": "inference_mode",
        "the model decides it": "base_model_name_or_path revision",
        "its two extra losses are not added here": "kasa_config",
        "its extra loss is not added here": "monteclora_config",
        "PEFT's loader reads it": "auto_mapping peft_version",
    }.items()
    for setting in settings.split()
}
"""Setting -> who decides it, or why it is left alone."""

STARTS_REFUSED: Mapping[str, str] = {
    "corda": "reads training data before it is attached",
    **{
        start: f"reads training data, which the adapter {name} is given"
        for start, name in {"eva": "eva", "lora_ga": "lora-ga"}.items()
    },
    "loftq": "starts from a quantised model",
}
"""`init_lora_weights` that the bridge has no data or model for -> why."""
