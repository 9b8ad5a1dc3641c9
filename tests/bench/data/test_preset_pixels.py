"""Images as a protocol sees them: every preset on originals, against the authors' formulas."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import stats

from bench.data import crops, decode, taps, transforms
from bench.data.transforms import preset
from tests.bench.data.conftest import photograph
from tests.bench.data.formulas import pixel_by_pixel, random_crop, resized, seen

SIDES_PX = (224, 384, *(pytest.param(side, marks=pytest.mark.ordinary) for side in (480, 512, 518)))
TRAINING = ("vit-train", "bit-train", "shift", "shift-flip")
f32 = np.float32


# --- images -----------------------------------------------------------------------------------


class InMemory:
    """Images as `Transform.originals` takes them."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self._images = images
        self.sizes_N2 = np.array([image.shape[:2] for image in images])

    def each(self, rows: np.ndarray, work: Callable[[int, np.ndarray], None]) -> None:
        for place, row in enumerate(rows):
            image = self._images[row]
            padded = np.full((*image.shape[:2], 4), 99, dtype=np.uint8)
            padded[..., :3] = image
            work(place, padded)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[np.ndarray]:
    """ImageNet pictures: wide, tall, square, grey and very large ones among them."""
    files = sorted((shared_data / "imagenet-samples").glob("*.JPEG"))
    images = [decode.original(path.read_bytes(), name=path.name) for path in files[::10]]
    assert len({image.shape for image in images}) > 5
    return images


def of(name: str, images: list[np.ndarray], size_px: int, seed: int | None = None) -> np.ndarray:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    x_BCHW = preset(name, size_px=size_px).originals(
        InMemory(images), np.arange(len(images)), generator
    )
    found: np.ndarray = x_BCHW.numpy()
    return found


@pytest.mark.parametrize("name", TRAINING)
def test_training_presets_refuse_to_draw_from_nowhere(name: str) -> None:
    with pytest.raises(ValueError, match="pass a generator"):
        of(name, [photograph(9, 8, seed=0)], 4)


# --- the resize rule --------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("size_px", [1, 5, 16, 31])
def test_two_taps_equal_tensorflows_rule_to_the_bit(
    pictures: list[np.ndarray], size_px: int, legacy: bool
) -> None:
    found = of("resize-legacy" if legacy else "resize", pictures, size_px)
    for image, x_CHW in zip(pictures, found, strict=True):
        expected = pixel_by_pixel(image, size_px, legacy=legacy)
        assert np.array_equal(expected, resized(image, size_px, legacy=legacy))
        assert np.array_equal(x_CHW, seen(expected))


@pytest.mark.data
@pytest.mark.parametrize("size_px", SIDES_PX)
def test_evaluation_of_real_images_equals_the_formulas(
    real: list[np.ndarray], size_px: int
) -> None:
    larger_px = round(size_px * 8 / 7)
    start = (larger_px - size_px) // 2
    central = slice(start, start + size_px)
    found = {name: of(name, real, size_px) for name in ("resize", "resize-legacy", "fewshot")}
    for index, image in enumerate(real):
        assert np.array_equal(found["resize"][index], seen(resized(image, size_px)))
        legacy = resized(image, size_px, legacy=True)
        assert np.array_equal(found["resize-legacy"][index], seen(legacy))
        cut = resized(image, larger_px)[central, central]
        assert np.array_equal(found["fewshot"][index], seen(cut))


@pytest.mark.data
@pytest.mark.parametrize("size_px", SIDES_PX)
def test_training_on_real_images_equals_the_formulas(real: list[np.ndarray], size_px: int) -> None:
    found = {name: of(name, real, size_px, seed=size_px) for name in TRAINING}
    draws = {
        name: crops.Draws(torch.Generator().manual_seed(size_px), num=len(real))
        for name in TRAINING
    }
    flips = draws["vit-train"].half()
    sizes_B2 = torch.tensor([image.shape[:2] for image in real])
    boxes = crops.inception_boxes(sizes_B2, draws["vit-train"]).tolist()
    larger_px = {480: 512, 384: 448}.get(size_px, round(size_px * 8 / 7))
    cuts = draws["bit-train"].integers(0, larger_px - size_px + 1).tolist()
    cut_flips = draws["bit-train"].half()
    moves = draws["shift"].integers(-(size_px // 8), size_px // 8 + 1).tolist()
    for index, image in enumerate(real):
        top, left, height, width = boxes[index]
        crop = resized(image[top : top + height, left : left + width], size_px)
        crop = crop[:, ::-1] if flips[index] else crop
        assert np.array_equal(found["vit-train"][index], seen(crop))
        top, left = cuts[index]
        cut = resized(image, larger_px)[top : top + size_px, left : left + size_px]
        cut = cut[:, ::-1] if cut_flips[index] else cut
        assert np.array_equal(found["bit-train"][index], seen(cut))
        rows, columns = (
            np.clip(np.arange(size_px) + move, 0, size_px - 1) for move in moves[index]
        )
        assert np.array_equal(
            found["shift"][index], seen(resized(image, size_px)[rows][:, columns])
        )


@pytest.mark.data
@pytest.mark.parametrize("size_px", SIDES_PX)
def test_two_taps_are_not_an_antialiased_resize(real: list[np.ndarray], size_px: int) -> None:
    """At 384 px a squashed pack made these one and the same."""
    shrunk = [image for image in real if min(image.shape[:2]) > size_px][:3]
    plain, smooth = (of(name, shrunk, size_px) for name in ("resize", "resize-antialias"))
    for index, image in enumerate(shrunk):
        expected = F.interpolate(
            torch.tensor(image).permute(2, 0, 1)[None].float(), (size_px, size_px),
            mode="bilinear", antialias=True, align_corners=False,
        )  # fmt: skip
        np.testing.assert_allclose(smooth[index], expected[0] / 127.5 - 1, rtol=0, atol=2e-5)
        assert np.abs(plain[index] - smooth[index]).mean() > 0.001


@pytest.mark.parametrize("name", transforms.PRESETS)
def test_originals_of_one_size_look_as_from_an_array(name: str) -> None:
    images = [photograph(29, 24, seed) for seed in range(5)]
    batch = torch.from_numpy(np.stack(images))
    from_array = preset(name, size_px=16)(batch, torch.Generator().manual_seed(4))
    assert of(name, images, 16, seed=4) == pytest.approx(from_array.numpy(), abs=3e-5)


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (50, 51)])
def test_timms_evaluation_keeps_the_shape_of_a_picture(size: tuple[int, int]) -> None:
    """Pillow and torchvision: the shorter side, then the centre."""
    from torchvision.transforms import v2

    image = photograph(*size, seed=1)
    steps = v2.Compose(
        [v2.Resize(248, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)]
    )
    expected = np.asarray(steps(Image.fromarray(image)))
    found = of("timm-bicubic-900", [image], 224)[0]
    assert np.abs(found - seen(expected.astype(f32))).max() <= 1 / 127.5 + 1e-6
    assert np.abs(found - seen(expected.astype(f32))).mean() < 1e-3


# --- the law of crops -------------------------------------------------------------------------

FRAMES = ((300, 400), (400, 300), (224, 224), (375, 500), (60, 80))


@pytest.mark.parametrize(("height", "width"), [*FRAMES, (4, 3), (5, 1), (2, 2)])
def test_each_box_is_the_one_that_tensorflow_makes_of_the_same_numbers(
    height: int, width: int
) -> None:
    num = 1500
    sizes_B2 = torch.tensor((height, width)).expand(num, 2)
    drawn_4B = crops.Draws(torch.Generator().manual_seed(1), num=num).uniform(4)
    draws = crops.Draws(torch.Generator().manual_seed(1), num=num)
    boxes_B4, fits_B = crops._attempt(sizes_B2[:, 0], sizes_B2[:, 1], draws)
    for index, numbers in enumerate(drawn_4B.T.tolist()):
        numbered: Iterator[float] = iter(numbers)
        expected = random_crop(width, height, numbered.__next__)
        assert bool(fits_B[index]) == (expected is not None)
        if expected is not None:
            assert tuple(boxes_B4[index].tolist()) == expected


@pytest.mark.parametrize(("height", "width"), FRAMES)
def test_crops_follow_tensorflows_law(height: int, width: int) -> None:
    """On originals a crop is as wide as the paper's; squashing 4:3 first made it 1.0 to 1.78."""
    num, rng = 4000, random.Random(0)
    sizes_B2 = torch.tensor((height, width)).expand(num, 2)
    draws = crops.Draws(torch.Generator().manual_seed(2), num=num)
    ours = crops.inception_boxes(sizes_B2, draws).numpy()
    theirs = [box for _ in range(num) if (box := random_crop(width, height, rng.random))]
    found, expected = ({**shape(boxes, height, width)} for boxes in (ours, np.array(theirs)))
    for name in found:
        assert stats.ks_2samp(found[name], expected[name]).pvalue > 1e-3, name
    assert 0.72 < found["aspect"].min() < found["aspect"].max() < 1.40
    assert found["area"].min() >= 0.05


def shape(boxes: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    top, left, box_height, box_width = boxes.T
    return {
        "aspect": box_width / box_height,
        "area": box_width * box_height / (height * width),
        "top": top / height,
        "left": left / width,
    }


def test_an_image_that_no_crop_fits_is_taken_whole() -> None:
    boxes = crops.inception_boxes(
        torch.tensor([[1, 400], [300, 400]]), crops.Draws(torch.Generator(), num=2)
    )
    assert boxes[0].tolist() == [0, 0, 1, 400]


def test_taps_hold_indices_inside_the_image() -> None:
    lengths = np.array([1, 2, 7, 500])
    for legacy in (False, True):
        found = taps.taps(lengths, 13, legacy=legacy)
        assert (found.low_BO >= 0).all()
        assert (found.high_BO < lengths[:, None]).all()
        assert (found.low_BO <= found.high_BO).all()
        assert ((found.lerp_BO >= 0) & (found.lerp_BO < 1)).all()
