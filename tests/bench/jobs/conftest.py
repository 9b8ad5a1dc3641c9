"""A system and a data set of toy size for all job kinds: same path, milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import baselines
from bench import jobs
from bench.data.packs.read import Split
from bench.errors import DataError
from bench.jobs import JobContext, _work
from bench.kinds import KINDS
from bench.specs import (
    DatasetCard,
    DataUse,
    JobResult,
    JobSpec,
    Metric,
    Protocol,
    Recipe,
    Resources,
    SplitCard,
)

NUM_CLASSES, DIGEST = 3, "0123456789abcdef"
SIZES = {"train": 60, "test": 25, "train800": 40, "val200": 16, "train800val200": 56}

Inputs = dict[str, tuple[JobResult, Path]]


class ToyData:
    """Three classes of noise around three colours, in place of a packed set."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.splits = {name: self._split(rng, num) for name, num in SIZES.items()}

    @staticmethod
    def _split(rng: np.random.Generator, num: int) -> Split:
        labels_N = rng.permutation(np.arange(num) % NUM_CLASSES)
        colours_N3 = np.array([[150, 90, 90], [90, 150, 90], [90, 90, 150]])[labels_N]
        noise = rng.normal(scale=60, size=(num, 8, 8, 3))
        images = np.clip(colours_N3[:, None, None] + noise, 0, 255).astype(np.uint8)
        return Split(images, labels_N)

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise DataError(f'toy: no split "{name}"')
        return self.splits[name]


class Toy:
    """What the tests of job kinds are made of."""

    num_train, num_test, num_classes = SIZES["train"], SIZES["test"], NUM_CLASSES
    data = ToyData()
    card = DatasetCard(
        name="toy",
        title="Toy",
        reader="none",
        num_classes=NUM_CLASSES,
        splits={name: SplitCard(num_examples=SIZES[name]) for name in ("train", "test")},
        digest=DIGEST,
    )
    vit_args: ClassVar[dict[str, Any]] = {
        "width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16, "patch_px": 4,
    }  # fmt: skip
    vit = baselines.use(baselines.system("vit-micro")).model_copy(update={"args": vit_args})
    pretraining = Recipe(
        steps=12, batch_size=8, optimizer="adam", base_lr=0.003, schedule="cosine", warmup_steps=2
    )
    finetuning = Recipe(steps=6, batch_size=8, optimizer="sgd", base_lr=0.03, schedule="cosine")

    @classmethod
    def spec(
        cls, kind: str, *, recipe: Recipe | None = None, size_px: int = 8, **fields: Any
    ) -> JobSpec:
        data = {
            "digest": DIGEST,
            "num_classes": fields.pop("num_classes", NUM_CLASSES),
            "train_split": fields.pop("train_split", "train"),
            "eval_split": fields.pop("eval_split", ""),
            "num_examples": fields.pop("num_examples", None),
            "held_out": fields.pop("held_out", None),
        }
        protocol = Protocol(
            name="toy", image_size_px=size_px, train_transform="resize", eval_transform="resize"
        )
        return JobSpec(
            kind=kind,
            kind_version=fields.pop("kind_version", KINDS[kind].version if kind in KINDS else 1),
            system=fields.pop("system", cls.vit),
            data=DataUse(**data),
            protocol=protocol,
            recipe=recipe,
            seed=fields.pop("seed", 0),
            **fields,
        )

    @classmethod
    def finetune(
        cls, pretrained: tuple[JobResult, Path], rate: float | None, **fields: Any
    ) -> JobSpec:
        recipe = fields.pop("recipe", cls.finetuning).model_copy(update={"base_lr": rate})
        return cls.spec(
            fields.pop("kind", "finetune"),
            recipe=recipe,
            size_px=fields.pop("size_px", 12),
            needs={"checkpoint": pretrained[0].job_id},
            **fields,
        )

    @classmethod
    def context(
        cls, spec: JobSpec, folder: Path, inputs: Inputs | None = None, **fields: Any
    ) -> JobContext:
        defaults: dict[str, Any] = {
            "dataset": cls.card,
            "cache_dir": folder.parent / "cache",
            "attempt": 1,
            "report": lambda line: None,
            "resources": Resources(),
        }
        job = folder / spec.job_id
        job.mkdir(parents=True, exist_ok=True)
        return JobContext(spec=spec, folder=job, inputs=inputs or {}, **{**defaults, **fields})


Perform = Callable[..., tuple[JobResult, Path]]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Toy sizes lose more to threads than they gain."""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    monkeypatch.setattr(_work, "packed", lambda card, *, cache_dir: Toy.data)
    return Toy


@pytest.fixture
def perform(toy: type[Toy], tmp_path: Path) -> Perform:
    """Run a job as the scheduler would; returns its result and folder."""

    def run(
        spec: JobSpec, inputs: Inputs | None = None, *, folder: str = "jobs", **fields: Any
    ) -> tuple[JobResult, Path]:
        context = toy.context(spec, tmp_path / folder, inputs, **fields)
        return jobs.run(context), context.folder

    return run


@pytest.fixture
def pretrained(toy: type[Toy], perform: Perform) -> tuple[JobResult, Path]:
    return perform(toy.spec("pretrain", recipe=toy.pretraining))


@pytest.fixture
def finetuned(
    toy: type[Toy], perform: Perform, pretrained: tuple[JobResult, Path]
) -> tuple[JobResult, Path]:
    """A classifier of the toy's classes at 8 px."""
    spec = toy.finetune(pretrained, 0.05, eval_split="test", size_px=8)
    return perform(spec, {"checkpoint": pretrained})


@pytest.fixture
def choose(toy: type[Toy], perform: Perform, tmp_path: Path) -> Callable[..., JobResult]:
    """Select among candidates given as (learning rate, accuracy)."""

    def select(found: list[tuple[float, float | None]]) -> JobResult:
        inputs, needs = {}, {}
        for index, (rate, accuracy) in enumerate(found):
            reason = "" if accuracy else "the loss became nan at step 3 of 9"
            job_id = needs[f"candidate:{index}"] = f"{index:016x}"
            result = JobResult(
                job_id=job_id,
                status="done",
                metrics={"val_top1": Metric(name="val_top1", value=accuracy, n=12, reason=reason)},
                values={"learning_rate": rate},
            )
            inputs[f"candidate:{index}"] = (result, tmp_path)
        return perform(toy.spec("select", eval_split="held-out", needs=needs), inputs)[0]

    return select
