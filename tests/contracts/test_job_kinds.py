"""What every job kind keeps: a file, a version that plans name, a source, known metrics."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from bench import jobs, metrics
from bench.jobs import JobContext
from bench.specs import KIND_VERSIONS

METRIC = re.compile(r'"((?:[a-z]+_)*(?:top1|loss|mce))\b')


def module(kind: str) -> ModuleType:
    return importlib.import_module(f"bench.jobs.{kind}")


def test_every_kind_is_a_file_with_the_version_that_plans_name() -> None:
    assert set(jobs.KINDS) == set(KIND_VERSIONS)
    for kind in jobs.KINDS:
        assert KIND_VERSIONS[kind] == module(kind).VERSION


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_a_kind_names_its_source_and_says_what_it_returns(kind: str) -> None:
    found = module(kind)
    assert re.search(r"^Source: .*\S", found.__doc__ or "", flags=re.MULTILINE)
    assert (found.run.__doc__ or "").startswith("Return ")
    parameters = inspect.signature(found.run, eval_str=True).parameters
    assert [p.annotation for p in parameters.values()] == [JobContext]


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_every_metric_of_a_kind_has_a_card(kind: str) -> None:
    text = Path(module(kind).__file__ or "").read_text(encoding="utf-8")
    for name in METRIC.findall(text):
        if name != "top1":
            assert name in metrics.METRICS
