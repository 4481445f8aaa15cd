"""PEFT's methods (https://github.com/huggingface/peft) behind the contract of `adapters.base`."""
