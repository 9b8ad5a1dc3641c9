"""The few-shot kind against the literal rule, and the features that kinds share."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import models
from bench.data import transforms
from bench.errors import JobError
from bench.jobs import _features
from bench.paths import FeaturePaths
from bench.specs import JobResult, JobSpec
from bench.training import read_tensors, write_tensors

Perform = Callable[..., tuple[JobResult, Path]]


@pytest.fixture
def fewshot_spec(toy: Any, pretrained: tuple[JobResult, Path]) -> JobSpec:
    return toy.spec(
        "fewshot",
        eval_split="test",
        params={"shots": (1, 3, 30), "draws": 2, "l2": 1.0},
        needs={"checkpoint": pretrained[0].job_id},
    )


def literal_fewshot(
    toy: Any, pretrained: tuple[JobResult, Path], *, num_train: int | None = None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """big_vision's rule on features of a model that is built and loaded by hand."""
    model = models.build(
        toy.vit, num_classes=toy.num_classes, image_size_px=8, pretraining_head=True
    )
    model.load_state_dict(
        read_tensors(
            pretrained[1] / "model.safetensors", sha256=pretrained[0].files["model.safetensors"]
        )
    )
    model.eval()
    transform = transforms.preset("resize", size_px=8)
    with torch.no_grad():
        train, test = (
            model.features(transform(torch.from_numpy(toy.data.split(name).images_NHWC), None))
            .double()
            .numpy()
            for name in ("train", "test")
        )
    train, labels = train[:num_train], toy.data.split("train").labels_N[:num_train]
    for shots in (1, 3, 30):
        for draw in range(2):
            rng = np.random.default_rng(draw)
            order = [rng.permutation(np.where(labels == k)[0]) for k in range(toy.num_classes)]
            chosen = np.concatenate([indices[:shots] for indices in order])
            mean, std = train[chosen].mean(axis=0), train[chosen].std(axis=0) + 1e-5
            x = np.pad((train[chosen] - mean) / std, ((0, 0), (0, 1)), constant_values=100)
            t = np.pad((test - mean) / std, ((0, 0), (0, 1)), constant_values=100)
            y = 2.0 * np.eye(toy.num_classes)[labels[chosen]] - 1
            weight = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
            yield shots, draw, (t @ weight).argmax(axis=1) == toy.data.split("test").labels_N


def test_fewshot_is_the_literal_rule_on_pre_logits(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    result, folder = perform(fewshot_spec, {"checkpoint": pretrained})
    hits = np.load(folder / "hits.npz")
    assert set(result.metrics) == {f"fewshot_top1/{shots}" for shots in (1, 3, 30)}
    for shots, draw, expected in literal_fewshot(toy, pretrained):
        np.testing.assert_array_equal(hits[f"shots_{shots}"][draw], expected)
        right = hits[f"classes/fewshot_top1/{shots}"][draw] == hits["labels"]
        np.testing.assert_array_equal(right, expected)
        metric = result.metrics[f"fewshot_top1/{shots}"]
        assert metric.samples[draw] == pytest.approx(expected.mean())
        assert metric.value == pytest.approx(np.mean(metric.samples))
        assert metric.n == toy.num_test
    # 30 images of a class are asked for, and each of the three has 20.
    assert result.values["short_classes/30"] == 3


def test_features_are_computed_once(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    first, _ = perform(fewshot_spec, {"checkpoint": pretrained})
    assert first.cost is not None
    assert first.cost.examples == toy.num_train + toy.num_test
    assert first.cost.images_per_s is not None
    second, _ = perform(fewshot_spec, {"checkpoint": pretrained}, folder="again")
    assert second.cost is not None
    assert second.cost.examples == 0
    assert second.cost.images_per_s is None
    assert second.metrics == first.metrics
    assert second.files == first.files


def test_shots_come_from_the_pool_and_nothing_else_is_looked_at(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    """The pool is in the order that images are stored in here: its first ones."""
    pool = 17
    spec = fewshot_spec.model_copy(update={"params": {**fewshot_spec.params, "pool": pool}})
    result, folder = perform(spec, {"checkpoint": pretrained})
    assert result.cost is not None
    assert result.cost.examples == pool + toy.num_test
    hits = np.load(folder / "hits.npz")
    for shots, draw, expected in literal_fewshot(toy, pretrained, num_train=pool):
        np.testing.assert_array_equal(hits[f"shots_{shots}"][draw], expected)
    whole, _ = perform(fewshot_spec, {"checkpoint": pretrained}, folder="whole")
    assert whole.cost is not None
    assert whole.cost.examples == toy.num_train  # other features; those of the test images are kept


@pytest.mark.parametrize("damage", ["bytes", "truncated", "shape", "sidecar"])
def test_damaged_features_are_computed_again(
    toy: Any,
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    fewshot_spec: JobSpec,
    tmp_path: Path,
    damage: str,
) -> None:
    first, _ = perform(fewshot_spec, {"checkpoint": pretrained})
    for path in (tmp_path / "cache" / "features").glob("*/features.npy"):
        if damage == "bytes":
            data = bytearray(path.read_bytes())
            data[-3] ^= 64
            path.write_bytes(data)
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:50])
        elif damage == "shape":
            z_ND = np.load(path)[:-1]
            _features._write(FeaturePaths(path.parent), iter([z_ND]), num_rows=len(z_ND))
        else:
            path.with_suffix(".json").write_text("{")
    second, _ = perform(fewshot_spec, {"checkpoint": pretrained}, folder="again")
    assert second.cost is not None
    assert second.cost.examples == toy.num_train + toy.num_test
    assert second.metrics == first.metrics


def test_features_of_other_weights_are_not_mixed_up(
    toy: Any, perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    perform(fewshot_spec, {"checkpoint": pretrained})
    other = perform(toy.spec("pretrain", recipe=toy.pretraining, seed=5))
    spec = fewshot_spec.model_copy(update={"needs": {"checkpoint": other[0].job_id}})
    result, _ = perform(spec, {"checkpoint": other})
    assert result.cost is not None
    assert result.cost.examples == toy.num_train + toy.num_test


def test_features_that_are_not_finite_are_told(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    result, folder = pretrained
    path = folder / "model.safetensors"
    weights = read_tensors(path, sha256=result.files["model.safetensors"])
    weights["encoder.norm.bias"][0] = torch.nan
    broken = result.model_copy(update={"files": {path.name: write_tensors(path, weights)}})
    with pytest.raises(JobError, match="60 of 60 images of toy"):
        perform(fewshot_spec, {"checkpoint": (broken, folder)})


def test_hits_carry_no_time(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    """A date inside the archive would make equal results differ."""
    _, folder = perform(fewshot_spec, {"checkpoint": pretrained})
    with zipfile.ZipFile(folder / "hits.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
