"""From packed uint8 images to the tensors a model sees: one preset per protocol, named.

All presets work on whole batches with per-image randomness, on the device the batch is on, and end
in [-1, 1] as (x - 127.5) / 127.5, the range of the ViT and BiT authors' code (`timm-imagenet-*`
end in that of Noisy Student). The resize rule is explicit, since it moves pixels: bilinear with
half-pixel centres and two taps, as TensorFlow's resize, which the authors used; `antialias` and
timm's presets average over the source pixels when they shrink, as Pillow does; `legacy` is
TensorFlow 1's.

A preset that changes its pixels gets a new name or a new protocol version. Sources:
google-research/vision_transformer (input_pipeline.py), google-research/big_vision (pp/ and
configs/common_fewshot.py), google-research/task_adaptation (VTAB), arXiv:1912.11370 section 3.3
for BiT, timm's transforms_factory.py for its evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

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
from bench.errors import UnknownName

Transform = Callable[[Tensor, Randomness], Tensor]
"""images_BHWC (uint8), randomness -> x_BCHW (float32 in [-1, 1])."""

IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's channels in [0, 1], as torchvision and timm have them."""

SHIFT_SHARE = 8
"""Shift presets move by up to side / 8 pixels: 2 at 16 px, 4 at 32 px as usual on CIFAR."""


def preset(name: str, *, size_px: int) -> Transform:
    """Return the transform `name` for inputs of side `size_px`; raises UnknownName."""
    if name not in PRESETS:
        raise UnknownName("transform", name, PRESETS)
    return partial(PRESETS[name], size_px=size_px)


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
    return _moved(images_BHWC, _draws(images_BHWC, generator), size_px=size_px, flip=False)


def _shift_flip(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """`shift`, and every second image mirrored."""
    return _moved(images_BHWC, _draws(images_BHWC, generator), size_px=size_px, flip=True)


def _moved(images_BHWC: Tensor, draws: Draws, *, size_px: int, flip: bool) -> Tensor:
    limit_px = max(1, size_px // SHIFT_SHARE)
    offsets_B2 = draws.integers(-limit_px, limit_px + 1)
    flip_B = draws.half() if flip else None
    return _cut(squared(images_BHWC, size_px), offsets_B2, flip_B, size_px=size_px)


def _vit_train(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Inception crop of 5 to 100 % of the area, two-tap bilinear, and flip."""
    draws = _draws(images_BHWC, generator)
    height, width = images_BHWC.shape[1:3]
    boxes_B4 = inception_boxes(height, width, draws)
    return sample_in_chunks(images_BHWC, crop_positions(boxes_B4, size_px, flip_B=draws.half()))


def _bit_train(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash to the HyperRule's larger square, cut a random crop of the side, and flip."""
    draws = _draws(images_BHWC, generator)
    larger_px = bit_resize_px(size_px)
    offsets_B2 = draws.integers(0, larger_px - size_px + 1)
    flip_B = draws.half()
    return _cut(squared(images_BHWC, larger_px), offsets_B2, flip_B, size_px=size_px)


def bit_resize_px(crop_px: int) -> int:
    """Return the side before BiT's crop: 160 for 128, 448 for 384, 512 for 480, else 8/7 of it."""
    return {128: 160, 384: 448, 480: 512}.get(crop_px, round(crop_px * 8 / 7))


def _resize_legacy(images_BHWC: Tensor, generator: Randomness = None, *, size_px: int) -> Tensor:
    """Squash as TensorFlow 1 does: output pixel i reads at i x scale, without half-pixel centres.

    What VTAB's own code does (task_adaptation imports the version 1 interface); on images that
    shrink to a third it differs from `resize` by up to .73 of [-1, 1].
    """
    del generator
    sides_21 = torch.tensor(images_BHWC.shape[1:3])[:, None]
    position_2O = torch.arange(size_px, dtype=torch.float32) * (sides_21 / size_px)
    position_2O = position_2O.minimum(sides_21 - 1.0)
    return sample_in_chunks(images_BHWC, position_2O.expand(len(images_BHWC), -1, -1))


def _timm_eval(
    images_BHWC: Tensor,
    generator: Randomness = None,
    *,
    size_px: int,
    crop_share: float,
    mode: str,
) -> Tensor:
    """Resize to side / crop_share (antialiased, in whole grey levels as Pillow), cut the centre."""
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
    larger_px = math.floor(size_px / crop_share)
    x_BCHW = to_float(images_BHWC)
    for sides in ((x_BCHW.shape[-2], larger_px), (larger_px, larger_px)):
        if x_BCHW.shape[-2:] != sides:
            x_BCHW = F.interpolate(x_BCHW, sides, mode=mode, align_corners=False, antialias=True)
            x_BCHW.add_(0.5).floor_().clamp_(0, 255)
    start = round((larger_px - size_px) / 2)  # torchvision's centre: halves go to the even number
    return x_BCHW[..., start : start + size_px, start : start + size_px].contiguous()


PRESETS: dict[str, Callable[..., Tensor]] = {
    "vit-train": _vit_train,
    "bit-train": _bit_train,
    "shift": _shift,
    "shift-flip": _shift_flip,
    "resize": _resize_preset,
    "resize-antialias": _resize_antialias,
    "resize-legacy": _resize_legacy,
    "fewshot": _few_shot,
    # timm's, by the share of the side that is kept, in thousandths: ViT at 224 px; ViT and hybrids
    # at 384 px; BiT before and after fine-tuning on ImageNet; Noisy Student B7, L2 at 475, 800 px
    "timm-bicubic-900": partial(_timm_eval, crop_share=0.9, mode="bicubic"),
    "timm-bicubic-1000": partial(_timm_eval, crop_share=1.0, mode="bicubic"),
    "timm-bilinear-875": partial(_timm_eval, crop_share=0.875, mode="bilinear"),
    "timm-bilinear-1000": partial(_timm_eval, crop_share=1.0, mode="bilinear"),
    "timm-imagenet-949": partial(_timm_imagenet, crop_share=0.949),
    "timm-imagenet-936": partial(_timm_imagenet, crop_share=0.936),
    "timm-imagenet-960": partial(_timm_imagenet, crop_share=0.96),
}


# --- parts ----------------------------------------------------------------------------------


def _draws(images_BHWC: Tensor, generator: Randomness) -> Draws:
    if generator is None:
        raise ValueError("a training preset draws random numbers: pass a generator")
    if isinstance(generator, Draws):
        return generator
    return Draws(generator, len(images_BHWC))


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


def _cut(images_BHWC: Tensor, offsets_B2: Tensor, flip_B: Tensor | None, *, size_px: int) -> Tensor:
    """Return windows at each image's (top, left) offset as x_BCHW in [-1, 1], some mirrored."""
    columns_BW = offsets_B2[:, 1:] + torch.arange(size_px)
    if flip_B is not None:
        columns_BW = torch.where(flip_B[:, None], columns_BW.flip(1), columns_BW)
    rows_BH = offsets_B2[:, :1] + torch.arange(size_px)

    def cut(images_BHWC: Tensor, rows_BH: Tensor, columns_BW: Tensor) -> Tensor:
        return windows(images_BHWC, rows_BH, columns_BW).permute(0, 3, 1, 2).float()

    return in_chunks(cut, images_BHWC, rows_BH, columns_BW, size_px=size_px)
