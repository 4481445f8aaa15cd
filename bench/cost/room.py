"""Whether a machine can hold a run at all, told before its model is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rankbench import tasks
from rankbench.bench.cost.inputs import given, scored_together
from rankbench.bench.cost.memory import peak
from rankbench.bench.cost.sizes import shape
from rankbench.bench.cpu import memory
from rankbench.bench.run.job import make_task
from rankbench.bench.suite import RunSpec

GIB = 1024**3

CLEARLY = 1.2
"""Times what there is: a count has been 13 % above what a run asked for; what fits is not to be refused."""


def refuse_too_large(spec: RunSpec, prepared: tasks.Prepared) -> None:
    """Raise MemoryError where a run on these data clearly holds more at its peak than there is in all,
    whatever else is running: of the GPU's memory where there is one, else of main memory with swap. An
    allocator adds to what is counted, and others have some of it: a run that is let through may run out
    all the same. What is read to score does not count: it may be shorter than what is trained on, or less
    than would be read at once.
    """
    task = make_task(spec)
    if task.head.kind == "own":
        return
    here, clearly = available(), CLEARLY * available()
    if at_most(shape(spec.model, task.head), scored_together(task), spec, max(prepared.lengths)) < clearly:
        return
    need = peak(spec, given(spec, prepared), scores=False)
    if need.bytes > clearly:
        where = "the GPU" if torch.cuda.is_available() else "this machine"
        raise MemoryError(
            f"{spec.model.name} with {spec.label} holds {need.bytes / GIB:,.1f} GiB at its peak "
            f"({need.phase}), {where} has {here / GIB:,.1f} in all{_other_ways(spec)}"
        )


def available() -> int:
    """Bytes of what a run computes in."""
    return int(torch.cuda.mem_get_info()[1]) if torch.cuda.is_available() else memory.total()


def _other_ways(spec: RunSpec) -> str:
    """Beside those that every run out of memory is told of."""
    narrower = {"float32": "bfloat16 or nf4", "bfloat16": "nf4"}.get(spec.model.weights)
    ways = [f"say `weights: {narrower}`"] if narrower else []
    ways += [] if spec.training.shard else ["share it out (processes, shard)"]
    return f"; {', or '.join(ways)}" if ways else ""


def at_most(model: nn.Module, together: int, spec: RunSpec, longest: int) -> int:
    """A generous bound, in bytes, for texts of up to `longest` tokens, from the model's shapes alone: most
    runs are far below what there is, and need not be counted."""
    config: Any = model.config
    text: Any = config.get_text_config()
    rows = max(spec.training.batch_size, together)
    attention = 16 * getattr(text, "num_attention_heads", 0) * longest  # a state-space model has none
    a_token = text.num_hidden_layers * (100 * text.hidden_size + attention) + 8 * text.vocab_size
    return 4 * (8 * sum(p.numel() for p in model.parameters()) + rows * longest * a_token)
