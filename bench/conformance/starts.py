"""What every adapter must do where it is attached: a function a rule, which raises Broken."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rankbench.adapters import AdapterError
from rankbench.bench.conformance.models import TARGETS, outputs, seeded
from rankbench.bench.conformance.rules import Broken, demand, demand_close
from rankbench.bench.conformance.subject import Subject, everything
from rankbench.bench.run.step import make_optimizer
from rankbench.bench.suite import Training


def attaches_in_place(subject: Subject) -> None:
    """The model that is given is the adapted one, and something of it is trained."""
    adapter, model = subject.attached()
    demand(adapter.model is model, "`attach` adapted another model than it was given")
    demand(adapter.layers, "`install` left `layers` empty: it names what is adapted")
    demand(adapter.parameter_counts()["adapter"] > 0, "nothing of it is trained: it has no parameters")


def starts_as_the_identity(subject: Subject) -> None:
    """Attaching changes no output."""
    before = outputs(subject.model().to(subject.device))
    _, model = subject.attached()
    told = "attaching changes the model's outputs"
    demand_close(outputs(model), before, rtol=1e-6, atol=1e-6, otherwise=told)


def refusal(subject: Subject, targets: Sequence[str] | str | None = None) -> str:
    """Why it does not take its architecture, or these targets; empty where it does. Raises Broken where a
    model that it refuses is not as it was."""
    model = subject.model()
    before = everything(model)
    try:
        subject.create().attach(model, targets or TARGETS[subject.architecture], generator=seeded())
    except AdapterError as error:
        why = str(error)
    else:
        return ""
    demand("\n" not in why, f"its AdapterError has more than one line: {why!r}")
    after = everything(model)
    same = after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    demand(same, f"it refuses a model ({why}) and leaves it changed")
    trainable = all(parameter.requires_grad for parameter in model.parameters())
    demand(trainable, f"it refuses a model ({why}) and leaves it frozen")
    return why


def leaves_a_model_that_it_refuses_as_it_was(subject: Subject) -> None:
    """Of a target that is not there a model keeps no trace."""
    why = refusal(subject, ["no_such_layer"])
    demand(why, "it attaches to targets that name no layer; raise AdapterError")


def is_deterministic_in_its_seed(subject: Subject, *, draws: bool = False) -> None:
    """The same generator, the same start; where it `draws` at all, another one, another start."""
    tensors = [subject.attached(seed)[0].state_dict()["tensors"] for seed in (3, 3, 4)]
    same = all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    demand(same, "two starts of one seed differ: draw from `generator`")
    if draws:
        other = any(not torch.equal(tensors[0][key], tensors[2][key]) for key in tensors[0])
        demand(other, "two seeds start alike: it does not draw from `generator`")


def leaves_the_global_generator_alone(subject: Subject) -> None:
    """What it draws comes from the generator that it is given."""
    model = subject.model()
    before = torch.get_rng_state()
    subject.attach(model)
    drawn = not torch.equal(torch.get_rng_state(), before)
    demand(not drawn, "attaching draws from PyTorch's global generator: draw from `generator`")


def keeps_the_head_trainable(subject: Subject) -> None:
    """A task's head is trained whole, by one of the parameter groups, and counted apart."""
    adapter, model = subject.attached(head="classes")
    head = [p for name in adapter.heads for p in model.get_submodule(name).parameters()]
    demand(all(p.requires_grad for p in head), "it freezes the task's head")
    counts = adapter.parameter_counts()
    counted = counts["trainable"] - counts["adapter"] == sum(p.numel() for p in head)
    demand(counted, "it counts the task's head among its own parameters")
    make_optimizer(adapter, Training(steps=1, batch_size=1, learning_rate=1e-3))  # names what no group holds


def says_what_it_counts(subject: Subject) -> None:
    """Its number of trainable parameters is the model's; it is attached once."""
    adapter, model = subject.attached()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    told = adapter.parameter_counts()["trainable"]
    demand(told == trainable, f"it counts {told} trainable parameters, the model has {trainable}")
    try:
        adapter.attach(model, TARGETS[subject.architecture])
    except AdapterError as error:
        demand("attached already" in str(error), f"it refuses to be attached twice oddly: {error}")
        return
    raise Broken("it can be attached twice")
