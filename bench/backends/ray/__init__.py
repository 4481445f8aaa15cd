"""Runs on a Ray cluster: `cluster` is the backend, `tasks` what it hands out, `task` the far end of one, and
`board` what the two tell each other meanwhile.

Importing this package loads neither Ray nor PyTorch: the board's process needs no PyTorch.
"""
