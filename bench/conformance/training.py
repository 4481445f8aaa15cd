"""What every adapter must do in training and after it: a function a rule, which raises Broken."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn

from rankbench.adapters import AdapterError
from rankbench.adapters.layers import AdapterLinear
from rankbench.bench.conformance.models import mean_loss, optimizer_for, outputs, train
from rankbench.bench.conformance.rules import Broken, demand, demand_close
from rankbench.bench.conformance.subject import STEPS, Subject, everything
from rankbench.bench.run.checkpoint import generators, set_generators


def trains_the_loss_down_and_merges(subject: Subject) -> None:
    """Every layer learns, what is frozen stays, and the merged model is a plain one with the same outputs."""
    adapter, model = subject.attached()
    before, frozen = everything(model), everything(model).keys() - adapter.state_dict()["tensors"].keys()
    starts = {layer: adapter.exact(layer) for layer in adapter.layers}
    first = mean_loss(model, batches=2)
    train(adapter, model, optimizer_for(model), range(STEPS), batches=2)
    last = mean_loss(model, batches=2)
    demand(last < first, f"the loss rises in {STEPS} steps, from {first:.4g} to {last:.4g}")
    after = everything(model)
    moved = sorted(name for name in frozen if not torch.equal(before[name], after[name]))
    demand(not moved, f"training moves what is not in its state: {', '.join(moved[:3])}")
    pruned = {layer for layer, rank in adapter.diagnostics().get("rank", {}).items() if rank == 0}
    demand(len(pruned) < len(starts), "it has pruned every layer")
    for layer in starts.keys() - pruned:
        start, learnt = starts[layer], adapter.exact(layer)
        same = all(torch.equal(start[key], learnt[key]) for key in start)
        demand(not same, f"{layer} has learnt nothing, by `folded`")

    weights = {layer: adapter.weight(layer) for layer in adapter.layers}
    unmerged = outputs(model)
    demand(adapter.merge(model) is model, "`merge` returns another model")
    told = "the merged model's outputs are not the adapted one's"
    demand_close(outputs(model), unmerged, rtol=1e-4, atol=1e-5, otherwise=told)
    odd = sorted(everything(model).keys() ^ everything(subject.model()).keys())
    demand(not odd, f"`merge` leaves no plain model: {', '.join(odd[:3])}")
    merged = dict(model.named_parameters())
    for layer, weight in weights.items():
        stored = _in_rows(subject, merged[f"{layer}.weight"])
        told = f"the merged {layer} is not what `weight` says"
        demand_close(weight, stored, rtol=1e-5, atol=1e-6, otherwise=told)


def _frozen(layer: nn.Module) -> Tensor:
    return layer.frozen() if isinstance(layer, AdapterLinear) else next(layer.parameters())


def _in_rows(subject: Subject, stored: Tensor) -> Tensor:
    """A weight as (out, in): GPT-2 holds it the other way."""
    return stored.t() if subject.architecture == "gpt2" else stored


def resumes_bit_by_bit(subject: Subject) -> None:
    """From a state that was saved to a file, an adapter drawn otherwise goes on as the first one does."""
    adapter, model = subject.attached()
    optimizer = optimizer_for(model)
    train(adapter, model, optimizer, range(STEPS // 2), batches=2)
    state, moments = _through_a_file(adapter.state_dict()), copy.deepcopy(optimizer.state_dict())
    drawn = generators()
    halfway = outputs(model)
    train(adapter, model, optimizer, range(STEPS // 2, STEPS), batches=2)

    other, fresh = subject.attached(seed=1)
    resumed = optimizer_for(fresh)
    other.load_state_dict(state)
    resumed.load_state_dict(moments)
    told = "an adapter with the saved state has other outputs: its state lacks what training or chance moves"
    demand(torch.equal(outputs(fresh), halfway), told)
    set_generators(drawn)
    train(other, fresh, resumed, range(STEPS // 2, STEPS), batches=2)
    told = (
        "a resumed training ends elsewhere: `extra_state` lacks something, or a step draws from another "
        "generator than PyTorch's global one"
    )
    demand(torch.equal(outputs(fresh), outputs(model)), told)
    same = other.diagnostics() == adapter.diagnostics()
    demand(same, "after a resume `diagnostics` tells something else")


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint is written and read. Raises Broken for what it cannot hold."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        read: dict[str, Any] = torch.load(file, weights_only=True)
    except Exception as error:  # pickle's
        raise Broken("`extra_state` holds more than plain values and tensors") from error
    return read


def trains_under_bfloat16_autocast(subject: Subject) -> None:
    """With its own parameters in float32."""
    adapter, model = subject.attached()
    first = mean_loss(model, batches=1, bfloat16=True)
    train(adapter, model, optimizer_for(model), range(STEPS), batches=1, bfloat16=True)
    last = mean_loss(model, batches=1, bfloat16=True)
    demand(last < first, f"the loss rises in {STEPS} steps, from {first:.4g} to {last:.4g}")
    odd = [name for name, p in model.named_parameters() if p.dtype != torch.float32]
    demand(not odd, f"its parameters are no longer in float32: {', '.join(odd[:3])}")


def merges_a_bfloat16_model_in_float32(subject: Subject) -> None:
    """Or refuses it, where steps fold into the frozen weights and bfloat16 would round that away."""
    model = subject.model(dtype=torch.bfloat16)
    try:
        adapter = subject.attach(model)
    except AdapterError:
        if subject.create().moves_base:
            return
        raise
    if adapter.moves_base:
        kept = all(_frozen(layer).dtype != torch.bfloat16 for layer in adapter.layers.values())
        told = "it takes a bfloat16 model, which rounds away what a step folds into frozen weights"
        demand(kept, f"{told}: refuse it, or let `frozen` of its layers give the weight in float32")
    model.to(subject.device)
    train(adapter, model, optimizer_for(model), range(STEPS), batches=2)
    unmerged = outputs(model).float()
    folded = {layer: adapter.weight(layer) for layer in adapter.layers}
    adapter.merge(model, dtype=torch.float32)
    for layer, weight in folded.items():
        stored = _in_rows(subject, model.get_parameter(f"{layer}.weight"))
        demand(torch.equal(stored, weight.float()), f"the merged {layer} is not what `weight` says")
    lacking = float((outputs(model) - unmerged).norm() / unmerged.norm())
    told = f"the merged model's outputs are not the adapted one's: {lacking:.2g} of them differs"
    # Each of its layers rounds: 0.0084 is the most that was seen.
    demand(lacking <= 2 * torch.finfo(torch.bfloat16).eps, told)
    odd = [name for name, p in model.named_parameters() if p.dtype != torch.float32]
    demand(not odd, f"the merged model is not in float32: {', '.join(odd[:3])}")


def detaches_and_says_what_it_has_moved(subject: Subject, *, merged: bool = True) -> None:
    """The very modules that stood there stand there again, as they were, and what has moved is named."""
    model = subject.model().to(subject.device).train()
    before, structure = everything(model), _structure(model)
    adapter = subject.attach(model)
    train(adapter, model, optimizer_for(model), range(2))
    if merged:
        adapter.merge(model)
    told = adapter.detach()
    odd = sorted(name for name, found in _structure(model).items() if structure.pop(name, None) != found)
    odd += sorted(structure)
    demand(not odd, f"a detached model is not the bare one that it was: {', '.join(odd[:3])}")
    named = dict(model.named_parameters())
    unknown = sorted(set(told) - named.keys())
    demand(not unknown, f"`detach` names what is no parameter of the bare model: {', '.join(unknown[:3])}")
    after = everything(model)
    untold = sorted(name for name in after.keys() - set(told) if not torch.equal(after[name], before[name]))
    demand(not untold, f"`detach` does not name what has moved: {', '.join(untold[:3])}")


def _structure(model: nn.Module) -> dict[str, Any]:
    """All of a model but its values: which modules and parameters it has, and what is set on them."""
    modules = {
        name: (id(module), module.training, {key: _count(value) for key, value in vars(module).items()})
        for name, module in model.named_modules()
    }
    parameters = {
        name: (id(p), p.requires_grad, p.grad is None, p.dtype) for name, p in model.named_parameters()
    }
    return modules | parameters


def _count(value: Any) -> int:
    """Of parameters, buffers, children or hooks."""
    return len(value) if isinstance(value, dict) else 0
