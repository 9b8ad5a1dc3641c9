"""Scoring: every image once and in order, in pieces where memory runs out, nothing piled up."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.packs.read import Split
from bench.training import scoring


def images(num_images: int) -> Split:
    """Random images of five classes."""
    rng = np.random.default_rng(0)
    return Split(
        rng.integers(0, 256, size=(num_images, 4, 4, 3), dtype=np.uint8),
        rng.integers(0, 5, size=num_images),
    )


def to_unit(images_BHWC: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    assert generator is None
    return images_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


def pixels(split: Split) -> np.ndarray:
    """What `Scored.features` makes of a split."""
    return to_unit(torch.from_numpy(split.images_NHWC), None).flatten(1).numpy()


class Scored(nn.Module):
    """A linear classifier of pixels whose memory holds only so many images."""

    def __init__(self, holds: int = 1 << 30, error: str = "CUDA out of memory.") -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head = nn.Linear(48, 5)
        self.dropout = nn.Dropout(0.5)
        self.holds, self.error = holds, error
        self.seen: list[int] = []
        """Images of every call, those that failed included."""

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x_BCHW))
        if len(x_BCHW) > self.holds:
            raise RuntimeError(self.error)
        z_BD: torch.Tensor = self.dropout(x_BCHW.flatten(1))
        return z_BD

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BK: torch.Tensor = self.head(self.features(x_BCHW))
        return logits_BK


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "EVALUATION_BATCH", 8)


@pytest.mark.parametrize("num", [1, 7, 8, 9, 21])
def test_hits_are_those_of_a_plain_loop_over_images(num: int) -> None:
    model, split = Scored().train(), images(num)
    hits_N = scoring.evaluate(model, split, to_unit)
    assert hits_N.dtype == bool
    assert sum(model.seen) == num
    for image, label, hit in zip(split.images_NHWC, split.labels_N, hits_N, strict=True):
        logits = model(to_unit(torch.from_numpy(image[None]), None))
        assert (int(logits.argmax()) == label) == hit


def test_batches_are_computed_as_many_images_at_once_as_was_planned() -> None:
    model, split = Scored(), images(19)
    whole_N = scoring.evaluate(model, split, to_unit)
    model.seen.clear()
    with scoring.at_once(3):
        np.testing.assert_array_equal(scoring.evaluate(model, split, to_unit), whole_N)
    assert model.seen == [3, 3, 2, 3, 3, 2, 3]
    model.seen.clear()
    scoring.evaluate(model, split, to_unit)
    assert max(model.seen) == 8


def test_hits_of_chosen_images() -> None:
    model, split, some = Scored(), images(20), np.array([19, 3, 4])
    hits_N = scoring.evaluate(model, split, to_unit)
    np.testing.assert_array_equal(
        scoring.evaluate(model, split, to_unit, indices_N=some), hits_N[some]
    )


def test_scores_and_features_come_batch_after_batch_in_order() -> None:
    model, split = Scored(), images(19)
    features = list(scoring.extract_features(model, split, to_unit))
    assert [len(z_BD) for z_BD in features] == [8, 8, 3]
    np.testing.assert_array_equal(np.concatenate(features), pixels(split))
    assert all(z_BD.dtype == np.float32 for z_BD in features)
    scores_NK = np.concatenate(list(scoring.scores(model, split, to_unit)))
    hits_N = scoring.evaluate(model, split, to_unit)
    np.testing.assert_array_equal(scores_NK.argmax(axis=1) == split.labels_N, hits_N)
    rows_N = np.array([7, 18, 17, 0, 1, 2, 3, 4, 5, 6])
    some = list(scoring.extract_features(model, split, to_unit, rows_N=rows_N))
    np.testing.assert_array_equal(np.concatenate(some), pixels(split)[rows_N])


@pytest.mark.parametrize(
    ("holds", "seen"),
    [(8, [8, 8, 3]), (5, [8, 4, 4, 4, 4, 3]), (1, [8, 4, 2] + [1] * 19)],
)
def test_a_batch_that_does_not_fit_is_scored_in_halves(holds: int, seen: list[int]) -> None:
    split = images(19)
    model = Scored(holds)
    found = list(scoring.extract_features(model, split, to_unit))
    assert model.seen == seen
    assert [len(z_BD) for z_BD in found] == [8, 8, 3]
    np.testing.assert_array_equal(np.concatenate(found), pixels(split))


def test_memory_for_the_images_themselves_may_run_out_too() -> None:
    split = images(9)

    def hungry(images_BHWC: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        if len(images_BHWC) > 3:
            raise MemoryError
        return to_unit(images_BHWC, generator)

    found = list(scoring.extract_features(Scored(), split, hungry))
    np.testing.assert_array_equal(np.concatenate(found), pixels(split))


@pytest.mark.parametrize(
    ("holds", "error", "num_tried"), [(0, "CUDA out of memory.", 4), (4, "shapes differ", 1)]
)
def test_one_image_too_many_and_any_other_error_are_told(
    holds: int, error: str, num_tried: int
) -> None:
    model = Scored(holds, error)
    with pytest.raises(RuntimeError, match=error):
        scoring.evaluate(model, images(9), to_unit)
    assert len(model.seen) == num_tried


def test_no_more_than_two_batches_of_results_are_held() -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    held = []

    class Watched(Scored):
        def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            z_BD = super().features(x_BCHW)
            made.append(weakref.ref(z_BD))
            return z_BD

    for _ in scoring.extract_features(Watched(), images(64), to_unit):
        held.append(sum(one() is not None for one in made))
    assert len(made) == 8
    assert max(held) <= 2
