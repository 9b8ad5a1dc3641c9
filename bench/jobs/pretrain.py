"""Pre-train a system from random weights on an upstream data set, or a random part of it.

Source: arXiv:2010.11929, section 4.1 and table 3. A ViT gets the pre-training head with one
hidden layer. Subsets of one seed are nested, and every system of a seed sees the same one. What is
learned is the classes, or the colours of masked patches (section 4.6), as the recipe says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench import training
from bench.data import loader, transforms
from bench.data.sources import shards
from bench.data.sources.stream import ShardBatches
from bench.data.splits import subset_indices
from bench.jobs import JobContext, _work
from bench.paths import JobPaths
from bench.specs import JobResult, Metric, Recipe
from bench.training import Checkpoints, MaskedPatches


def run(context: JobContext) -> JobResult:
    """Return the metric `train_loss`: the mean loss of the last twentieth of the steps."""
    meter = _work.Meter(context)
    spec = context.spec
    streamed = bool(context.card.args.get("stream"))
    batches, num_examples = (_streamed if streamed else _packed)(context, context.recipe)
    model = initial(context, context.recipe)
    num_steps = context.recipe.num_steps(num_examples)
    _work.choose_kernels(context, model, num_steps=num_steps)
    done = training.train(
        model,
        batches,
        recipe=context.recipe,
        num_steps=num_steps,
        seed=spec.seed,
        checkpoints=Checkpoints(JobPaths(context.folder).checkpoints, spec.job_id),
        report=context.report,
        pieces=context.resources.pieces,
    )
    loss = Metric(name="train_loss", value=done.final_loss(), n=len(done.losses_T))
    return meter.result(
        metrics={"train_loss": loss}, files=_work.write_weights(context, model), training=done
    )


def _packed(context: JobContext, recipe: Recipe) -> tuple[training.BatchSource, int]:
    """Return the batches of the packed set, or of a random part of it, and its examples."""
    spec = context.spec
    split = _work.dataset(context).split(context.data.train_split)
    if context.data.num_examples is None:
        indices_N = np.arange(len(split.labels_N))
    else:
        indices_N = subset_indices(split.labels_N, context.data.num_examples, seed=spec.seed)
    batches = loader.Batches(
        split,
        indices_N,
        _transform(context),
        batch_size=recipe.batch_size,
        seed=spec.seed,
        device=_work.device(context),
    )
    return batches, len(indices_N)


def _streamed(context: JobContext, recipe: Recipe) -> tuple[training.BatchSource, int]:
    """Return the batches of shards that are read where they lie, and their examples."""
    card = context.card
    _work.check_planned(context)
    folder = shards.split_folders(Path(str(card.args["path"])))[context.data.train_split]
    shard_set = shards.open_shards(folder)
    batches = ShardBatches(
        shard_set,
        batch_size=recipe.batch_size,
        seed=context.spec.seed,
        squared_px=card.squared_px,
    )
    device = _work.device(context)
    streamed = loader.Streamed(batches, _transform(context), seed=context.spec.seed, device=device)
    return streamed, shard_set.num_examples


def _transform(context: JobContext) -> transforms.Transform:
    protocol = context.protocol
    return transforms.preset(protocol.train_transform, size_px=protocol.image_size_px)


def initial(context: JobContext, recipe: Recipe) -> nn.Module:
    """Return the model of the recipe's objective, initialized from the job's seed."""
    if recipe.objective == "masked-patch":
        encoder = _work.build(context, pretraining_head=False, dropout=recipe.dropout)
        # Another stream than the encoder's, whose draws start at the seed itself.
        generator = torch.Generator().manual_seed(2**32 + context.spec.seed)
        return MaskedPatches(encoder, generator=generator)
    model = _work.build(context, pretraining_head=True, dropout=recipe.dropout)
    nn.init.constant_(model.head.bias, recipe.head_bias)
    return model
