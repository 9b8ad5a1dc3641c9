"""Public weights: what they were trained on is known by its cards, and said in words."""

from __future__ import annotations

import pytest

import baselines
from bench.data import catalog
from bench.errors import SuiteError
from bench.plan import suites
from bench.plan.names import Names
from bench.specs import Training, WeightsSource

IMAGENET_21K = Training(dataset="imagenet-21k")
AT_384 = Training(dataset="imagenet-1k", image_size_px=384)
NOISY = Training(dataset="imagenet-1k", unlabelled="jft-300m")


@pytest.fixture(scope="module")
def names() -> Names:
    return Names(suites.load("quickstart"), catalog.datasets(), {}, "mine.toml")


def _weights(*trained_on: Training) -> WeightsSource:
    return WeightsSource(name="w", url="", layout="none", trained_on=trained_on, licence="")


def test_all_weights_were_trained_on_data_with_a_card(names: Names) -> None:
    sources = {
        (card.name, s.name): s for card in baselines.systems().values() for s in card.weights
    }
    assert len(sources) > 30
    for source in sources.values():
        first, last = names.trained_on(source, "weights[0]")
        assert (first.name, last.name) == (
            source.trained_on[0].dataset,
            source.trained_on[-1].dataset,
        )
    refused = {names.trained_on(s, "")[0].refusal != "" for s in sources.values() if not s.url}
    assert refused == {True}


def test_the_trainings_of_vit_b16() -> None:
    found = {source.name: source for source in baselines.system("vit-b16").weights}
    assert found["in21k"].trained_on == (IMAGENET_21K,)
    assert found["in21k-in1k"].trained_on == (IMAGENET_21K, AT_384)
    assert found["jft"].trained_on == (Training(dataset="jft-300m"),)
    assert {name for name, source in found.items() if source.release == "AugReg's"} == {
        "augreg-in21k"
    }


@pytest.mark.parametrize(
    ("trained_on", "words"),
    [
        ((Training(dataset="laion-2b"),), "laion-2b"),
        (
            (Training(dataset="laion-2b"), IMAGENET_21K, AT_384),
            "laion-2b, then ImageNet-21k, then ImageNet at 384 px",
        ),
        (
            (NOISY, Training(dataset="laion-2b")),
            "ImageNet, and JFT-300M without labels, then laion-2b",
        ),
        ((), "data that their card does not name"),
    ],
)
def test_what_no_suite_can_start_from_is_said_in_words(
    names: Names, trained_on: tuple[Training, ...], words: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        names.trained_on(_weights(*trained_on), "weights[0].weights")
    assert f'weights "w" were trained on {words}, which no suite' in str(caught.value)
