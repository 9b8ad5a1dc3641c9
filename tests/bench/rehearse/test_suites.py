"""Every suite at every large scale, rehearsed on a GPU that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plan import plan_with_catalogue, suites
from bench.plan.rehearsed import Measured
from bench.plan.shapes import parts
from bench.rehearse.work import rehearse

REPOSITORY = Path(__file__).resolve().parents[3]


def cases() -> list[tuple[str, str | None]]:
    names = sorted(path.stem for path in (REPOSITORY / "suites").glob("*.toml"))
    scales: dict[str, tuple[str | None, ...]] = {"quickstart": (None,)}  # it has but one
    return [(name, scale) for name in names for scale in scales.get(name, ("public", "full"))]


@pytest.fixture(scope="module")
def done() -> dict[str, Measured]:
    """What was rehearsed so far: suites share shapes."""
    return {}


@pytest.mark.slow
@pytest.mark.rehearsal
@pytest.mark.parametrize(("name", "scale"), cases())
def test_no_job_of_a_suite_has_a_fault(
    name: str, scale: str | None, done: dict[str, Measured], tmp_path: Path
) -> None:
    graph = plan_with_catalogue(suites.load(name, scale=scale), {})
    faults = {}
    for part in parts(graph, device="cuda"):
        # Heads of other widths run the same code.
        shape = part.shape.model_copy(update={"num_classes": 10})
        if shape.key not in done:
            done[shape.key] = rehearse(shape, folder=tmp_path)
        if done[shape.key].fault:
            faults[part.job.name] = done[shape.key].fault
    assert not faults
