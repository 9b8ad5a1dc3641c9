"""Batches are functions of (seed, step): each example once an epoch, resumable at any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data.loader import Batches, batch_indices, evaluation_batches, step_generator
from bench.data.packs.read import Split
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


# --- workers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resize", "shift-flip", "vit-train", "bit-train"])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_parts_of_all_workers_are_the_whole_batch_bit_by_bit(name: str, world: int) -> None:
    def batches(rank: int, world: int) -> Batches:
        transform = preset(name, size_px=8)
        return Batches(split_of(29), None, transform, batch_size=12, seed=5, rank=rank, world=world)

    whole, parts = batches(0, 1), [batches(rank, world) for rank in range(world)]
    for step in (0, 1, 7, 8, 30):  # inside a block of steps, in the next one, and over an epoch
        x_BCHW, y_B = whole.at(step)
        together = [part.at(step) for part in parts]
        assert {len(y) for _, y in together} == {12 // world}
        assert torch.equal(torch.stack([x for x, _ in together], dim=1).flatten(0, 1), x_BCHW)
        assert torch.equal(torch.stack([y for _, y in together], dim=1).flatten(), y_B)


@pytest.mark.parametrize(("rank", "world", "batch"), [(2, 2, 4), (-1, 2, 4), (0, 3, 4)])
def test_a_batch_that_does_not_divide_among_the_workers(rank: int, world: int, batch: int) -> None:
    with pytest.raises(ValueError, match="must divide among the workers"):
        Batches(
            split_of(9), None, preset("resize", size_px=8), batch_size=batch, seed=0, rank=rank,
            world=world,
        )  # fmt: skip


@pytest.mark.parametrize("num", [1, 8, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_workers_evaluate_each_example_once(num: int, world: int) -> None:
    transform = preset("resize", size_px=8)
    parts = [
        [
            label
            for _, y_B in evaluation_batches(
                split_of(num), transform, batch_size=4, rank=rank, world=world
            )
            for label in y_B.tolist()
        ]
        for rank in range(world)
    ]
    assert sorted(label for part in parts for label in part) == list(range(num))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# --- prefetch -------------------------------------------------------------------------------


def test_prefetching_changes_no_bit_whatever_the_order_of_steps() -> None:
    def batches(prefetch: bool) -> Batches:
        transform = preset("shift-flip", size_px=8)
        return Batches(split_of(40), None, transform, batch_size=16, seed=2, prefetch=prefetch)

    plain, ahead = batches(False), batches(True)
    for step in (*range(20), 3, 50, 51, 0):
        for found, expected in zip(ahead.at(step), plain.at(step), strict=True):
            assert torch.equal(found, expected)


def test_an_error_of_the_prefetching_thread_is_raised_where_the_batch_is_taken() -> None:
    def broken(images_BHWC: torch.Tensor, randomness: object) -> torch.Tensor:
        raise ArithmeticError("no batch")

    batches = Batches(split_of(4), None, broken, batch_size=2, seed=0, prefetch=True)
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="no batch"):
            batches.at(0)


@pytest.mark.gpu
def test_prefetched_batches_of_a_gpu_are_those_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    transform = preset("shift-flip", size_px=8)
    on_cpu = Batches(split_of(40), None, transform, batch_size=16, seed=2)
    on_gpu = Batches(split_of(40), None, transform, batch_size=16, seed=2, device="cuda")
    for step in range(40):
        x_BCHW, y_B = on_gpu.at(step)
        assert torch.allclose(x_BCHW.cpu(), on_cpu.at(step)[0], atol=1e-6)
        assert torch.equal(y_B.cpu(), on_cpu.at(step)[1])


@pytest.mark.parametrize(("num", "batch", "step"), [(0, 4, 0), (4, 0, 0), (4, 4, -1)])
def test_batches_of_nothing(num: int, batch: int, step: int) -> None:
    with pytest.raises(ValueError, match="at least one example"):
        batch_indices(num, batch_size=batch, seed=0, step=step)
