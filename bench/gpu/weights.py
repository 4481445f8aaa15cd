"""What happens to frozen weights on a device: folds into pairs of bfloat16 and remainder, and one load that
several adapters have in turn."""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn

from rankbench import adapters
from rankbench.adapters.pairs import add_in_blocks, add_products, joined, kernel_on, split
from rankbench.bench.conformance.models import optimizer_for, seeded, train
from rankbench.bench.gpu.tiny import TARGETS, TINY
from rankbench.bench.gpu.verdict import Verdict
from rankbench.bench.models import load_headed
from rankbench.bench.models.loading import quiet
from rankbench.bench.models.shared import borrow, forget, give_back
from rankbench.bench.suite import AdapterSpec, Model, make_adapter
from rankbench.tasks import Head

FOLDS, ROWS, COLUMNS, RANK = 200, 512, 384, 4
STEPS = 4


def folds(device: torch.device) -> Verdict:
    """A pair is its float32 number, as on the processor, and 200 folds drift from the exact sum as float32
    does."""
    draw, verdict = seeded(), Verdict("folds into pairs")
    start = torch.randn(ROWS, COLUMNS, generator=draw)
    there = split(start.to(device))
    same = all(torch.equal(one.cpu(), other) for one, other in zip(there, split(start), strict=True))
    verdict.judge(same, f"split {'' if same else 'not '}as on the processor")
    (value, remainder), blocks = there, split(start.to(device))
    plain, exact = start.to(device), start.to(device, torch.float64)
    for _ in range(FOLDS):
        left = 1e-4 * torch.randn(ROWS, RANK, generator=draw).to(device)
        right = torch.randn(COLUMNS, RANK, generator=draw).to(device)
        add_products([(value, remainder, left, right)], 1.0)
        add_in_blocks([(*blocks, left, right)], 1.0)
        plain.addmm_(left, right.t())
        exact.addmm_(left.double(), right.double().t())
    total = joined(value, remainder)
    kept, apart, lost = (
        float((sums - exact).norm() / exact.norm()) for sums in (total, joined(*blocks), plain)
    )
    how = "in one kernel" if total.is_cuda and kernel_on(total.device) else "again"
    told = f"{FOLDS} folds drift {apart:.1e}, {how} {kept:.1e}, in float32 {lost:.1e}"
    verdict.judge(max(kept, apart) <= 2 * lost, told)
    rounds = torch.equal(total.to(torch.bfloat16), value)
    verdict.judge(rounds, f"values are {'' if rounds else 'not '}what the sums round to")
    return verdict


def lent(device: torch.device) -> Verdict:
    """What an adapter has trained on is the next one's as the files have it, straight on the device."""
    verdict, head = Verdict("a load that is lent"), Head("causal")
    with tempfile.TemporaryDirectory() as folder:
        with quiet():
            load_headed(Model(name=TINY), head, seed=0).save_pretrained(folder)
        for weights in ("float32", "bfloat16"):
            model = Model.model_validate({"name": folder, "weights": weights})
            expected = _everything(load_headed(model, head, seed=0))
            for name in ("lora", "scalora"):
                lent = borrow(model, head, 0, device)
                spec = AdapterSpec(name=name, **adapters.kind(name).example)
                adapter = make_adapter(spec, learning_rate=1e-2, steps=STEPS)
                adapter.attach(lent, TARGETS, generator=seeded())
                train(adapter, lent, optimizer_for(lent), range(STEPS))
                give_back(adapter)
                again = borrow(model, head, 0, device)
                found = _everything(again)
                give_back(again)
                same = found.keys() == expected.keys()
                same = same and all(torch.equal(found[key], expected[key]) for key in expected)
                verdict.judge(same, f"{weights} after {name} {'the same' if same else 'is another model'}")
        forget()
    return verdict


def _everything(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
