"""Pairs: which systems may be set against each other, and on what they are matched."""

from __future__ import annotations

import pytest

from bench.data import catalog
from bench.errors import SuiteError
from bench.kinds.fewshot import FewshotBlock
from bench.kinds.pretrain import PretrainBlock
from bench.kinds.weights import WeightsBlock
from bench.plan import plan
from bench.plan.pairs import amount
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import Pair, Recipe

RECIPE = Recipe(steps=5, batch_size=8, optimizer="adam", base_lr=1e-3, schedule="constant")


def pretrain(*systems: str, size: int = 64) -> PretrainBlock:
    return PretrainBlock(
        systems=systems, upstream="fractals", num_examples=(size,), recipe="r",
        protocol="pretrain-micro",
    )  # fmt: skip


def fewshot(*systems: str, data: str = "digits", protocol: str = "fewshot-micro") -> FewshotBlock:
    return FewshotBlock(
        kind="fewshot", systems=systems, datasets=(data,), protocol=protocol, shots=(1,)
    )


def planned(pair: Pair, *blocks: PretrainBlock | WeightsBlock | FewshotBlock) -> JobGraph:
    suite = SuiteSpec(
        name="pairs",
        title="Pairs",
        claim="Any two can meet.",
        pretrain=tuple(block for block in blocks if isinstance(block, PretrainBlock)),
        weights=tuple(block for block in blocks if isinstance(block, WeightsBlock)),
        transfer=tuple(block for block in blocks if isinstance(block, FewshotBlock)),
        recipe={"r": RECIPE},
        pair=(pair,),
    )
    return plan(suite, datasets=catalog.datasets(), protocols=catalog.protocols())


def test_any_two_or_more_systems_are_named_by_any_of_their_names() -> None:
    pair = Pair(systems=("BiT-micro", "hybrid-micro", "ViT-micro/4"))
    graph = planned(pair, pretrain("vit-micro", "bit-micro", "hybrid-micro"), fewshot())
    assert graph.suite.pair[0].systems == ("bit-micro", "hybrid-micro", "vit-micro")


def test_systems_that_are_never_measured_after_the_same_images_are_refused() -> None:
    pair = Pair(systems=("vit-micro", "bit-micro"))
    with pytest.raises(SuiteError, match=r'pair\[0\].systems\[1\]: "bit-micro" never meets "vit-m'):
        planned(pair, pretrain("vit-micro"), pretrain("bit-micro", size=32), fewshot())
    with pytest.raises(SuiteError, match='"bit-micro" never meets "vit-micro"'):
        planned(pair, pretrain("vit-micro", "bit-micro"), fewshot("vit-micro"))
    apart = (fewshot("vit-micro"), fewshot("bit-micro", data="gratings"))
    with pytest.raises(SuiteError, match='"bit-micro" never meets "vit-micro"'):
        planned(pair, pretrain("vit-micro", "bit-micro"), *apart)


def test_public_weights_are_matched_on_anything_but_pre_training_compute() -> None:
    names = ("vit-b16", "bit-r50x1")
    blocks = (
        WeightsBlock(systems=names, weights="in21k"),
        fewshot(data="cifar10", protocol="vit-fewshot"),
    )
    with pytest.raises(SuiteError, match=r"systems\[0\]: \"vit-b16\" starts from weights.*params"):
        planned(Pair(systems=names), *blocks)
    with pytest.raises(SuiteError, match=r"parameters on imagenet-21k/[0-9]+ differs by 3.65x"):
        planned(Pair(systems=names, match="params"), *blocks)
    graph = planned(Pair(systems=names, match="none"), *blocks)
    pair = Pair(systems=names, match="forward_gflops", max_ratio=5)
    gflops = [amount(job, pair) for job in graph.jobs if job.spec.kind == "weights"]
    assert gflops == pytest.approx([35.13, 8.21], rel=0.01)
    assert planned(pair, *blocks).suite.pair == (pair,)
