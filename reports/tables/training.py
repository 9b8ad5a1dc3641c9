"""How each system was trained: the recipe behind every row, with the rate that was chosen."""

from __future__ import annotations

from bench import metrics
from bench.kinds import stages
from bench.specs import PlannedJob, Recipe
from reports.cards import TableCard
from reports.printing.cells import images_cell, number_cell, text_cell
from reports.printing.table import Cell, Column, Sample, Table
from reports.study.stages import stage_of
from reports.study.study import Study


def _is_shown(job: PlannedJob) -> bool:
    """Tell whether a job's recipe is behind the numbers: candidates train too, and are not."""
    stage = stage_of(job)
    trains = stage.role == "start" or (stage.role == "result" and stage.trains_classifier)
    return trains and job.spec.recipe is not None


def table(study: Study) -> Table:
    """Return one row a training recipe, system and upstream size (seeds share it)."""
    groups: dict[tuple[str, str, str, int, str, str], list[PlannedJob]] = {}
    for job in study.graph.jobs:
        if _is_shown(job):
            labels = job.labels
            key = (
                labels.stage, labels.downstream or labels.upstream, labels.title,
                labels.upstream_examples, labels.recipe, labels.protocol,
            )  # fmt: skip
            groups.setdefault(key, []).append(job)
    several = len({key[1] for key in groups}) > 2  # one upstream, one downstream
    order = list(stages())
    ordered = sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    rows = [_row(study, key, jobs, several) for key, jobs in ordered]
    return Table(
        name="training",
        title="How each system was trained",
        caption="Optimizer settings of each row of the comparison; all seeds share them. "
        "Fine-tuning rates were chosen on a held-out part of the training split where several "
        "were tried. lr: peak learning rate.",
        columns=tuple(_columns(several)),
        rows=tuple(rows),
        warning=study.warning,
        group_by=("stage",),
    )


def _columns(several: bool) -> list[Column]:
    left = [("stage", "Stage"), *([("dataset", "Data")] if several else []), ("system", "System")]
    columns = [Column(key=key, title=title, align="left", header=True) for key, title in left]
    columns.append(Column(key="upstream_examples", title="Upstream", unit="images", header=True))
    columns += [
        Column(key="optimizer", title="Optimizer", align="left"),
        Column(key="learning_rate", title="Peak lr"),
        Column(key="steps", title="Steps"),
        Column(key="batch_size", title="Batch"),
        Column(key="warmup_steps", title="Warm-up", unit="steps"),
        Column(key="schedule", title="Schedule", align="left"),
        Column(key="weight_decay", title="Weight decay"),
        Column(key="clip_norm", title="Clip"),
        Column(key="image_size_px", title="Images", unit="px"),
    ]
    return columns


def _row(
    study: Study,
    key: tuple[str, str, str, int, str, str],
    jobs: list[PlannedJob],
    several: bool,
) -> tuple[Cell, ...]:
    stage, dataset, title, examples, _, _ = key
    recipe = jobs[0].spec.recipe
    size = jobs[0].spec.image_size_px or 0
    lead = [
        text_cell(stages()[stage].title),
        text_cell(title),
        images_cell(jobs[0].labels.upstream, examples),
    ]
    if several:
        lead.insert(1, text_cell(study.dataset_title(dataset)))
    return (*lead, *_recipe_cells(study, jobs, recipe), number_cell(size, str(size)))


def _recipe_cells(study: Study, jobs: list[PlannedJob], recipe: Recipe | None) -> list[Cell]:
    if recipe is None:
        return [Cell(text="–", status="absent")] * 8
    clip = recipe.clip_norm
    return [
        text_cell({"adam": "Adam", "sgd": "SGD, momentum 0.9"}[recipe.optimizer]),
        _rate(study, jobs, recipe),
        number_cell(jobs[0].num_steps, f"{jobs[0].num_steps:,}"),
        number_cell(recipe.batch_size, f"{recipe.batch_size:,}"),
        number_cell(recipe.warmup_steps, f"{recipe.warmup_steps:,}"),
        text_cell(recipe.schedule),
        number_cell(recipe.weight_decay, f"{recipe.weight_decay:g}"),
        text_cell("none") if clip is None else number_cell(clip, f"{clip:g}"),
    ]


def _rate(study: Study, jobs: list[PlannedJob], recipe: Recipe) -> Cell:
    """Return the learning rate: of the recipe, or as chosen for these jobs."""
    if recipe.base_lr is not None:
        return number_cell(recipe.base_lr, f"{recipe.base_lr:g}")
    samples = []
    for job in jobs:
        result = study.results.get(job.job_id)
        rate = result.values.get("learning_rate") if result else None
        if isinstance(rate, float | int):
            samples.append(Sample(seed=job.spec.seed, value=float(rate), job_ids=(job.job_id,)))
    rates = sorted({sample.value for sample in samples if sample.value is not None})
    if not rates:
        return Cell(text="not chosen", status="not run")
    text = ", ".join(metrics.number(rate) if rate < 1e-3 else f"{rate:g}" for rate in rates)
    one = rates[0] if len(rates) == 1 else None
    return Cell(text=text, value=one, n=len(samples), samples=tuple(samples))


TABLE = TableCard(name="training", make=table, place=330, always=True, section="training")
