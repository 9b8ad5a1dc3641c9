"""From uint8 images to the tensors a model sees: one preset per protocol, named.

Images of one size go through as whole batches, on the device they are on; originals, each of its
own size, one by one as they are decoded. Randomness is per image, and the same for both. All end
in [-1, 1] as (x - 127.5) / 127.5, the range of the ViT and BiT authors' code (`timm-imagenet-*` end
in that of Noisy Student). The resize rule is explicit, since it moves pixels: bilinear with
half-pixel centres and two taps, as TensorFlow's resize, which the authors used (`taps.py`);
`antialias` and timm's presets average over the source pixels when they shrink, as Pillow does;
`legacy` is TensorFlow 1's.

A preset that changes its pixels gets a new name or a new protocol version. Sources:
google-research/vision_transformer (input_pipeline.py), google-research/big_vision (pp/ and
configs/common_fewshot.py), google-research/task_adaptation (VTAB), arXiv:1912.11370 section 3.3
for BiT, timm's transforms_factory.py for its evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data import taps
from bench.data.crops import (
    Draws,
    Randomness,
    crop_positions,
    in_chunks,
    inception_boxes,
    sample_in_chunks,
    to_float,
    to_range,
    windows,
)
from bench.data.taps import Taps
from bench.errors import UnknownName

Where = Callable[[np.ndarray, Randomness, int], tuple[Taps, Taps]]
"""(sizes_B2, randomness, size_px) -> where rows and columns of originals are read."""


@dataclass(frozen=True)
class Preset:
    """One way from images to what a model sees."""

    batch: Callable[..., Tensor]
    """images_BHWC (uint8, of one size), randomness, size_px -> x_BCHW (float32)."""
    where: Where | None = None
    """Where originals are read, for presets of two taps; None: `batch` takes them one by one."""


@dataclass(frozen=True)
class Transform:
    """A preset for inputs of one side."""

    preset: Preset
    """What is done."""
    size_px: int
    """Side of the square input, in pixels."""

    def __call__(self, images_BHWC: Tensor, randomness: Randomness = None) -> Tensor:
        """Return x_BCHW (float32) of uint8 images of one size."""
        return self.preset.batch(images_BHWC, randomness, size_px=self.size_px)

    def originals(self, images: Decoded, rows: np.ndarray, randomness: Randomness) -> Tensor:
        """Return x_BCHW (float32, on the CPU) of some images, each of its own size.

        Each is read by one of the job's decoders as soon as it is decoded. The float operations
        are TensorFlow's own, in its order.
        """
        x_BCHW = np.empty((len(rows), 3, self.size_px, self.size_px), dtype=np.float32)
        if self.preset.where is None:
            images.each(rows, partial(self._filtered, x_BCHW))
        else:
            where = self.preset.where(images.sizes_N2[rows], randomness, self.size_px)
            images.each(rows, partial(_two_taps, x_BCHW, where))
        return torch.from_numpy(x_BCHW)

    def _filtered(self, x_BCHW: np.ndarray, place: int, image_HW4: np.ndarray) -> None:
        image_HWC = torch.from_numpy(np.ascontiguousarray(image_HW4[..., :3]))
        x_BCHW[place] = self(image_HWC[None])[0].numpy()


class Decoded(Protocol):
    """Images that are decoded when they are asked for (`packs.read.Originals`)."""

    sizes_N2: np.ndarray

    def each(self, rows: np.ndarray, work: Callable[[int, np.ndarray], None]) -> None:
        """Decode some images and call `work(place, image_HW4)` on each."""
        ...


def _two_taps(
    x_BCHW: np.ndarray, where: tuple[Taps, Taps], place: int, image_HW4: np.ndarray
) -> None:
    taps.read(image_HW4, *where, place, x_BCHW[place])


IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's channels in [0, 1], as torchvision and timm have them."""

SHIFT_SHARE = 8
"""Shift presets move by up to side / 8 pixels: 2 at 16 px, 4 at 32 px as usual on CIFAR."""


def preset(name: str, *, size_px: int) -> Transform:
    """Return the transform `name` for inputs of side `size_px`; raises UnknownName."""
    if name not in PRESETS:
        raise UnknownName("transform", name, PRESETS)
    return Transform(PRESETS[name], size_px)


# --- presets --------------------------------------------------------------------------------


def _resize_preset(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash to the square, two-tap bilinear: evaluation of ViT and BiT, and VTAB."""
    del generator
    return to_range(resize(to_float(images_BHWC), size_px))


def _resize_antialias(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash to the square, antialiased: what Pillow and torchvision do."""
    del generator
    return to_range(resize(to_float(images_BHWC), size_px, antialias=True))


def _few_shot(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash to 8/7 of the side, then cut the centre: 256 and 224, as big_vision's few-shot."""
    del generator
    return to_range(central_crop(resize(to_float(images_BHWC), round(size_px * 8 / 7)), size_px))


def _shift(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash, then move by a few pixels; uncovered pixels repeat the edge. For tiny images."""
    return _moved(images_BHWC, generator, size_px=size_px, flip=False)


def _shift_flip(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """`shift`, and every second image mirrored."""
    return _moved(images_BHWC, generator, size_px=size_px, flip=True)


def _moved(images_BHWC: Tensor, generator: Randomness, *, size_px: int, flip: bool) -> Tensor:
    offsets_B2, flip_B = _move_draws(_draws(len(images_BHWC), generator), size_px, flip=flip)
    return _cut(images_BHWC, size_px, offsets_B2, flip_B, size_px=size_px)


def _vit_train(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Inception crop of 5 to 100 % of the area, two-tap bilinear, and flip."""
    draws = _draws(len(images_BHWC), generator)
    flip_B = draws.half()
    sizes_B2 = torch.tensor(images_BHWC.shape[1:3]).expand(len(images_BHWC), 2)
    boxes_B4 = _beside(images_BHWC, inception_boxes(sizes_B2, draws))
    flip_B = _beside(images_BHWC, flip_B)
    return sample_in_chunks(images_BHWC, crop_positions(boxes_B4, size_px, flip_B=flip_B))


def _bit_train(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash to the HyperRule's larger square, cut a random crop of the side, and flip."""
    larger_px = bit_resize_px(size_px)
    draws = _draws(len(images_BHWC), generator)
    offsets_B2, flip_B = _cut_draws(draws, larger_px, size_px)
    return _cut(images_BHWC, larger_px, offsets_B2, flip_B, size_px=size_px)


def bit_resize_px(crop_px: int) -> int:
    """Return the side before BiT's crop: 160 for 128, 448 for 384, 512 for 480, else 8/7 of it."""
    return {128: 160, 384: 448, 480: 512}.get(crop_px, round(crop_px * 8 / 7))


def _resize_legacy(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash as TensorFlow 1 does: output pixel i reads at i x scale, without half-pixel centres.

    What VTAB's own code does (task_adaptation imports the version 1 interface); on images that
    shrink to a third it differs from `resize` by up to .73 of [-1, 1].
    """
    del generator
    pixel_O = torch.arange(size_px, dtype=torch.float32, device=images_BHWC.device)
    position_2O = torch.stack(
        [(pixel_O * (side / size_px)).clamp(max=side - 1.0) for side in images_BHWC.shape[1:3]]
    )
    return sample_in_chunks(images_BHWC, position_2O.expand(len(images_BHWC), -1, -1))


def _timm_eval(
    images_BHWC: Tensor,
    generator: Randomness = None,
    *,
    size_px: int,
    crop_share: float,
    mode: str,
) -> Tensor:
    """Resize the shorter side to side / crop_share (antialiased, in whole grey levels as Pillow)
    and cut the centre, as torchvision's Resize and CenterCrop."""
    del generator
    return to_range(_timm_pixels(images_BHWC, size_px, crop_share, mode))


def _timm_imagenet(
    images_BHWC: Tensor, generator: Randomness = None, *, size_px: int, crop_share: float
) -> Tensor:
    """The same, bicubic, with the mean and deviation of ImageNet's channels taken out."""
    del generator
    x_BCHW = _timm_pixels(images_BHWC, size_px, crop_share, "bicubic")
    mean_C11, std_C11 = torch.tensor(IMAGENET_STATISTICS, device=x_BCHW.device)[:, :, None, None]
    return x_BCHW.div_(255).sub_(mean_C11).div_(std_C11)


def _timm_pixels(images_BHWC: Tensor, size_px: int, crop_share: float, mode: str) -> Tensor:
    """Return whole grey levels as Pillow has them: it rounds after columns and again after rows."""
    shorter_px = math.floor(size_px / crop_share)
    x_BCHW = to_float(images_BHWC)
    height, width = x_BCHW.shape[-2:]
    new_height = shorter_px if height <= width else int(shorter_px * height / width)
    new_width = shorter_px if width <= height else int(shorter_px * width / height)
    for sides in ((height, new_width), (new_height, new_width)):
        if x_BCHW.shape[-2:] != sides:
            x_BCHW = F.interpolate(x_BCHW, sides, mode=mode, align_corners=False, antialias=True)
            x_BCHW.add_(0.5).floor_().clamp_(0, 255)
    # torchvision's centre: halves go to the even number
    top, left = round((new_height - size_px) / 2), round((new_width - size_px) / 2)
    return x_BCHW[..., top : top + size_px, left : left + size_px].contiguous()


# --- where originals are read ----------------------------------------------------------------


def _where_whole(
    sizes_B2: np.ndarray, randomness: Randomness, size_px: int, *, legacy: bool = False
) -> tuple[Taps, Taps]:
    """Everything, squashed to the square."""
    del randomness
    rows, columns = (taps.taps(length_B, size_px, legacy=legacy) for length_B in sizes_B2.T)
    return rows, columns


def _where_central(sizes_B2: np.ndarray, randomness: Randomness, size_px: int) -> tuple[Taps, Taps]:
    """The centre of the larger square."""
    del randomness
    larger_px = round(size_px * 8 / 7)
    return _of_square(sizes_B2, larger_px, np.full((len(sizes_B2), 2), (larger_px - size_px) // 2),
                      size_px)  # fmt: skip


def _where_cut(sizes_B2: np.ndarray, randomness: Randomness, size_px: int) -> tuple[Taps, Taps]:
    """A random part of the larger square, half of them mirrored."""
    larger_px = bit_resize_px(size_px)
    draws = _draws(len(sizes_B2), randomness)
    offsets_B2, flip_B = _cut_draws(draws, larger_px, size_px)
    rows, columns = _of_square(sizes_B2, larger_px, offsets_B2.numpy(), size_px)
    return rows, columns.flipped(flip_B.numpy())


def _where_moved(
    sizes_B2: np.ndarray, randomness: Randomness, size_px: int, *, flip: bool = False
) -> tuple[Taps, Taps]:
    """The square moved by a few pixels, its edge repeated."""
    draws = _draws(len(sizes_B2), randomness)
    offsets_B2, flip_B = _move_draws(draws, size_px, flip=flip)
    rows, columns = _of_square(sizes_B2, size_px, offsets_B2.numpy(), size_px)
    return rows, columns if flip_B is None else columns.flipped(flip_B.numpy())


def _where_cropped(sizes_B2: np.ndarray, randomness: Randomness, size_px: int) -> tuple[Taps, Taps]:
    """An Inception crop, half of them mirrored: the crop is cut out before it is resized."""
    draws = _draws(len(sizes_B2), randomness)
    flip_B = draws.half()
    top_B, left_B, height_B, width_B = inception_boxes(torch.from_numpy(sizes_B2), draws).numpy().T
    rows = taps.taps(height_B, size_px, start_B=top_B)
    return rows, taps.taps(width_B, size_px, start_B=left_B).flipped(flip_B.numpy())


def _of_square(
    sizes_B2: np.ndarray, larger_px: int, offsets_B2: np.ndarray, size_px: int
) -> tuple[Taps, Taps]:
    """A window of the image squashed to a larger square; outside of it, the edge repeats."""
    chosen_B2O = offsets_B2[:, :, None] + np.arange(size_px)
    chosen_B2O = chosen_B2O.clip(0, larger_px - 1)
    rows, columns = (
        taps.taps(sizes_B2[:, axis], larger_px, chosen_BO=chosen_B2O[:, axis]) for axis in (0, 1)
    )
    return rows, columns


# --- by name --------------------------------------------------------------------------------

PRESETS: dict[str, Preset] = {
    "vit-train": Preset(_vit_train, _where_cropped),
    "bit-train": Preset(_bit_train, _where_cut),
    "shift": Preset(_shift, _where_moved),
    "shift-flip": Preset(_shift_flip, partial(_where_moved, flip=True)),
    "resize": Preset(_resize_preset, _where_whole),
    "resize-antialias": Preset(_resize_antialias),
    "resize-legacy": Preset(_resize_legacy, partial(_where_whole, legacy=True)),
    "fewshot": Preset(_few_shot, _where_central),
    # timm's, by the share of the side that is kept, in thousandths: ViT at 224 px; ViT and hybrids
    # at 384 px; BiT before and after fine-tuning on ImageNet; Noisy Student B7, L2 at 475, 800 px
    "timm-bicubic-900": Preset(partial(_timm_eval, crop_share=0.9, mode="bicubic")),
    "timm-bicubic-1000": Preset(partial(_timm_eval, crop_share=1.0, mode="bicubic")),
    "timm-bilinear-875": Preset(partial(_timm_eval, crop_share=0.875, mode="bilinear")),
    "timm-bilinear-1000": Preset(partial(_timm_eval, crop_share=1.0, mode="bilinear")),
    "timm-imagenet-949": Preset(partial(_timm_imagenet, crop_share=0.949)),
    "timm-imagenet-936": Preset(partial(_timm_imagenet, crop_share=0.936)),
    "timm-imagenet-960": Preset(partial(_timm_imagenet, crop_share=0.96)),
}


# --- parts ----------------------------------------------------------------------------------


def _draws(num: int, generator: Randomness) -> Draws:
    if generator is None:
        raise ValueError("a training preset draws random numbers: pass a generator")
    return generator if isinstance(generator, Draws) else Draws(generator, num)


def _move_draws(draws: Draws, size_px: int, *, flip: bool) -> tuple[Tensor, Tensor | None]:
    """Return how far each image is moved (B, 2), and which are mirrored."""
    limit_px = max(1, size_px // SHIFT_SHARE)
    offsets_B2 = draws.integers(-limit_px, limit_px + 1)
    return offsets_B2, draws.half() if flip else None


def _cut_draws(draws: Draws, larger_px: int, size_px: int) -> tuple[Tensor, Tensor]:
    """Return where each image is cut out (B, 2), and which are mirrored."""
    return draws.integers(0, larger_px - size_px + 1), draws.half()


def resize(x_BCHW: Tensor, size_px: int, *, antialias: bool = False) -> Tensor:
    """Squash to a square of side `size_px`, bilinear with half-pixel centres."""
    if x_BCHW.shape[-2:] == (size_px, size_px):
        return x_BCHW
    return F.interpolate(
        x_BCHW, (size_px, size_px), mode="bilinear", align_corners=False, antialias=antialias
    )


def central_crop(x_BCHW: Tensor, size_px: int) -> Tensor:
    """Cut the central square; the odd pixel is left at the bottom and right."""
    top, left = (x_BCHW.shape[-2] - size_px) // 2, (x_BCHW.shape[-1] - size_px) // 2
    return x_BCHW[..., top : top + size_px, left : left + size_px].contiguous()


def squared(images_BHWC: Tensor, size_px: int) -> Tensor:
    """Return the images at a side of `size_px`: as they are, or resized (then float32)."""
    if images_BHWC.shape[1:3] == (size_px, size_px):
        return images_BHWC
    return resize(to_float(images_BHWC), size_px).permute(0, 2, 3, 1).contiguous()


def _cut(
    images_BHWC: Tensor,
    larger_px: int,
    offsets_B2: Tensor,
    flip_B: Tensor | None,
    *,
    size_px: int,
) -> Tensor:
    """Squash to a larger square and return windows at each image's (top, left) offset, some
    mirrored, as x_BCHW in [-1, 1]."""
    offsets_B2 = _beside(images_BHWC, offsets_B2)
    pixel_O = torch.arange(size_px, device=images_BHWC.device)
    rows_BH, columns_BW = offsets_B2[:, :1] + pixel_O, offsets_B2[:, 1:] + pixel_O
    if flip_B is not None:
        flip_B1 = _beside(images_BHWC, flip_B)[:, None]
        columns_BW = torch.where(flip_B1, columns_BW.flip(1), columns_BW)

    def cut(images_BHWC: Tensor, rows_BH: Tensor, columns_BW: Tensor) -> Tensor:
        larger_BHWC = squared(images_BHWC, larger_px)
        return windows(larger_BHWC, rows_BH, columns_BW).permute(0, 3, 1, 2).float()

    return in_chunks(cut, images_BHWC, rows_BH, columns_BW, size_px=size_px)


def _beside(images_BHWC: Tensor, drawn: Tensor) -> Tensor:
    """Send what was drawn for the images to their device, without waiting."""
    return drawn.to(images_BHWC.device, non_blocking=True)
