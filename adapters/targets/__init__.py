"""Which layers a user's `targets` name, entry by entry, and which modules are a task's head."""

from rankbench.adapters.targets.heads import ends_with, named_heads, task_head
from rankbench.adapters.targets.selection import select

__all__ = ["ends_with", "named_heads", "select", "task_head"]
