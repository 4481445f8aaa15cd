"""PEFT's methods at sizes that fit the tiny models, and another value for each of their settings."""

from __future__ import annotations

from typing import Any

from rankbench.adapters.peft.support import RUNS

_SIZES: dict[str, dict[str, Any]] = {
    "LORA": {"r": 4},
    "ADALORA": {"init_r": 4, "target_r": 2},
    "ADAMSS": {"r": 16, "num_subspaces": 2},
    "LOHA": {"r": 4},
    "LOKR": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "VERA": {"r": 4},
    "PVERA": {"r": 4},
    "FOURIERFT": {"n_frequency": 20},
    "VBLORA": {"vector_length": 16, "num_vectors": 16},
    "MISS": {"r": 4},
    "RANDLORA": {"r": 4, "randlora_alpha": 64},
    "ROAD": {"group_size": 16},
    "HIRA": {"r": 4},
    "SHIRA": {"r": 4},
    "C3A": {"block_size": 16},
    "WAVEFT": {"n_frequency": 64},
    "DELORA": {"r": 4},
    "GRALORA": {"r": 4},
    "PSOFT": {"r": 4},
    "PEANUT": {"r": 4},
    "DEFT": {"r": 4},
}

METHODS: dict[str, dict[str, Any]] = {
    method: {"peft_type": method, **_SIZES.get(method, {})} for method in sorted(RUNS)
}
"""Method -> a configuration that fits."""

NAMED = {
    method.lower(): method
    for method in ("RANDLORA", "VERA", "OFT", "HRA", "MISS", "DELORA", "GRALORA", "SHIRA")
}
"""Adapter -> the method of PEFT's that it is a name of."""

STARTS = ("pissa", "olora", "lora-ga", "eva")
"""Adapters that are PEFT's LoRA from a start of their own."""

LINEAR_ONLY = set(METHODS) - {
    "LORA", "ADALORA", "DEFT", "FOURIERFT", "FROD", "GRALORA", "HIRA", "IA3", "PVERA", "RANDLORA",
    "TINYLORA", "UNILORA", "VBLORA", "VERA", "WAVEFT",
}  # fmt: skip
"""Those that PEFT does not have for GPT-2's `Conv1D`."""

NEEDS_BIAS = {"BEFT"}

STARTS_ELSEWHERE = {"C3A", "FOURIERFT", "UNILORA", "VBLORA"}
"""Those whose increment is not zero at PEFT's own start."""

SEEDLESS = {
    "ADAMSS", "BEFT", "BOFT", "FOURIERFT", "FROD", "IA3", "MISS", "OFT", "OSF", "PSOFT", "PVERA", "RANDLORA",
    "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "VERA", "WAVEFT",
}  # fmt: skip
"""Those whose start is not random, or drawn from a seed of PEFT's own."""

_EVERYWHERE: dict[str, Any] = {
    "alpha": 3.0,
    "alpha_pattern": {"layer.0.attention.self.query": 3},
    "bias": "all",
    "d_initial": 0.3,
    "init_weights": False,
    "lambda_pattern": {"layer.0.attention.self.query": 3},
    "lora_alpha": 3.0,
    "lora_dropout": 0.5,
    "module_dropout": 0.5,
    "n_frequency": 10,
    "n_frequency_pattern": {"layer.0.attention.self.query": 10},
    "projection_prng_key": 3,
    "r": 2,
    "random_loc_seed": 5,
    "random_seed": 5,
    "rank_dropout": 0.5,
    "rank_pattern": {"layer.0.attention.self.query": 2},
    "scaling": 3.0,
}

_OTHERS: dict[str, dict[str, Any]] = {
    "LORA": {"init_lora_weights": "pissa", "use_dora": True, "use_rslora": True, "lora_bias": True},
    "ADALORA": {"init_r": 5, "target_r": 1, "tinit": 1, "tfinal": 2, "deltaT": 2, "beta1": 0.3, "beta2": 0.3,
                "orth_reg_weight": 2.0, "total_step": 5},
    "ADAMSS": {"r": 8, "num_subspaces": 3, "subspace_rank": 2, "use_dynamic_rank": True,
               "svd_threshold": 0.9},
    "BOFT": {"boft_block_size": 8, "boft_block_num": 4, "boft_dropout": 0.5},
    "IA3": {"feedforward_modules": ["value"], "init_ia3_weights": False},
    "LOKR": {"decompose_both": True, "decompose_factor": 4, "rank_dropout_scale": True},
    "OFT": {"r": 4, "oft_block_size": 8, "coft": True, "eps": 1e-3, "block_share": True,
            "use_cayley_neumann": False, "num_cayley_neumann_terms": 2},
    "VERA": {"vera_dropout": 0.5},
    "FROD": {"frod_dropout": 0.5, "sparse_rate": 0.2, "regularization_alpha": 0.1},
    "PVERA": {"pvera_dropout": 0.5},
    "FOURIERFT": {"init_weights": True},
    "GLORA": {"config_A_B": "vector", "config_C": "vector", "config_D_E": "vector"},
    "VBLORA": {"num_vectors": 8, "vector_length": 8, "topk": 3, "vblora_dropout": 0.5,
               "init_vector_bank_bound": 0.1, "init_logits_std": 0.5},
    "UNILORA": {"proj_seed": 1, "theta_d_length": 64, "unilora_dropout": 0.5, "init_theta_d_bound": 0.1},
    "MISS": {"miss_dropout": 0.5, "mini_r": 2},
    "RANDLORA": {"sparse": True, "very_sparse": True, "randlora_dropout": 0.5, "randlora_alpha": 9},
    "ROAD": {"variant": "road_2", "group_size": 8},
    "HIRA": {"hira_dropout": 0.5},
    "C3A": {"block_size": 8, "init_weights": "gaussian"},
    "WAVEFT": {"wavelet_family": "db2", "use_idwt": False, "proportional_parameters": True},
    "OSF": {"effective_rank": 4},
    "DELORA": {"delora_lambda": 3},
    "GRALORA": {"hybrid_r": 2, "alpha": 3, "gralora_dropout": 0.5, "gralora_k": 4},
    "TINYLORA": {"r": 1, "u": 8, "weight_tying": 1.0, "projection_seed": 5, "init_v_bound": 0.5,
                 "tinylora_dropout": 0.5, "init_weights": "uniform"},
    "PSOFT": {"psoft_dropout": 0.5, "ab_svd_init": "pissa_init", "psoft_svd": "lowrank",
              "psoft_svd_lowrank_niter": 1, "psoft_orth": False, "psoft_mag_b": False, "psoft_mag_a": False,
              "use_cayley_neumann": True, "num_cayley_neumann_terms": 2, "cayley_neumann_eps": 0.01},
    "PEANUT": {"depth": 1, "act_fn": "gelu"},
    "SUPERTUNING": {"sparsity": 0.5, "select_top": False, "r": 4},
    "DEFT": {"decomposition_method": "qr", "init_scale": 3.0, "para": True, "deft_dropout": 0.5},
}  # fmt: skip

_BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("ADAMSS", "svd_threshold"): {"subspace_rank": 4},
    ("LOKR", "decompose_both"): {"r": 2},
}
"""Method and setting -> what is set on both sides, for it to have an effect."""

_INSTEAD: dict[tuple[str, str], dict[str, Any]] = {
    ("BOFT", "boft_block_num"): {"boft_block_size": 0},
    ("OFT", "r"): {"oft_block_size": 0},
}
"""Method and setting -> what is set with it, as PEFT takes one of the two."""


def another(method: str, setting: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration, and what changes one of its settings: to another value than in `METHODS`
    and than PEFT's default."""
    value = _OTHERS.get(method, {}).get(setting, _EVERYWHERE.get(setting))
    plain = METHODS[method] | _BESIDE.get((method, setting), {})
    return plain, _INSTEAD.get((method, setting), {}) | {setting: value}
