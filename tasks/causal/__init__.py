"""Causal language models: prompts with answers, by lm-eval."""
