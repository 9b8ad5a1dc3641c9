"""What every job kind keeps: a file, a version that plans name, a source, known metrics."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from bench import metrics
from bench.jobs import JobContext
from bench.kinds import KINDS, in_order, stages
from bench.kinds.base import Block

METRIC = re.compile(r'"((?:[a-z]+_)*(?:top1|loss|mce))\b')


def module(kind: str) -> ModuleType:
    return importlib.import_module(KINDS[kind].run.partition(":")[0])


def test_every_kind_has_a_card_and_a_heavy_side_of_its_name() -> None:
    heavy = Path(importlib.import_module("bench.jobs").__path__[0])
    files = {path.stem for path in heavy.glob("*.py") if not path.stem.startswith("_")}
    assert files == set(KINDS)
    for kind, card in KINDS.items():
        assert card.run == f"bench.jobs.{kind}:run"


def test_stages_are_of_one_kind_or_the_same_object() -> None:
    for card in in_order():
        for stage in card.stages:
            assert stages()[stage.name] is stage


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_a_table_has_a_block_whose_keys_are_documented(kind: str) -> None:
    card = KINDS[kind]
    assert (card.table is None) == (card.block is None) == (card.plan is None)
    if card.block is None:
        return
    assert issubclass(card.block, Block)
    for record in card.block.__mro__[: card.block.__mro__.index(Block) + 1]:
        source = inspect.getsource(record)
        for key in inspect.get_annotations(record):
            documented = rf"^    {key}: .*\n(?:    [^\n]*\n)??    \"\"\"\S"
            assert re.search(documented, source, re.MULTILINE), key


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_names_its_source_and_says_what_it_returns(kind: str) -> None:
    found = module(kind)
    assert re.search(r"^Source: .*\S", found.__doc__ or "", flags=re.MULTILINE)
    assert (found.run.__doc__ or "").startswith("Return ")
    parameters = inspect.signature(found.run, eval_str=True).parameters
    assert [p.annotation for p in parameters.values()] == [JobContext]


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_of_a_kind_has_a_card(kind: str) -> None:
    text = Path(module(kind).__file__ or "").read_text(encoding="utf-8")
    for name in METRIC.findall(text):
        if name != "top1":
            assert name in metrics.cards()


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_that_a_stage_leaves_has_a_card(kind: str) -> None:
    params = {"shots": (1, 5), "neighbours": (3,), "scoring": "corruption", "batch_sizes": (2,)}
    for stage in KINDS[kind].stages:
        for name in stage.metrics(params):
            assert metrics.metric(name)
