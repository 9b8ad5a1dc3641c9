"""Jobs of a limited run: few images of what is evaluated, all of what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import loader
from bench.data.packs.drawn import Drawn
from bench.data.packs.read import Split
from bench.data.splits import drawn_rows, held_out_indices
from bench.jobs import _work
from bench.specs import JobResult, JobSpec

Perform = Callable[..., tuple[JobResult, Path]]
MOST = 9


def limited(spec: JobSpec) -> JobSpec:
    assert spec.data is not None
    data = spec.data.model_copy(update={"num_evaluated": MOST})
    return spec.model_copy(update={"data": data})


def hits(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "hits.npz"))


@pytest.fixture
def drawn_M(toy: Any) -> np.ndarray:
    """The rows of test that a limited job scores."""
    rows_M = drawn_rows(toy.data.split("test").labels_N, MOST)
    assert len(rows_M) == MOST
    return rows_M


@pytest.mark.parametrize(
    ("kind", "params"),
    [("evaluate", {"scoring": "top1"}), ("calibration", {"bins": 5})],
)
def test_a_classifier_is_scored_on_the_drawn_images(
    kind: str, params: Any, toy: Any, perform: Perform, finetuned: Any, drawn_M: np.ndarray
) -> None:
    spec = toy.spec(
        kind, params=params, needs={"checkpoint": finetuned[0].job_id}, eval_split="test",
        train_split="",
    )  # fmt: skip
    whole, few = (perform(one, {"checkpoint": finetuned}) for one in (spec, limited(spec)))
    np.testing.assert_array_equal(hits(few[1])["hits"], hits(whole[1])["hits"][drawn_M])
    assert {metric.n for metric in few[0].metrics.values()} == {MOST}
    assert few[0].cost is not None
    assert few[0].cost.examples == MOST


def test_fine_tuning_trains_on_all_images_and_tests_on_the_drawn_ones(
    toy: Any, perform: Perform, pretrained: Any, drawn_M: np.ndarray
) -> None:
    spec = toy.finetune(pretrained, 0.05, eval_split="test")
    whole, few = (perform(one, {"checkpoint": pretrained}) for one in (spec, limited(spec)))
    assert whole[0].files["model.safetensors"] == few[0].files["model.safetensors"]
    np.testing.assert_array_equal(hits(few[1])["hits"], hits(whole[1])["hits"][drawn_M])
    assert few[0].metrics["test_top1"].n == MOST


def test_of_the_held_out_images_few_are_scored_and_none_is_trained_on(
    toy: Any, perform: Perform, pretrained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, real = [], loader.Batches

    def batches(split: Split, indices_N: np.ndarray, *args: Any, **kwargs: Any) -> loader.Batches:
        trained.append(indices_N)
        return real(split, indices_N, *args, **kwargs)

    monkeypatch.setattr(loader, "Batches", batches)
    spec = toy.finetune(pretrained, 0.05, held_out=0.5, eval_split="held-out")
    whole, few = (perform(one, {"checkpoint": pretrained}) for one in (spec, limited(spec)))
    assert (whole[0].metrics["val_top1"].n, few[0].metrics["val_top1"].n) == (30, MOST)
    np.testing.assert_array_equal(*trained)
    labels_N = toy.data.split("train").labels_N
    _, held_N = held_out_indices(labels_N, 0.5, seed=0)
    rows = drawn_rows(labels_N[held_N], MOST)
    np.testing.assert_array_equal(hits(few[1])["hits"], hits(whole[1])["hits"][rows])


FROZEN = {
    "fewshot": {"shots": (1, 30), "draws": 2, "l2": 1.0},
    "knn": {"neighbours": (3, MOST), "temperature": 0.07},
    "probe": {"l2s": (0.1, 1.0)},
}


@pytest.mark.parametrize("kind", FROZEN)
def test_features_are_those_of_the_drawn_images(
    kind: str, toy: Any, perform: Perform, pretrained: Any, tmp_path: Path
) -> None:
    spec = toy.spec(
        kind, params=FROZEN[kind], needs={"checkpoint": pretrained[0].job_id}, eval_split="test",
        held_out=0.3 if kind == "probe" else None,
    )  # fmt: skip
    perform(spec, {"checkpoint": pretrained})
    whole = features(tmp_path)
    result, folder = perform(limited(spec), {"checkpoint": pretrained})
    few = {name: z_ND for name, z_ND in features(tmp_path).items() if name not in whole}
    assert sorted(len(z_ND) for z_ND in whole.values()) == [toy.num_test, toy.num_train]
    assert [len(z_ND) for z_ND in few.values()] == [MOST, MOST]
    by_length = {len(z_ND): z_ND for z_ND in whole.values()}
    for split, num in (("train", toy.num_train), ("test", toy.num_test)):
        rows = drawn_rows(toy.data.split(split).labels_N, MOST)
        assert any(np.allclose(z_ND, by_length[num][rows], atol=1e-6) for z_ND in few.values())
    assert {found.shape[-1] for found in hits(folder).values()} == {MOST}
    assert result.cost is not None
    assert result.cost.examples == 2 * MOST
    if kind == "fewshot":  # three images of each class are there
        assert result.values["short_classes/30"] == 3


def features(tmp_path: Path) -> dict[str, np.ndarray]:
    paths = (tmp_path / "cache" / "features").glob("*/features.npy")
    return {path.parent.name: np.load(path) for path in paths}


def test_a_pool_is_one_of_the_drawn_images(toy: Any, perform: Perform, pretrained: Any) -> None:
    params = {"shots": (1,), "draws": 1, "l2": 1.0, "pool": 6}
    spec = toy.spec(
        "fewshot", params=params, needs={"checkpoint": pretrained[0].job_id}, eval_split="test"
    )
    result, _ = perform(limited(spec), {"checkpoint": pretrained})
    assert result.cost is not None
    assert result.cost.examples == 6 + MOST


def test_every_class_and_every_class_subset_is_still_there(
    toy: Any, perform: Perform, finetuned: Any
) -> None:
    spec = toy.spec(
        "evaluate", params={"scoring": "class-subset"}, eval_split="test", train_split="",
        needs={"checkpoint": finetuned[0].job_id},
    )  # fmt: skip
    context = toy.context(limited(spec), finetuned[1].parent, {"checkpoint": finetuned})
    labels_N = _work.labels(context, _work.dataset(context), "test")
    assert np.bincount(labels_N).tolist() == [3, 3, 3]


def test_without_a_limit_the_data_set_is_as_it_was(toy: Any, tmp_path: Path) -> None:
    spec = toy.spec("evaluate", eval_split="test")
    assert _work.dataset(toy.context(spec, tmp_path)) is toy.data
    large = limited(spec).model_copy(
        update={"data": spec.data.model_copy(update={"num_evaluated": 1000})}
    )
    data = _work.dataset(toy.context(large, tmp_path))
    assert isinstance(data, Drawn)
    assert data.split("test") is toy.data.split("test")
