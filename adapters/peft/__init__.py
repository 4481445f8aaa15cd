"""PEFT's methods (https://github.com/huggingface/peft) under the shared loop."""
