"""Encoders that classify texts or rate them."""
