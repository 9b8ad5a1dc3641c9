"""Batches are functions of (seed, step): each example once an epoch, resumable at any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data.loader import Batches, batch_indices, evaluation_batches, step_generator
from bench.data.prepare import Split
from bench.data.transforms import preset


def split_of(num: int, side: int = 8) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, side, side, 3), dtype=np.uint8)
    return Split(images, np.arange(num, dtype=np.int64))


@pytest.mark.parametrize(("num", "batch"), [(10, 3), (7, 7), (5, 12), (64, 16), (1, 4)])
def test_each_example_once_an_epoch(num: int, batch: int) -> None:
    steps = 3 * num  # so that the stream ends with an epoch
    stream = np.concatenate(
        [batch_indices(num, batch_size=batch, seed=4, step=step) for step in range(steps)]
    )
    epochs = stream.reshape(-1, num)
    assert (np.sort(epochs, axis=1) == np.arange(num)).all()
    if num > 4:
        assert (epochs[0] != epochs[1]).any()


def test_any_step_repeats_by_itself() -> None:
    batches = Batches(split_of(40), None, preset("shift-flip", size_px=8), batch_size=16, seed=2)
    forward = [batches.at(step) for step in range(6)]
    for step in (5, 0, 3):  # in another order, as after a resume
        for found, expected in zip(batches.at(step), forward[step], strict=True):
            assert torch.equal(found, expected)
    other = Batches(split_of(40), None, preset("shift-flip", size_px=8), batch_size=16, seed=3)
    assert not torch.equal(other.at(0)[0], forward[0][0])


def test_a_batch_has_the_images_of_its_labels() -> None:
    split = split_of(20)
    chosen = np.array([3, 5, 7, 11])
    batches = Batches(split, chosen, preset("resize", size_px=8), batch_size=8, seed=0)
    x_BCHW, y_B = batches.at(0)
    assert batches.num_examples == 4
    assert sorted(y_B.tolist()) == sorted([3, 5, 7, 11] * 2)
    assert x_BCHW.dtype == torch.float32
    expected = torch.from_numpy(split.images_NHWC[y_B.numpy()]).permute(0, 3, 1, 2) / 127.5 - 1
    assert torch.allclose(x_BCHW, expected, atol=1e-6)


def test_streams_of_neighbouring_seeds_and_steps_differ() -> None:
    drawn = {
        (seed, step): int(torch.randint(2**40, (1,), generator=step_generator(seed, step)))
        for seed in range(20)
        for step in range(20)
    }
    assert len(set(drawn.values())) == 400


@pytest.mark.parametrize("num", [1, 7, 8, 9])
def test_evaluation_gives_each_example_once_in_order(num: int) -> None:
    transform = preset("resize", size_px=8)
    sizes, labels = [], []
    for x_BCHW, y_B in evaluation_batches(split_of(num), transform, batch_size=4):
        sizes.append(len(x_BCHW))
        labels += y_B.tolist()
    assert labels == list(range(num))
    assert sizes[-1] == (num % 4 or 4)


def test_evaluation_of_chosen_examples() -> None:
    chosen = np.array([9, 2, 4])
    got = list(
        evaluation_batches(
            split_of(10), preset("resize", size_px=8), batch_size=2, indices_N=chosen
        )
    )
    assert [y.tolist() for _, y in got] == [[9, 2], [4]]


@pytest.mark.parametrize(("num", "batch", "step"), [(0, 4, 0), (4, 0, 0), (4, 4, -1)])
def test_batches_of_nothing(num: int, batch: int, step: int) -> None:
    with pytest.raises(ValueError, match="at least one example"):
        batch_indices(num, batch_size=batch, seed=0, step=step)
