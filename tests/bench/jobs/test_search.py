"""The search that stops bad candidates early: real Ray Tune, on the digits."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import jobs, schedule
from bench.data import catalog
from bench.errors import JobError
from bench.jobs import JobContext
from bench.specs import JobResult, Labels, PlannedJob, Resources
from bench.store import Store

Perform = Callable[..., tuple[JobResult, Path]]

DIGITS = catalog.datasets()["digits"]
RATES = (0.1, 1e-7, 1e30)


def on_digits(spec: Any) -> Any:
    data = spec.data.model_copy(update={"digest": DIGITS.digest, "num_classes": 10})
    return spec.model_copy(update={"data": data})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"params": {"learning_rates": ()}, "held_out": 0.2}, "has no learning_rates"),
        ({"params": {"learning_rates": (0.1, 0.2)}}, "has no held-out images to choose on"),
    ],
)
def test_a_search_without_rates_or_held_out_images_is_told(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], fields: Any, words: str
) -> None:
    spec = toy.finetune(pretrained, None, kind="search", eval_split="test", **fields)
    with pytest.raises(JobError, match=words):
        perform(spec, {"checkpoint": pretrained})


class Digits:
    """A work folder in which a toy system was pre-trained on the digits."""

    def __init__(self, toy: Any, workdir: Path) -> None:
        self.toy = toy
        self.store = Store(workdir)
        self.store.create()
        self.pretrained = self.do(on_digits(toy.spec("pretrain", recipe=toy.pretraining)))
        recipe = toy.finetuning.model_copy(update={"steps": 20, "base_lr": None})
        self.search = on_digits(
            toy.finetune(
                self.job(self.pretrained), None, recipe=recipe, kind="search", size_px=8,
                params={"learning_rates": RATES}, held_out=0.3, eval_split="held-out",
            )
        )  # fmt: skip

    def job(self, result: JobResult) -> tuple[JobResult, Path]:
        return result, self.store.folder(result.job_id)

    def do(self, spec: Any) -> JobResult:
        return schedule.perform(spec, DIGITS, workdir=self.store.workdir, resources=Resources())

    def context(self) -> JobContext:
        folder = self.store.folder(self.search.job_id)
        folder.mkdir(exist_ok=True)
        return JobContext(
            spec=self.search, folder=folder, inputs={"checkpoint": self.job(self.pretrained)},
            dataset=DIGITS, cache_dir=self.store.paths.cache.folder, attempt=1,
            report=lambda line: None, resources=Resources(),
        )  # fmt: skip

    def candidate(self, rate: float) -> JobResult:
        recipe = self.search.recipe.model_copy(update={"base_lr": rate})
        fields = {"kind": "finetune", "recipe": recipe, "params": {}}
        return self.do(self.search.model_copy(update=fields))


@pytest.fixture
def digits(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digits:
    monkeypatch.undo()  # the toy's images, which other processes would not see
    return Digits(toy, tmp_path / "runs")


def left_running() -> list[str]:
    """Return the processes that carry the token of our Ray, once they had time to end."""
    token = f"RAY_AUTH_TOKEN={os.environ['RAY_AUTH_TOKEN']}".encode()
    for _ in range(100):
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if token in path.read_bytes():
                    found.append(path.with_name("cmdline").read_text().replace("\0", " "))
        if not found:
            break
        time.sleep(0.1)
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_without_a_scheduler_it_starts_and_ends_a_ray_of_its_own(digits: Digits) -> None:
    context = digits.context()
    result = jobs.run(context)
    assert not sys.modules["ray"].is_initialized()
    assert not left_running()
    values = result.values
    assert values["num_trials"] == 3
    assert values["val_top1/1e+30"] is None  # diverged
    finished = [rate for rate in RATES[:2] if values[f"trained_share/{rate:g}"] == 1]
    assert RATES[0] in finished  # nothing came before it
    assert values["num_stopped"] == 2 - len(finished)
    for rate in finished:
        # What a candidate that is a job of its own comes to, to the last bit.
        metric = digits.candidate(rate).metrics["val_top1"]
        assert values[f"val_top1/{rate:g}"] == metric.value
        assert result.metrics["val_top1"].n == metric.n
    best = max(finished, key=lambda rate: (values[f"val_top1/{rate:g}"], -rate))
    assert values["learning_rate"] == best
    assert result.metrics["val_top1"].value == values[f"val_top1/{best:g}"]
    assert result.cost is not None
    assert result.cost.examples > 2 * 5 * 8

    # An attempt that was killed after its second candidate: its scores are believed.
    scores = context.folder / "checkpoints" / "trial-1" / "scores.json"
    last = json.loads(scores.read_bytes())[-1]
    scores.write_text(json.dumps([last | {"quarter": 4, "val_top1": 0.987, "absent": ""}]))
    (scores.parent.parent / "trial-2" / "scores.json").unlink()
    again = jobs.run(context)
    assert again.values["learning_rate"] == RATES[1]
    assert again.metrics["val_top1"].value == 0.987
    assert again.values["val_top1/1e+30"] is None
    assert again.values["val_top1/0.1"] == values["val_top1/0.1"]


@pytest.mark.ordinary
@pytest.mark.xdist_group("ray")
def test_inside_a_task_it_uses_what_the_task_was_given(digits: Digits) -> None:
    """One core, which the task holds: trials that asked for another would wait forever."""
    spec = digits.search.model_copy(update={"params": {"learning_rates": RATES[:2]}})
    job = PlannedJob(
        job_id=spec.job_id, spec=spec, name="search", dataset="digits",
        resources=Resources(cpus=1), train_examples=1, num_steps=1, exaflops=1e-9,
        pretrain_exaflops=1e-9, num_params=1,
        labels=Labels(
            system="vit-toy", title="ViT toy", family="vit", upstream="digits",
            upstream_examples=8, stage="select",
        ),
    )  # fmt: skip
    executor = schedule.RayExecutor({"digits": DIGITS}, digits.store.workdir)
    try:
        executor.submit(job)
        found = None
        while found is None:
            found = executor.next(1.0)
    finally:
        executor.close()
    result = found[1]
    assert isinstance(result, JobResult), result
    assert result.values["num_trials"] == 2
    assert digits.store.result(spec.job_id) == result
    # Only what belongs to the result stays.
    assert not (digits.store.folder(spec.job_id) / "checkpoints").exists()
    steps = [line["step"] for line in digits.store.progress(spec.job_id)]
    assert steps == sorted(steps)
    assert steps[0] <= 2
    final = on_digits(
        digits.toy.finetune(digits.job(digits.pretrained), None, size_px=8, eval_split="test")
    )
    final = final.model_copy(update={"needs": {**final.needs, "select": spec.job_id}})
    assert digits.do(final).values["learning_rate"] == result.values["learning_rate"]
    assert not left_running()
