"""Which layers a user's `targets` name, entry by entry, and which modules are a task's head."""

from rankbench.adapters.targets.selection import ends_with, named_heads, select, task_head

__all__ = ["ends_with", "named_heads", "select", "task_head"]
