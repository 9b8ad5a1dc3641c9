"""Early stopping: where a fine-tuning ends, by its scores on held-out images.

A candidate is scored after each twentieth of its steps. It is right up to the latest step whose
score is within a standard error of the best: one lucky score among twenty ends nothing, and a
schedule that decays earns what its last steps give. When as many scores as the recipe's `patience`
have passed since then, the candidate ends. The final run, which trains on the held-out images too,
ends after the same share of its steps.

Scores are kept in the job's folder: a candidate that was killed goes on with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.files import read_json
from bench.specs import Metric, Scalar
from bench.training import group, replace_file

SHARE = "trained_share"
"""Value in the results of candidates and of their choice: the step that was best, as a share."""


class Watch:
    """The scores of a candidate so far, and what they say."""

    def __init__(
        self, path: Path, *, num_steps: int, patience: int, hits: Callable[[], np.ndarray]
    ) -> None:
        self._path = path
        self._num_steps = num_steps
        self._patience = patience
        self._hits = hits
        self._scores: list[tuple[int, float, int]] = [tuple(s) for s in read_json(path) or ()]

    def ends(self, step: int) -> bool:
        """Score the candidate at a step, once, and return whether it ends there."""
        self._score(step)
        passed = [score for score in self._scores if self.step < score[0] <= step]
        return len(passed) >= self._patience

    def finish(self, step: int) -> None:
        """Score the candidate after the last step that it took, unless it was."""
        self._score(step)

    @property
    def step(self) -> int:
        """The latest step whose score is within a standard error of the best."""
        _, best, num = max(self._scores, key=lambda score: score[1])
        limit = best - math.sqrt(best * (1 - best) / num)
        return max(step for step, score, _ in self._scores if score >= limit)

    @property
    def metric(self) -> Metric:
        """The score at that step."""
        score, num = next((score, num) for step, score, num in self._scores if step == self.step)
        return Metric(name="val_top1", value=score, n=num)

    @property
    def values(self) -> dict[str, Scalar | None]:
        """What the final run has to know."""
        return {SHARE: self.step / self._num_steps}

    @property
    def num_scored(self) -> int:
        """Images scored, over all steps."""
        return sum(num for _, _, num in self._scores)

    def _score(self, step: int) -> None:
        if any(known == step for known, _, _ in self._scores):
            return
        hits_N = self._hits()
        self._scores.append((step, float(hits_N.mean()), len(hits_N)))
        if not group.current().leads:
            return
        text = json.dumps(self._scores)
        replace_file(self._path, lambda path: path.write_text(text, encoding="ascii"))


def last_step(share: float, num_steps: int) -> int:
    """Return the step after which a run ends that takes a share of its steps; at least one."""
    return max(1, round(share * num_steps))
