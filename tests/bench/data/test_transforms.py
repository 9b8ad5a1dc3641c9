"""Presets: known pixels, the distributions of the authors' crops, shifts by whole pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.data import crops, transforms
from bench.errors import UnknownName


def images(num: int, side: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, side, side, 3), generator=generator, dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ONE_RANGE = [name for name in transforms.PRESETS if not name.startswith("timm-imagenet")]


@pytest.mark.parametrize("name", ONE_RANGE)
@pytest.mark.parametrize(("side", "size_px"), [(8, 16), (16, 16), (40, 16)])
def test_every_preset_gives_squares_in_range(name: str, side: int, size_px: int) -> None:
    x_BCHW = transforms.preset(name, size_px=size_px)(images(5, side), generator())
    assert x_BCHW.shape == (5, 3, size_px, size_px)
    assert x_BCHW.dtype == torch.float32
    assert x_BCHW.is_contiguous()
    assert x_BCHW.min() >= -1 - 1e-5
    assert x_BCHW.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", transforms.PRESETS)
def test_presets_keep_their_input_and_repeat(name: str) -> None:
    batch = images(4, 16)
    before = batch.clone()
    preset = transforms.preset(name, size_px=16)
    first, second = preset(batch, generator(1)), preset(batch, generator(1))
    assert torch.equal(batch, before)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["vit-train", "bit-train", "shift", "shift-flip"])
def test_training_presets_draw_and_refuse_to_draw_from_nowhere(name: str) -> None:
    preset = transforms.preset(name, size_px=16)
    batch = images(8, 16)
    assert not torch.equal(preset(batch, generator(1)), preset(batch, generator(2)))
    with pytest.raises(ValueError, match="pass a generator"):
        preset(batch, None)


def test_an_unknown_preset_is_told_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r'unknown transform "vit-trian".*"vit-train"'):
        transforms.preset("vit-trian", size_px=16)


def test_black_is_minus_one_and_white_one() -> None:
    black_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 4, 4, 3)
    x_BCHW = transforms.preset("resize", size_px=4)(black_white, None)
    assert torch.equal(x_BCHW[0], torch.full((3, 4, 4), -1.0))
    assert torch.equal(x_BCHW[1], torch.full((3, 4, 4), 1.0))


def test_resize_is_two_tap_and_its_antialiased_form_averages() -> None:
    """4 -> 2 pixels, half-pixel centres: two taps read pixels 0, 1 | 2, 3; wide taps read more."""
    row = torch.tensor([0, 90, 180, 30], dtype=torch.uint8).view(1, 1, 4, 1).expand(1, 4, 4, 3)
    plain = transforms.preset("resize", size_px=2)(row, None)[0, 0, 0] * 127.5 + 127.5
    assert plain.tolist() == pytest.approx([45, 105], abs=1e-3)
    wide = transforms.preset("resize-antialias", size_px=2)(row, None)[0, 0, 0] * 127.5 + 127.5
    weights = np.array([0.75, 0.75, 0.25])  # triangle of radius 2 around 1.0: pixels 0, 1, 2
    assert wide[0].item() == pytest.approx(weights @ [0, 90, 180] / weights.sum(), abs=1e-3)


def test_few_shot_cuts_the_centre_of_eight_sevenths() -> None:
    batch = images(2, 32)
    x_BCHW = transforms.preset("fewshot", size_px=28)(batch, None)
    expected = batch.permute(0, 3, 1, 2).float()[:, :, 2:30, 2:30] / 127.5 - 1
    assert torch.allclose(x_BCHW, expected, atol=1e-6)


@pytest.mark.parametrize("name", transforms.PRESETS)
def test_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, preset = images(9, 20), transforms.preset(name, size_px=16)
    whole = preset(batch, generator())
    monkeypatch.setattr(crops, "CHUNK_PIXELS", 2 * 20 * 20)
    assert torch.equal(preset(batch, generator()), whole)


# --- shifts ---------------------------------------------------------------------------------


def test_shifts_move_whole_pixels_and_repeat_the_edge() -> None:
    batch = images(200, 16)
    moved = transforms.preset("shift", size_px=16)(batch, generator())
    padded = F.pad(batch.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="replicate") / 127.5 - 1
    places = set()
    for image, around in zip(moved, padded, strict=True):
        hits = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.allclose(around[:, top : top + 16, left : left + 16], image, atol=1e-6)
        ]
        assert len(hits) == 1
        places.add(hits[0])
    assert len(places) == 25  # every shift of up to two pixels comes up in 200 draws


def test_digits_are_never_mirrored_by_shift_and_half_are_by_shift_flip() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).mul(16).view(1, 1, 16, 1).expand(400, 16, 16, 3)
    for name, share in (("shift", 0.0), ("shift-flip", 0.5)):
        x_BCHW = transforms.preset(name, size_px=16)(ramp, generator())
        mirrored = (x_BCHW[:, 0, 0, 0] > x_BCHW[:, 0, 0, -1]).float().mean().item()
        assert mirrored == pytest.approx(share, abs=0.1)


def test_bit_crops_whole_pixels_of_the_larger_square() -> None:
    assert (transforms.bit_resize_px(128), transforms.bit_resize_px(480)) == (160, 512)
    batch = images(50, 32)
    cut = transforms.preset("bit-train", size_px=28)(batch, generator())
    source = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
    for image, whole in zip(cut, source, strict=True):
        assert any(
            torch.allclose(whole[:, top : top + 28, left : left + 28], candidate, atol=1e-6)
            for top in range(5)
            for left in range(5)
            for candidate in (image, image.flip(2))
        )


# --- Inception crops ------------------------------------------------------------------------


def sizes(num: int, height: int, width: int) -> torch.Tensor:
    return torch.tensor((height, width)).expand(num, 2)


def test_crop_areas_follow_tensorflows_rule() -> None:
    """Measured on TensorFlow's op: mean area .376, median .33 on a square, far from .525."""
    boxes = crops.inception_boxes(sizes(40_000, 224, 224), crops.Draws(generator(), num=40_000))
    top, left, height, width = boxes.unbind(1)
    area = height * width / 224**2
    assert area.mean().item() == pytest.approx(0.376, abs=0.01)
    assert area.median().item() == pytest.approx(0.33, abs=0.01)
    assert 0.05 <= area.min() < 0.051
    assert area.max() <= 1.0
    aspect = width / height
    assert 0.73 < aspect.min() < 0.77
    assert 1.31 < aspect.max() < 1.36
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 224).all()
    assert (left + width <= 224).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (8, 8), (300, 40)])
def test_crop_boxes_stay_inside_any_image(height: int, width: int) -> None:
    top, left, box_height, box_width = crops.inception_boxes(
        sizes(2000, height, width), crops.Draws(generator(), num=2000)
    ).unbind(1)
    assert (box_height >= 1).all()
    assert (box_width >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()


@pytest.mark.parametrize(("side", "size_px"), [(16, 16), (24, 10), (12, 30)])
def test_crop_resize_is_a_cut_and_a_two_tap_resize(side: int, size_px: int) -> None:
    images_BHWC = images(20, side)
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
    boxes = crops.inception_boxes(sizes(20, side, side), crops.Draws(generator(3), num=20))
    flip_B = torch.arange(20) % 2 == 1
    position_B2O = crops.crop_positions(boxes, size_px, flip_B=flip_B)
    got = crops.sample_in_chunks(images_BHWC, position_B2O)
    for index, (top, left, height, width) in enumerate(boxes.int().tolist()):
        cut = x_BCHW[index : index + 1, :, top : top + height, left : left + width]
        expected = F.interpolate(
            cut, (size_px, size_px), mode="bilinear", align_corners=False, antialias=False
        )
        expected = expected.flip(3) if flip_B[index] else expected
        assert torch.allclose(got[index], expected[0], atol=1e-5)


def test_sampling_agrees_with_torchs_grid_sample() -> None:
    images_BHWC = images(6, 24)[:, :, :17]  # not square
    position_B2O = torch.rand(6, 2, 10, generator=generator()) * torch.tensor([[23], [16]])
    rows_BO, columns_BO = position_B2O.unbind(1)
    x_axis, y_axis = (2 * columns_BO + 1) / 17 - 1, (2 * rows_BO + 1) / 24 - 1
    grid = torch.stack(torch.broadcast_tensors(x_axis[:, None, :], y_axis[:, :, None]), dim=-1)
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
    expected = F.grid_sample(x_BCHW, grid, padding_mode="border", align_corners=False)
    got = crops.sample_in_chunks(images_BHWC, position_B2O)
    assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["vit-train", "bit-train", "shift", "shift-flip"])
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(name: str) -> None:
    batch, preset = images(9, 20), transforms.preset(name, size_px=16)
    rows_B = torch.tensor([7, 0, 4])
    part = preset(batch[rows_B], crops.Draws(generator(), num=9, rows_B=rows_B))
    assert torch.equal(part, preset(batch, generator())[rows_B])


# --- evaluation -----------------------------------------------------------------------------


def test_the_legacy_resize_reads_at_whole_multiples_of_the_scale() -> None:
    """TensorFlow 1: output i is the input at i x 5 / 2, between its two neighbours."""
    row = torch.tensor([0, 40, 80, 160, 240], dtype=torch.uint8).view(1, 1, 5, 1).expand(1, 5, 5, 3)
    x_BCHW = transforms.preset("resize-legacy", size_px=2)(row, None)
    assert (x_BCHW[0, 0, 0] * 127.5 + 127.5).tolist() == pytest.approx([0, 120], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "share", "interpolation", "size_px"),
    [
        ("timm-bicubic-900", 0.9, "bicubic", 36),
        ("timm-bicubic-1000", 1.0, "bicubic", 24),
        ("timm-bilinear-875", 0.875, "bilinear", 28),
        ("timm-bilinear-1000", 1.0, "bilinear", 61),
        ("timm-imagenet-949", 0.949, "bicubic", 30),
        ("timm-imagenet-936", 0.936, "bicubic", 25),
        ("timm-imagenet-960", 0.96, "bicubic", 40),
    ],
)
def test_timms_presets_are_timms_own_on_pillow_images(
    name: str, share: float, interpolation: str, size_px: int
) -> None:
    from PIL import Image
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform

    plain = "imagenet" not in name
    mean = (0.5, 0.5, 0.5) if plain else IMAGENET_DEFAULT_MEAN
    std = (0.5, 0.5, 0.5) if plain else IMAGENET_DEFAULT_STD
    theirs = create_transform(
        size_px, interpolation=interpolation, crop_pct=share, mean=mean, std=std
    )
    batch = images(3, 48)
    expected = torch.stack([theirs(Image.fromarray(image.numpy())) for image in batch])
    got = transforms.preset(name, size_px=size_px)(batch, None)
    grey_levels = (got - expected).abs() * torch.tensor(std).view(3, 1, 1) * 255
    assert got.shape == expected.shape
    assert grey_levels.max() < 1.1  # Pillow's weights have 22 bits: a half may round otherwise
    assert (grey_levels > 0.5).float().mean() < 0.01


@pytest.mark.gpu
def test_presets_are_the_same_on_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batch = images(32, 40)
    for name in transforms.PRESETS:
        preset = transforms.preset(name, size_px=24)
        on_cpu, on_gpu = preset(batch, generator()), preset(batch.cuda(), generator())
        assert on_gpu.is_cuda
        assert torch.allclose(on_gpu.cpu(), on_cpu, atol=5e-3), name


@pytest.mark.parametrize("name", transforms.PRESETS)
def test_a_batch_stays_on_its_device(name: str) -> None:
    """The meta device stands in for any that is neither a CPU nor a GPU."""
    batch = images(300, 40).to("meta")
    x_BCHW = transforms.preset(name, size_px=16)(batch, generator())
    assert x_BCHW.device.type == "meta"
    assert x_BCHW.shape == (300, 3, 16, 16)
