"""Pre-training: weights, loss, cost, and the same bits after a kill."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.data import catalog, loader
from bench.data.packs.read import Split
from bench.data.sources.shards import write_shard
from bench.errors import DataError
from bench.files import file_sha256
from bench.jobs import _work, finetune, pretrain
from bench.specs import DatasetCard, JobResult
from bench.training import Checkpoints

Perform = Callable[..., tuple[JobResult, Path]]


def test_pretrain_returns_weights_loss_and_cost(pretrained: tuple[JobResult, Path]) -> None:
    result, folder = pretrained
    assert result.status == "done"
    loss = result.metrics["train_loss"]
    assert loss.value is not None
    assert 0 < loss.value < 3
    assert result.files == {"model.safetensors": file_sha256(folder / "model.safetensors")}
    cost = result.cost
    assert cost is not None
    assert cost.examples == 12 * 8
    assert cost.wall_s > 0
    assert cost.core_s > 0
    assert cost.images_per_s is not None
    assert 0 < cost.peak_memory_gib < 100
    assert result.environment["device_kind"] == "cpu"
    assert {"vitbench", "torch", "timm", "device"} <= result.environment.keys()
    assert result.environment["decoders"] == "1"  # the job's own thread
    assert "cuda" not in result.environment


def test_the_same_spec_gives_the_same_bits_and_another_seed_others(
    toy: Any, perform: Perform
) -> None:
    def digest(folder: str, seed: int) -> str:
        spec = toy.spec("pretrain", recipe=toy.pretraining, seed=seed)
        return perform(spec, folder=folder)[0].files["model.safetensors"]

    assert digest("a", 0) == digest("b", 0) != digest("c", 1)


@pytest.fixture
def streamed(toy: Any, tmp_path: Path) -> DatasetCard:
    """The card of the toy's training images as PNGs in three shards that are not packed."""
    folder = tmp_path / "shards"
    folder.mkdir()
    split = toy.data.split("train")
    examples = []
    for image_HWC, label in zip(split.images_NHWC, split.labels_N, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image_HWC).save(buffer, "PNG")
        examples.append((buffer.getvalue(), ".png", int(label)))
    for index in range(3):
        write_shard(folder / f"{index}.tar", examples[index::3])
    block = {"reader": "shards", "path": str(folder), "image_size_px": 8, "stream": True}
    return catalog.resolve("streamed", block, base_dir=tmp_path)


def test_shards_are_trained_on_where_they_lie_and_resumed_to_the_same_bits(
    toy: Any, perform: Perform, monkeypatch: pytest.MonkeyPatch, streamed: DatasetCard
) -> None:
    monkeypatch.setattr(pretrain, "Checkpoints", functools.partial(Checkpoints, interval_s=0))
    monkeypatch.setattr(_work, "packed", None)  # nothing is packed
    spec = toy.spec("pretrain", recipe=toy.pretraining)
    spec = spec.model_copy(
        update={"data": spec.data.model_copy(update={"digest": streamed.digest})}
    )
    whole, _ = perform(spec, folder="whole", dataset=streamed)

    def killed(line: dict[str, Any]) -> None:
        if line["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(spec, folder="resumed", dataset=streamed, report=killed)
    resumed, _ = perform(spec, folder="resumed", dataset=streamed, attempt=2)
    assert resumed.files == whole.files
    assert whole.cost is not None
    assert whole.cost.examples == 12 * 8


def test_a_streamed_set_is_another_one_than_the_packed_set(streamed: DatasetCard) -> None:
    block = {"reader": "shards", "path": streamed.args["path"], "image_size_px": 8}
    packed = catalog.resolve("packed", block, base_dir=Path("/"))
    assert packed.digest != streamed.digest  # the order of its images is another one
    wrong = {**block, "reader": "image_folder", "stream": True}
    with pytest.raises(DataError, match="stream: the image_folder reader has no such key"):
        catalog.resolve("folder", wrong, base_dir=Path("/"))


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_killed_training_job_resumes_to_the_same_bits(
    toy: Any,
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    module = {"pretrain": pretrain, "finetune": finetune}[kind]
    monkeypatch.setattr(module, "Checkpoints", functools.partial(Checkpoints, interval_s=0))
    if kind == "pretrain":
        spec = toy.spec("pretrain", recipe=toy.pretraining)
    else:
        spec = toy.spec(
            "finetune",
            recipe=toy.finetuning,
            size_px=12,
            eval_split="test",
            needs={"checkpoint": pretrained[0].job_id},
        )
    inputs = {"checkpoint": pretrained}
    whole, _ = perform(spec, inputs, folder="whole")

    def killed(line: dict[str, Any]) -> None:
        if line["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(spec, inputs, folder="resumed", report=killed)
    lines: list[dict[str, Any]] = []
    resumed, _ = perform(spec, inputs, folder="resumed", report=lines.append, attempt=2)
    assert lines[0]["step"] == 5
    assert resumed.attempt == 2
    assert resumed.files == whole.files
    assert resumed.metrics == whole.metrics


def test_pretrain_sees_a_subset_of_the_seed(
    toy: Any, perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def batches(split: Split, indices_N: np.ndarray, *args: Any, **kwargs: Any) -> loader.Batches:
        seen.append(indices_N)
        return real(split, indices_N, *args, **kwargs)

    real = loader.Batches
    monkeypatch.setattr(loader, "Batches", batches)
    for num, seed in ((30, 0), (12, 0), (12, 1), (None, 0)):
        perform(toy.spec("pretrain", recipe=toy.pretraining, num_examples=num, seed=seed))
    large, small, other, everything = seen
    assert len(small) == 12
    assert set(small) < set(large) < set(everything) == set(range(toy.num_train))
    assert set(small) != set(other)
