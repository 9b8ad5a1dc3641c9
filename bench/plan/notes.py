"""What a plan does that its owner may not mean: allowed, and said by `plan` and `run`."""

from __future__ import annotations

from collections.abc import Iterator

import baselines
from bench.facts import VTAB_SPLITS
from bench.plan.spec import JobGraph
from bench.specs import PlannedJob


def notes(graph: JobGraph) -> tuple[str, ...]:
    """Return what is odd in a plan, in words, each once."""
    odd = (words for job in graph.jobs for words in _odd(graph, job))
    return tuple(dict.fromkeys((*graph.parts, *odd)))


def _odd(graph: JobGraph, job: PlannedJob) -> Iterator[str]:
    yield from _unseen_pixels(job)
    if job.spec.recipe is not None and not job.refused:
        yield from _small_training_set(graph, job)
        yield from _long_warm_up(graph, job)


def _small_training_set(graph: JobGraph, job: PlannedJob) -> Iterator[str]:
    """Yield words on a batch that holds images twice, and on classes that nothing is seen of."""
    data, recipe = job.spec.data, job.spec.recipe
    assert recipe is not None
    if data is None:
        return
    num = _num_trained_on(graph, job)
    if recipe.batch_size > num:
        yield (
            f"recipe {job.labels.recipe}: a batch of {recipe.batch_size:,} images holds some more "
            f"than once, since {job.dataset} has {num:,} to train on there"
        )
    if data.num_classes > num:
        yield f"{num:,} images of {job.dataset} are fewer than its {data.num_classes:,} classes"


def _num_trained_on(graph: JobGraph, job: PlannedJob) -> int:
    """Return the images that a job trains on."""
    data = job.spec.data
    assert data is not None
    splits = graph.datasets[job.dataset].splits
    if data.num_examples is not None:
        num = data.num_examples
    elif data.train_split in splits:
        num = splits[data.train_split].num_examples
    else:
        num = VTAB_SPLITS[data.train_split]
    held_out = data.held_out if data.eval_split == "held-out" else None
    return num - round(num * (held_out or 0))


def _long_warm_up(graph: JobGraph, job: PlannedJob) -> Iterator[str]:
    name, recipe = job.labels.recipe, job.spec.recipe
    asked = graph.suite.recipe.get(name) or baselines.recipes().get(name)
    if asked is None or recipe is None or recipe.steps is None or graph.suite.limit_steps:
        return
    if asked.warmup_steps > recipe.steps:
        yield (
            f"recipe {name}: its warm-up of {asked.warmup_steps:,} steps is longer than the "
            f"{recipe.steps:,} steps on {job.dataset}, and ends with them"
        )


def _unseen_pixels(job: PlannedJob) -> Iterator[str]:
    """Yield words on what is left over at the right and at the bottom, where no patch fits."""
    if not baselines.family_of(job.spec.system).has_patches:
        return
    patch_px = getattr(baselines.sizes(job.spec.system), "patch_px", 1)
    asked = job.spec.protocol.image_size_px if job.spec.protocol else 0
    size_px = asked or job.spec.params.get("image_size_px", 0)
    if isinstance(size_px, int) and size_px % patch_px:
        yield (
            f"{job.labels.title} sees {size_px - size_px % patch_px} of {size_px} px, as patches "
            f"of {patch_px}"
        )
