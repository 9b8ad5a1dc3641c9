"""Fine-tune a pre-trained system on a downstream data set, at the protocol's resolution.

Source: arXiv:2010.11929, sections 3.2 and 4.1, table 4, appendix B.1.1. The whole pre-training
head is dropped for one zero-initialized linear layer; position embeddings are interpolated.

A candidate trains on the training split without its held-out part and is scored there
(`val_top1`). The final run takes the learning rate that `select` found, trains on all of the
training split and is scored on test, once (`test_top1`).
"""

from __future__ import annotations

import numpy as np

from bench import models, training
from bench.checkpoint import Checkpoints
from bench.data import loader, prepare, transforms
from bench.errors import JobError
from bench.jobs import JobContext, _work
from bench.specs import JobResult, Recipe

VERSION = 1


def run(context: JobContext) -> JobResult:
    """Return `val_top1` of a candidate, or `test_top1` of a final run, and the learning rate."""
    meter = _work.Meter(context)
    spec = context.spec
    recipe = chosen_recipe(context)
    data = _work.dataset(context)
    split = data.split(spec.data.train_split)
    if spec.data.held_out is None:
        train_N, scored_N = np.arange(len(split.labels_N)), None
        scored_split, metric = data.split(spec.data.eval_split), "test_top1"
    else:
        train_N, scored_N = prepare.held_out_indices(
            split.labels_N, spec.data.held_out, seed=spec.seed
        )
        scored_split, metric = split, "val_top1"
    model = _work.build(context, pretraining_head=False, dropout=recipe.dropout)
    models.load_encoder(model, _work.pretrained_weights(context))
    size_px = spec.protocol.image_size_px
    done = training.train(
        model,
        loader.Batches(
            split,
            train_N,
            transforms.preset(spec.protocol.train_transform, size_px=size_px),
            batch_size=recipe.batch_size,
            seed=spec.seed,
            device=_work.device(context),
        ),
        recipe=recipe,
        num_steps=recipe.num_steps(len(train_N)),
        seed=spec.seed,
        checkpoints=Checkpoints(context.folder / "checkpoints", spec.job_id),
        report=context.report,
    )
    hits_N = training.evaluate(
        model,
        scored_split,
        transforms.preset(spec.protocol.eval_transform, size_px=size_px),
        indices_N=scored_N,
    )
    files = _work.write_hits(context, {"hits": hits_N})
    if spec.data.held_out is None:
        files |= _work.write_weights(context, model)
    return meter.result(
        metrics={metric: _work.top1(metric, hits_N)},
        values={"learning_rate": recipe.base_lr},
        files=files,
        training=done,
        num_evaluated=len(hits_N),
    )


def chosen_recipe(context: JobContext) -> Recipe:
    """Return the recipe with its own learning rate, or the one that `select` found."""
    recipe = context.spec.recipe
    assert recipe is not None
    if recipe.base_lr is not None:
        return recipe
    chosen = None
    if "select" in context.inputs:
        chosen = context.inputs["select"][0].values.get("learning_rate")
    if not chosen:
        raise JobError(
            f"fine-tuning job {context.spec.job_id} has no learning rate and no selection to take "
            "it from"
        )
    return recipe.model_copy(update={"base_lr": float(chosen)})
