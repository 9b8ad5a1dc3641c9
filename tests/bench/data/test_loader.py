"""Batches are functions of (seed, step): each example once an epoch, resumable at any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data.loader import Batches, batch_indices, step_generator
from bench.data.packs.read import Split
from bench.data.parts import Part, most_pieces
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


# --- parts of a batch -----------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6))
def test_every_image_is_in_one_part_with_its_mirror(batch: int, world: int, pieces: int) -> None:
    parts = [Part(k, pieces, rank, world) for rank in range(world) for k in range(pieces)]
    if len(parts) > batch:
        with pytest.raises(ValueError, match=f"{batch} images has no {len(parts)} parts"):
            parts[-1].rows(batch)
        return
    rows = [part.rows(batch) for part in parts]
    assert sorted(np.concatenate(rows).tolist()) == list(range(batch))
    sizes = [len(row) for row in rows]
    assert min(sizes) > 0
    if len(parts) <= (batch + 1) // 2:
        assert max(sizes) - min(sizes) <= 3  # a pair, and the image in the middle alone
        for row in rows:
            assert (row[::-1] == batch - 1 - row).all()  # reversed, the part is its partners
    most = most_pieces(batch, world=world, keeps_pairs=True)
    assert most * world <= max(world, (batch + 1) // 2)


@pytest.mark.parametrize("part", [(2, 2, 0, 1), (0, 1, 1, 1), (-1, 2, 0, 1), (0, 1, -1, 2)])
def test_a_part_that_is_none(part: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is no part of a batch"):
        Part(*part)


@pytest.mark.parametrize("name", ["resize", "shift-flip", "vit-train", "bit-train"])
@pytest.mark.parametrize(("pieces", "world"), [(2, 1), (1, 2), (3, 2), (12, 1), (1, 4)])
@pytest.mark.parametrize("prefetch", [False, True])
def test_parts_are_the_whole_batch_bit_by_bit(
    name: str, pieces: int, world: int, prefetch: bool
) -> None:
    def batches() -> Batches:
        transform = preset(name, size_px=8)
        return Batches(split_of(29), None, transform, batch_size=12, seed=5, prefetch=prefetch)

    whole, by_rank = batches(), [batches() for _ in range(world)]
    for step in (0, 1, 7, 8, 30):  # inside a block of steps, in the next one, and over an epoch
        x_BCHW, y_B = whole.at(step)
        for rank in range(world):
            for piece in range(pieces):
                part = Part(piece, pieces, rank, world)
                x_bCHW, y_b = by_rank[rank].at(step, part)
                rows = torch.from_numpy(part.rows(12))
                assert torch.equal(x_bCHW, x_BCHW[rows])
                assert torch.equal(y_b, y_B[rows])


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
