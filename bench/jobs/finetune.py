"""Fine-tune a pre-trained system on a downstream data set, at the protocol's resolution.

Source: arXiv:2010.11929, sections 3.2 and 4.1, table 4, appendix B.1.1. The whole pre-training
head is dropped for one zero-initialized linear layer; position embeddings are interpolated. Where
the recipe averages weights (Polyak), the average is what is scored and kept.

A candidate trains without some images and is scored on those (`val_top1`): a held-out part of the
training split or, under the splits of VTAB (arXiv:1910.04867), 800 images and another 200. The
final run takes the learning rate that `select` or `search` found, trains on all of them and is
scored on test, once (`test_top1`). With `patience` in the recipe candidates stop early, and the
final run ends where the chosen one did best (`_stopping.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bench import models, training
from bench.data import loader, transforms
from bench.data.packs.read import Split
from bench.data.splits import drawn_rows, held_out_indices
from bench.errors import Diverged, JobError
from bench.jobs import JobContext, _stopping, _work
from bench.paths import JobPaths
from bench.specs import JobResult, Metric, Recipe, Scalar
from bench.training import Checkpoints


def run(context: JobContext) -> JobResult:
    """Return `val_top1` of a candidate, or `test_top1` of a final run, and the learning rate.

    The `val_top1` of a candidate that diverged is absent, and says why: the others can be chosen.
    """
    meter = _work.Meter(context)
    recipe = chosen_recipe(context)
    task = Task.of(context)
    tuning = Tuning(context, recipe, task)
    folder = JobPaths(context.folder).checkpoints
    watch = tuning.watch(folder) if recipe.patience and task.chooses else None
    try:
        done = tuning.train(
            checkpoints=Checkpoints(folder, context.spec.job_id),
            report=context.report,
            ends=watch.ends if watch else tuning.ends_where_chosen,
        )
    except Diverged as error:
        if not task.chooses:
            raise
        absent = Metric(name="val_top1", value=None, reason=error.message)
        return meter.result(metrics={"val_top1": absent}, values={"learning_rate": recipe.base_lr})
    if watch is not None:
        watch.finish(len(done.losses_T))
        return meter.result(
            metrics={"val_top1": watch.metric},
            values={"learning_rate": recipe.base_lr, **watch.values},
            training=done,
            num_evaluated=watch.num_scored,
        )
    metric = "val_top1" if task.chooses else "test_top1"
    classes_N = tuning.classes()
    hits_N = classes_N == task.labels_N
    arrays = {"hits": hits_N}
    if not task.chooses:
        arrays |= _work.answers(context, task.labels_N, {metric: classes_N})
    files = _work.write_hits(context, arrays)
    if not task.chooses:
        files |= _work.write_weights(context, tuning.model)
    values: dict[str, Scalar | None] = {"learning_rate": recipe.base_lr}
    if not task.chooses and (fifths := done.fifths()) is not None:
        values["loss_before_end"], values["loss_at_end"] = fifths
    return meter.result(
        metrics={metric: _work.top1(metric, hits_N)},
        values=values,
        files=files,
        training=done,
        num_evaluated=len(hits_N),
    )


def chosen_recipe(context: JobContext) -> Recipe:
    """Return the recipe with its own learning rate, or the one that was chosen for it."""
    recipe = context.recipe
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


def initial(
    context: JobContext, recipe: Recipe, weights: Mapping[str, Tensor]
) -> models.Classifier:
    """Return the model with a pre-trained encoder and a new head, on the device."""
    model = _work.build(context, pretraining_head=False, dropout=recipe.dropout)
    models.load_encoder(model, weights)
    return model


@dataclass(frozen=True)
class Task:
    """Images to train on and images to score on."""

    split: Split
    """Split trained on."""
    train_N: np.ndarray
    """Its images that are trained on."""
    scored_split: Split
    """Split scored on."""
    scored_N: np.ndarray | None
    """Its images that are scored; None: all."""
    chooses: bool
    """Whether the score chooses, and is not reported."""

    @property
    def labels_N(self) -> np.ndarray:
        """Labels of the images scored on."""
        labels_N = self.scored_split.labels_N
        return labels_N if self.scored_N is None else labels_N[self.scored_N]

    @classmethod
    def of(cls, context: JobContext) -> Task:
        """Return the task of a job; raises DataError where the data set lacks a split."""
        spec = context.spec
        data = _work.dataset(context)
        split = data.split(context.data.train_split)
        labels_N = _work.labels(context, data, context.data.train_split)
        if context.data.held_out is None:
            everything = np.arange(len(labels_N))
            scored, chooses = data.split(context.data.eval_split), context.data.eval_split != "test"
            return cls(split, everything, scored, None, chooses)
        train_N, held_N = held_out_indices(labels_N, context.data.held_out, seed=spec.seed)
        if context.data.num_evaluated is not None:
            held_N = held_N[drawn_rows(labels_N[held_N], context.data.num_evaluated)]
        return cls(split, train_N, split, held_N, chooses=True)


class Tuning:
    """A model about to be fine-tuned by one recipe, and scored."""

    def __init__(self, context: JobContext, recipe: Recipe, task: Task) -> None:
        self._context = context
        self._recipe = recipe
        self._task = task
        self.model = initial(context, recipe, _work.pretrained_weights(context))
        _work.choose_kernels(context, self.model, num_steps=self.num_steps)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self._recipe.num_steps(len(self._task.train_N))

    def train(
        self,
        *,
        checkpoints: Checkpoints | None,
        report: Callable[[dict[str, Any]], None],
        ends: Callable[[int], bool] = lambda step: False,
    ) -> training.Training:
        """Train to the end, or until `ends` says so; raises Diverged."""
        spec = self._context.spec
        protocol = self._context.protocol
        batches = loader.Batches(
            self._task.split,
            self._task.train_N,
            transforms.preset(protocol.train_transform, size_px=protocol.image_size_px),
            batch_size=self._recipe.batch_size,
            seed=spec.seed,
            device=_work.device(self._context),
        )
        return training.train(
            self.model,
            batches,
            recipe=self._recipe,
            num_steps=self.num_steps,
            seed=spec.seed,
            checkpoints=checkpoints,
            report=report,
            pieces=self._context.resources.pieces,
            ends=ends,
        )

    def watch(self, folder: Path) -> _stopping.Watch:
        """Return what stops this run early, its scores kept in a folder."""
        assert self._recipe.patience is not None
        return _stopping.Watch(
            folder / "scores.json",
            num_steps=self.num_steps,
            patience=self._recipe.patience,
            hits=self.hits,
        )

    def ends_where_chosen(self, step: int) -> bool:
        """Return whether the chosen candidate was at its best after this share of the steps."""
        selected = self._context.inputs.get("select")
        share = selected[0].values.get(_stopping.SHARE) if selected else None
        return share is not None and step >= _stopping.last_step(float(share), self.num_steps)

    def hits(self) -> np.ndarray:
        """Return hits_N (bool) of the model, as it is now, on the images scored on."""
        hits_N: np.ndarray = self.classes() == self._task.labels_N
        return hits_N

    def classes(self) -> np.ndarray:
        """Return classes_N that the model, as it is now, gives the images scored on."""
        protocol = self._context.protocol
        return training.classify(
            self.model,
            self._task.scored_split,
            transforms.preset(protocol.eval_transform, size_px=protocol.image_size_px),
            indices_N=self._task.scored_N,
        )
