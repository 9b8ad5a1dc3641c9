"""The choice of a learning rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.errors import JobError
from bench.specs import JobResult

Choose = Callable[..., JobResult]


def test_select_takes_the_best(choose: Choose) -> None:
    result = choose([(0.01, 0.5), (0.03, 0.9), (0.1, 0.7)])
    assert result.values == {"learning_rate": 0.03, "candidate": f"{1:016x}"}
    assert result.metrics["val_top1"].value == 0.9


def test_select_takes_the_smaller_rate_of_equals(choose: Choose) -> None:
    result = choose([(0.1, 0.9), (0.03, 0.9), (0.01, 0.8), (0.3, None)])
    assert result.values["learning_rate"] == 0.03


def test_select_needs_candidates(choose: Choose) -> None:
    with pytest.raises(JobError, match="no candidates"):
        choose([])


def test_select_says_why_when_every_candidate_diverged(choose: Choose) -> None:
    with pytest.raises(JobError, match=r"all 2 learning rates failed; 0\.3: the loss became nan"):
        choose([(0.3, None), (1.0, None)])
