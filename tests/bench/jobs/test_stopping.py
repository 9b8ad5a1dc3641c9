"""Early stopping: where a run ends by its held-out scores, and that it ends there again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import Preempted
from bench.jobs import _stopping
from bench.specs import JobResult

Perform = Callable[..., tuple[JobResult, Path]]


def watch(
    path: Path, scores: list[int], *, patience: int = 3, n: int = 100
) -> tuple[_stopping.Watch, int]:
    """Go through a run of ten scores, of n images right so many; return the step it ended at."""
    right = iter(scores)

    def hits() -> np.ndarray:
        return np.arange(n) < next(right)

    found = _stopping.Watch(path / "scores.json", num_steps=100, patience=patience, hits=hits)
    for step in range(10, 100, 10):
        if found.ends(step):
            break
    else:
        step = 100
    found.finish(step)
    return found, step


@pytest.mark.parametrize(
    ("scores", "ended", "best"),
    [
        ([50, 60, 70, 80, 85, 86, 87, 88, 89, 90], 100, 100),  # rises to the end
        ([50, 90, 60, 60, 60, 60, 60, 60, 60, 60], 50, 20),  # three passed since the best
        ([50, 90, 60, 60, 89, 60, 60, 60, 60, 60], 80, 50),  # 89 is within .03 of 90
        ([50, 90, 88, 87, 88, 87, 88, 87, 88, 87], 100, 100),  # never worse than by chance
    ],
)
def test_a_run_ends_when_it_is_worse_than_chance_explains(
    tmp_path: Path, scores: list[int], ended: int, best: int
) -> None:
    found, step = watch(tmp_path, scores)
    assert (step, found.step) == (ended, best)
    assert found.values == {"trained_share": best / 100}
    assert found.metric.value == scores[best // 10 - 1] / 100
    assert found.num_scored == 100 * len(json.loads((tmp_path / "scores.json").read_text()))


def test_a_score_is_taken_once(tmp_path: Path) -> None:
    watch(tmp_path, [50, 90, 60, 60, 60])
    again, step = watch(tmp_path, [])  # what was killed has its scores
    assert (step, again.step) == (50, 20)


def test_where_the_share_is_a_step() -> None:
    assert [_stopping.last_step(share, 40) for share in (0.001, 0.25, 1.0)] == [1, 10, 40]


@pytest.fixture
def patient(toy: Any) -> Any:
    return toy.finetuning.model_copy(update={"steps": 40, "patience": 2})


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Held-out hits that are best after an eighth of the steps: 12 images, so many right."""
    from bench.jobs.finetune import Tuning

    right = [3, 5, 11, 4, 4, 4, 4, 4]
    asked: list[int] = []
    real = Tuning.hits

    def hits(self: Tuning) -> np.ndarray:
        if not self._task.chooses:
            return real(self)
        asked.append(len(asked))
        return np.arange(12) < right[min(len(asked), len(right)) - 1]

    monkeypatch.setattr(Tuning, "hits", hits)
    return asked


def test_a_candidate_stops_and_the_final_run_ends_where_it_was_best(
    toy: Any,
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    patient: Any,
    falling: list[int],
    tmp_path: Path,
) -> None:
    spec = toy.finetune(pretrained, 0.03, recipe=patient, held_out=0.2, eval_split="held-out")
    candidate, folder = perform(spec, {"checkpoint": pretrained})
    assert candidate.metrics["val_top1"].value == pytest.approx(11 / 12)
    assert candidate.values == {"learning_rate": 0.03, "trained_share": 6 / 40}
    assert candidate.cost is not None
    assert candidate.cost.examples == 10 * 8 + 5 * 12  # five scores, the last two in vain
    needs = {"candidate:0": candidate.job_id}
    select = toy.spec("select", eval_split="held-out", needs=needs)
    selected, _ = perform(select, {"candidate:0": (candidate, folder)})
    assert selected.values["trained_share"] == 6 / 40
    inputs = {"checkpoint": pretrained, "select": (selected, tmp_path)}
    final, _ = perform(toy.finetune(pretrained, None, recipe=patient, eval_split="test"), inputs)
    assert final.cost is not None
    assert final.cost.examples == 6 * 8 + toy.num_test


def test_a_candidate_that_was_told_to_end_goes_on_with_its_scores(
    toy: Any,
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    patient: Any,
    falling: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bench import preemption

    spec = toy.finetune(pretrained, 0.03, recipe=patient, held_out=0.2, eval_split="held-out")
    whole, _ = perform(spec, {"checkpoint": pretrained}, folder="whole")
    falling.clear()
    monkeypatch.setattr(preemption, "asked", lambda: len(falling) == 4)
    with pytest.raises(Preempted):
        perform(spec, {"checkpoint": pretrained})
    monkeypatch.setattr(preemption, "asked", lambda: False)
    resumed, _ = perform(spec, {"checkpoint": pretrained})
    assert (resumed.metrics, resumed.values) == (whole.metrics, whole.values)
    assert len(falling) == 5
