"""Public weights: what they were trained on is known by its cards, and said in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import baselines
from bench.data import catalog
from bench.errors import SuiteError
from bench.models import build
from bench.models.layouts import write
from bench.plan import plan, suites
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


# --- Noisy Student: timm's files ----------------------------------------------------------------

NOISY_STUDENT = {
    (card.name, source.name): source
    for card in baselines.FAMILIES["noisy-student"].systems
    for source in card.weights
}

STARTS_FROM_NOISY_STUDENT = """
name = "noisy"
title = "Noisy Student"
claim = "The strongest CNNs of the paper's Table 2 start from released weights."
device_memory_gib = 10_000.0

[[weights]]
systems = ["noisy-student-b7", "noisy-student-l2"]
weights = "ns_jft_in1k"

[[transfer]]
kind = "finetune"
datasets = ["cifar10"]
protocol = "vit-finetune"
recipe = "vit-finetune-cifar"
"""


def test_a_suite_starts_from_noisy_student(tmp_path: Path) -> None:
    file = tmp_path / "noisy.toml"
    file.write_text(STARTS_FROM_NOISY_STUDENT, encoding="utf-8")
    graph = plan(suites.load(str(file)), datasets=catalog.datasets(), protocols=catalog.protocols())
    assert not [job.name for job in graph.jobs if job.refused]
    starts = {job.labels.system: job for job in graph.jobs if job.labels.stage == "weights"}
    assert {name: job.spec.params["url"] for name, job in starts.items()} == {
        "noisy-student-b7": "hf-hub:timm/tf_efficientnet_b7.ns_jft_in1k",
        "noisy-student-l2": "hf-hub:timm/tf_efficientnet_l2.ns_jft_in1k",
    }
    assert {job.spec.params["num_classes"] for job in starts.values()} == {1000}
    finals = [job for job in graph.jobs if job.labels.stage == "final"]
    assert {job.spec.needs["checkpoint"] for job in finals} == {
        job.job_id for job in starts.values()
    }


@pytest.mark.parametrize(("system", "name"), NOISY_STUDENT)
def test_noisy_students_files_hold_our_tensors_by_timms_names(system: str, name: str) -> None:
    """Every name and shape at full size, without the values."""
    source = NOISY_STUDENT[system, name]
    model = source.url.removeprefix("hf-hub:timm/")
    config = timm.get_pretrained_cfg(model)
    assert config is not None
    assert config.hf_hub_id == f"timm/{model}"
    with torch.device("meta"):
        theirs = timm.create_model(model).state_dict()
        layout = baselines.FAMILIES["noisy-student"].layout(source.layout)
        ours = write(build(system, num_classes=1000), layout)
    assert {key: tensor.shape for key, tensor in ours.items()} == {
        key: tensor.shape for key, tensor in theirs.items()
    }
