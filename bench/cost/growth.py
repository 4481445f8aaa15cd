"""How a step's cost grows with rank, width and number of layers: a stack of square linear layers.

The floor is the frozen stack, forward and backward to its input. What an adapter adds to it, and
its work before the optimizer's step, are compared with the cost model by the report.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rankbench.bench.cost.rounds import Ask, Measured, Step, in_fresh_process, interleave
from rankbench.bench.cost.step import RATE
from rankbench.bench.records import GrowthPoint
from rankbench.bench.records.costs import FLOOR
from rankbench.bench.run.step import make_accelerator, make_optimizer, now, timed
from rankbench.bench.seeds import generator
from rankbench.bench.suite import AdapterSpec, Training, make_adapter
from rankbench.bench.suite.costs import WARM_UP, Growth, Shape

MODEL = "stack of linear layers"


def adapter_names(settings: Growth) -> list[str]:
    """Those that are measured."""
    return settings.adapters


def check(settings: Growth) -> None:
    """Nothing is left to find: shapes and adapters were checked when the suite was read."""


def measure(settings: Growth, process: int, ask: Ask) -> Measured:
    """Every point, once."""
    return in_fresh_process(time_points, settings, process, ask)


def time_points(settings: Growth, process: int, ask: Ask) -> Measured:
    """One point after the other, its contenders interleaved, in this process."""
    return Measured(
        growth=[_time_point(settings, axis, shape, process, ask) for axis, shape in settings.shapes()]
    )


def _time_point(settings: Growth, axis: str, shape: Shape, process: int, ask: Ask) -> GrowthPoint:
    point = f"rank {shape.rank}, width {shape.width}, {shape.layers} layers"
    device = make_accelerator().device
    x = torch.randn(settings.tokens, shape.width, generator=generator(0, "input")).to(device)
    frozen = _stack(shape).requires_grad_(False).to(device)
    stacks = {name: _Adapted(name, shape, x, WARM_UP + settings.rounds) for name in settings.adapters}
    steps: dict[str, Step] = {FLOOR: lambda _: timed(device, lambda: _loss(frozen, x).backward())}
    steps |= {name: stack.step for name, stack in stacks.items()}
    return GrowthPoint.model_validate(
        {
            "axis": axis,
            **shape.model_dump(),
            "seconds": interleave(steps, settings.rounds, lambda doing: ask(f"{point}, {doing}"), process),
            "rescale": {n: s.before_step[WARM_UP:] for n, s in stacks.items() if s.adapter.moves_base},
        }
    )


class _Adapted:
    """A stack with an adapter on every layer, and the seconds of its work before each step."""

    def __init__(self, name: str, shape: Shape, x: Tensor, steps: int) -> None:
        self.x = x
        self.model = _stack(shape)
        spec = AdapterSpec.model_validate({"name": name, "rank": shape.rank})
        self.adapter = make_adapter(spec, learning_rate=RATE, steps=steps)
        self.adapter.attach(self.model, r"\d+", heads=(), generator=generator(0, "adapter"))
        self.model.to(x.device)
        training = Training(steps=steps, batch_size=len(x), learning_rate=RATE)
        self.optimizer = make_optimizer(self.adapter, training)
        self.before_step: list[float] = []

    def step(self, turn: int) -> float:
        """One step; returns its seconds."""
        started = now(self.x.device)
        _loss(self.model, self.x).backward()
        self.before_step.append(timed(self.x.device, lambda: self.adapter.before_step(self.optimizer, turn)))
        self.optimizer.step()
        self.adapter.after_step(self.optimizer, turn)
        self.optimizer.zero_grad()
        return now(self.x.device) - started


def _stack(shape: Shape) -> nn.Sequential:
    """Random weights that keep the size of what goes through them."""
    draw = generator(0, "stack")
    layers = [nn.Linear(shape.width, shape.width, bias=False) for _ in range(shape.layers)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1 / math.sqrt(shape.width), generator=draw)
    return nn.Sequential(*layers)


def _loss(model: nn.Module, x: Tensor) -> Tensor:
    loss: Tensor = model(x.detach().requires_grad_(True)).square().mean()
    return loss
