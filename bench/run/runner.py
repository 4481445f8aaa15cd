"""One run from its order to its record: start, train, merge, score. It writes nothing but checkpoints."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rankbench import adapters, tasks
from rankbench.bench.models.shared import give_back, make_room
from rankbench.bench.records import Curve, MergeParity, Metrics, Observation, Parameters, RunRecord, Timings
from rankbench.bench.run import knowledge, probes, scores
from rankbench.bench.run.checkpoint import Checkpoint, Progress
from rankbench.bench.run.copied import Copy
from rankbench.bench.run.evidence import with_parts
from rankbench.bench.run.failures import Failure, Interrupted, attempt
from rankbench.bench.run.job import Job, make_task
from rankbench.bench.run.order import Done, Listener, Order
from rankbench.bench.run.provenance import provenance
from rankbench.bench.run.ranks import together
from rankbench.bench.run.saving import save
from rankbench.bench.run.start import attached, begin, ready
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.run.train import Watch, Work, full_precision, train
from rankbench.bench.run.usage import reset_peak_memory
from rankbench.bench.suite.described import learning_rate
from rankbench.tasks.metrics import metric

WARM_UP_STEPS = 3
"""Steps left out of the median step time."""

DISTANCE = "distance_at_start"
"""Diagnostic of every run: the largest difference that attaching makes to an output, on the parity items."""

ROUNDING = "lost_by_merging"
"""The same of runs over weights that are not in float32: the share of the increments, by norms, that merging
rounds away, where it is known."""


def run(order: Order, listener: Listener | None = None) -> Done | Failure:
    """Do one run, from its checkpoint if there is one; whatever goes wrong is a Failure.

    A run over several processes has them started here. Raises Interrupted when the listener asked to stop:
    the checkpoint is on the disk.
    """
    work = _run if order.job.spec.training.processes == 1 else _run_together
    if order.checkpoint_url:
        work = partial(_run_with_copy, work)
    return attempt(partial(work, order, listener or Listener()))


def _run_with_copy(work: Callable[[Order, Listener], Done], order: Order, listener: Listener) -> Done:
    """Each state that is saved is copied at the step after it."""
    copy = Copy(order.checkpoint, order.checkpoint_url)

    def tick(curve: Curve) -> None:
        copy.renew()
        listener.tick(curve)

    try:
        return work(order, replace(listener, tick=tick))
    except Interrupted:
        copy.renew()
        raise


def _run_together(order: Order, listener: Listener) -> Done:
    return together(order.job.spec.training.processes, partial(_run, order), listener)


def _run(order: Order, listener: Listener) -> Done:
    # pandas and pyarrow: what only checks or measures goes without; found missing now, not when all is done
    from rankbench.bench.cost.room import refuse_too_large
    from rankbench.bench.records.predictions import packed

    job, spec = order.job, order.job.spec
    checkpoint = Checkpoint(order.checkpoint, job.fingerprint, order.checkpoint_seconds)
    make_room(spec.model, make_task(spec).head)  # or it would count as this run's memory
    reset_peak_memory()
    task, prepared = ready(job)
    if spec.training.processes == 1:
        refuse_too_large(spec, prepared)
    accelerator = make_accelerator(spec.training.precision)
    model, adapter, progress, found, knew = _train(job, task, prepared, accelerator, checkpoint, listener)
    chosen = progress.best or {"step": progress.step}
    saved = save(order, task, chosen.get("state") or adapter.state_dict(copy=False))
    started = time.perf_counter()
    # What merging rounds away, where weights are narrow, must not be in the scores.
    unmerged = spec.model.weights != "float32"
    scored, parity = (model, None) if unmerged else _merged(task, model, adapter)
    last = best = scores.evaluate(task, scored, spec.scored_on, progress.step)
    if chosen["step"] != progress.step:
        if not unmerged:
            give_back(adapter)
            del model, adapter, scored  # before another model is built: this one has nothing left to tell
            model, adapter = attached(spec, task, accelerator.device)
        adapter.load_state_dict(chosen["state"])
        if "rank" in found["diagnostics"]:  # of what is scored, which may be from before pruning has ended
            found["diagnostics"]["rank"] = adapter.diagnostics()["rank"]
        scored = model if unmerged else adapter.merge(model)
        best = scores.evaluate(task, scored, spec.scored_on, chosen["step"])
    knows = knowledge.read(scored, spec.model, task.head)
    if parity is None:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # the record tells it
            _, parity = _merged(task, model, adapter)
        if adapter.rounding is not None:
            found["diagnostics"][ROUNDING] = adapter.rounding
    give_back(adapter)
    held_out = scores.held_out(task, best)
    selected_by = task.selection_metric or task.metric
    main = task.metric if spec.scored_on == "test" else selected_by
    seconds = progress.curve.seconds
    record = RunRecord(
        **job.place,
        **job.told,
        model=spec.model.name,
        fingerprint=job.fingerprint,
        identity=job.identity,
        config=job.config,
        protocol=job.protocol(task, prepared),
        metrics=Metrics(
            main=main,
            lower_is_better=metric(main).lower_is_better,
            best=best.metrics,
            last=last.metrics,
            best_step=chosen["step"],
            last_step=progress.step,
            selection=selected_by,
            held_out=held_out.metric if held_out else "",
        ),
        curve=progress.curve,
        observations=progress.observations,
        timings=Timings(
            median_step=float(torch.tensor(seconds[WARM_UP_STEPS:] or seconds).median()),
            train=sum(seconds),
            score=time.perf_counter() - started,
            total=checkpoint.usage.seconds,
            legs=checkpoint.usage.legs,
        ),
        memory=checkpoint.usage.memory,
        **found,
        merge_parity=parity,
        forgetting=knowledge.forgotten(knew, knows, task.head, chosen["step"]),
        provenance=provenance(data_sha256=prepared.sha256, weights=str(job.identity["weights"])),
        predictions=f"{job.cell}.parquet",
        saved=saved,
    )
    return Done(record, packed(with_parts(main, best)), order.trained if saved else None)


def _merged(task: tasks.Task, model: nn.Module, adapter: adapters.Adapter) -> tuple[nn.Module, MergeParity]:
    """And whether that has changed what it answers."""
    before = scores.logits(task, model)
    merged = adapter.merge(model)
    return merged, scores.merge_parity(before, scores.logits(task, merged))


def _train(
    job: Job,
    task: tasks.Task,
    prepared: tasks.Prepared,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    listener: Listener,
) -> tuple[nn.Module, adapters.Adapter, Progress, dict[str, Any], Tensor | None]:
    """At the end what the adapter tells of itself, by the names of a record's fields, and what the pretrained
    model makes of the general text."""
    spec = job.spec
    work = Work(prepared.train, prepared.lengths, task.collate, task.loss)
    model, adapter, distance, knew = begin(spec, task, work, accelerator.device)
    counts = Parameters(**adapter.parameter_counts())
    settings = spec.training.model_copy(update={"learning_rate": learning_rate(spec)})
    selected_by = task.selection_metric or task.metric
    probe = probes.RankProbe(adapter)
    first = task.collate([prepared.train[i] for i in range(min(settings.batch_size, len(prepared.train)))])

    def observe(step: int) -> Observation:
        selection = None
        if settings.select == "best":
            with full_precision(model):
                selection = scores.evaluate(task, model, "selection", step).metrics[selected_by]
        gradients = probes.gradient_ranks(model, adapter, task.loss, first)
        return Observation(
            step=step,
            selection=selection,
            accumulated_rank=probe.ranks(),
            gradient_rank=gradients.ranks,
            one_position=gradients.one_position,
        )

    watch = Watch(observe, metric(selected_by).lower_is_better, listener.tick, listener.stopped)
    progress = train(
        model, adapter, work, settings, spec.seed,
        accelerator=accelerator, watch=watch, checkpoint=checkpoint,
    )  # fmt: skip
    found = {
        "parameters": counts,
        "layers": adapter.matched,
        "heads": adapter.heads,
        "diagnostics": {DISTANCE: distance, **adapter.diagnostics()},
    }
    return model, adapter, progress, found, knew
