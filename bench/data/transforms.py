"""From packed uint8 images to the tensors a model sees: one preset per protocol, named.

All presets work on whole batches with per-image randomness, on the device the batch is on, and end
in [-1, 1] as (x - 127.5) / 127.5, the range of the ViT and BiT authors' code. The resize rule is
explicit, since it moves pixels: bilinear, half-pixel centres; `antialias` where it says so, else
two-tap as TensorFlow's resize, which the authors used.

A preset that changes its pixels gets a new name or a new protocol version. Sources:
google-research/vision_transformer (input_pipeline.py), google-research/big_vision (pp/ and
configs/common_fewshot.py), arXiv:1912.11370 section 3.3 for BiT.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import UnknownName

Transform = Callable[[Tensor, torch.Generator | None], Tensor]
"""images_BHWC (uint8), generator -> x_BCHW (float32 in [-1, 1]).

The generator lives on the CPU whatever the device of the images, so that a seed gives the same
crops everywhere; evaluation presets need none.
"""

AREA_RANGE = (0.05, 1.0)
"""Inception crop: share of the image's area."""

ASPECT_RANGE = (0.75, 1.33)
"""Inception crop: width over height, as TensorFlow's sample_distorted_bounding_box has it."""

CHUNK_PIXELS = 1 << 15
"""Pixels that a CPU crops at once."""

SHIFT_SHARE = 8
"""Shift presets move by up to side / 8 pixels: 2 at 16 px, 4 at 32 px as usual on CIFAR."""


def preset(name: str, *, size_px: int) -> Transform:
    """Return the transform `name` for inputs of side `size_px`; raises UnknownName."""
    if name not in PRESETS:
        raise UnknownName("transform", name, PRESETS)
    return partial(PRESETS[name], size_px=size_px)


# --- presets --------------------------------------------------------------------------------


def _resize_preset(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """Squash to the square, two-tap bilinear: evaluation of ViT and BiT, and VTAB."""
    del generator
    return to_range(resize(to_float(images_BHWC), size_px))


def _resize_antialias(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """Squash to the square, antialiased: what Pillow and torchvision do."""
    del generator
    return to_range(resize(to_float(images_BHWC), size_px, antialias=True))


def _few_shot(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """Squash to 8/7 of the side, then cut the centre: 256 and 224, as big_vision's few-shot."""
    del generator
    return to_range(central_crop(resize(to_float(images_BHWC), round(size_px * 8 / 7)), size_px))


def _shift(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """Squash, then move by a few pixels; uncovered pixels repeat the edge. For tiny images."""
    return _moved(images_BHWC, _needed(generator), size_px=size_px, flip=False)


def _shift_flip(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """`shift`, and every second image mirrored."""
    return _moved(images_BHWC, _needed(generator), size_px=size_px, flip=True)


def _moved(images_BHWC: Tensor, generator: torch.Generator, *, size_px: int, flip: bool) -> Tensor:
    limit_px = max(1, size_px // SHIFT_SHARE)
    offsets_B2 = torch.randint(-limit_px, limit_px + 1, (len(images_BHWC), 2), generator=generator)
    flip_B = _half(images_BHWC, generator) if flip else None
    return _cut(squared(images_BHWC, size_px), offsets_B2, flip_B, size_px=size_px)


def _vit_train(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """Inception crop of 5 to 100 % of the area, two-tap bilinear, and flip."""
    generator = _needed(generator)
    boxes_B4 = inception_boxes(
        len(images_BHWC), images_BHWC.shape[1], images_BHWC.shape[2], generator
    )
    flip_B = _half(images_BHWC, generator)

    def crop(images_BHWC: Tensor, boxes_B4: Tensor, flip_B: Tensor) -> Tensor:
        x_BCHW = images_BHWC.permute(0, 3, 1, 2).float()  # left in the order of the pixels
        return to_range(crop_resize(x_BCHW, boxes_B4, size_px, flip_B=flip_B))

    return _in_chunks(crop, images_BHWC, boxes_B4, flip_B, size_px=size_px)


def _bit_train(
    images_BHWC: Tensor, generator: torch.Generator | None = None, *, size_px: int
) -> Tensor:
    """Squash to the HyperRule's larger square, cut a random crop of the side, and flip."""
    generator = _needed(generator)
    larger_px = bit_resize_px(size_px)
    room = (len(images_BHWC), 2)
    offsets_B2 = torch.randint(0, larger_px - size_px + 1, room, generator=generator)
    flip_B = _half(images_BHWC, generator)
    return _cut(squared(images_BHWC, larger_px), offsets_B2, flip_B, size_px=size_px)


def bit_resize_px(crop_px: int) -> int:
    """Return the side before BiT's crop: 160 for 128, 512 for 480, else 8/7 of the crop."""
    return {128: 160, 480: 512}.get(crop_px, round(crop_px * 8 / 7))


PRESETS = {
    "vit-train": _vit_train,
    "bit-train": _bit_train,
    "shift": _shift,
    "shift-flip": _shift_flip,
    "resize": _resize_preset,
    "resize-antialias": _resize_antialias,
    "fewshot": _few_shot,
}


def _in_chunks(
    function: Callable[..., Tensor], images_BHWC: Tensor, *per_image: Tensor, size_px: int
) -> Tensor:
    """Apply a function of images and per-image tensors to a few images at a time.

    On a CPU, temporaries that fit its cache make large batches three times as fast; a GPU takes
    the batch whole.
    """
    batch, height, width = images_BHWC.shape[:3]
    chunk = max(1, CHUNK_PIXELS // max(height * width, size_px * size_px))
    if chunk >= batch or images_BHWC.is_cuda:
        return function(images_BHWC, *per_image).contiguous()
    x_BCHW = torch.empty(batch, images_BHWC.shape[3], size_px, size_px)
    for start in range(0, batch, chunk):
        part = slice(start, start + chunk)
        x_BCHW[part] = function(images_BHWC[part], *(values[part] for values in per_image))
    return x_BCHW


# --- parts ----------------------------------------------------------------------------------


def _needed(generator: torch.Generator | None) -> torch.Generator:
    if generator is None:
        raise ValueError("a training preset draws random numbers: pass a generator")
    return generator


def to_float(images_BHWC: Tensor) -> Tensor:
    """Return x_BCHW float32 in [0, 255], a fresh contiguous tensor."""
    return images_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def to_range(x_BCHW: Tensor) -> Tensor:
    """Map [0, 255] to [-1, 1], in place."""
    return x_BCHW.sub_(127.5).mul_(1 / 127.5)


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


def _half(images_BHWC: Tensor, generator: torch.Generator) -> Tensor:
    """Draw flip_B: true with probability one half."""
    return torch.rand(len(images_BHWC), generator=generator) < 0.5


def _cut(images_BHWC: Tensor, offsets_B2: Tensor, flip_B: Tensor | None, *, size_px: int) -> Tensor:
    """Return windows at each image's (top, left) offset as x_BCHW in [-1, 1], some mirrored."""
    columns_BW = offsets_B2[:, 1:] + torch.arange(size_px)
    if flip_B is not None:
        columns_BW = torch.where(flip_B[:, None], columns_BW.flip(1), columns_BW)
    rows_BH = offsets_B2[:, :1] + torch.arange(size_px)

    def cut(images_BHWC: Tensor, rows_BH: Tensor, columns_BW: Tensor) -> Tensor:
        return to_range(to_float(windows(images_BHWC, rows_BH, columns_BW)))

    return _in_chunks(cut, images_BHWC, rows_BH, columns_BW, size_px=size_px)


def windows(images_BHWC: Tensor, rows_BH: Tensor, columns_BW: Tensor) -> Tensor:
    """Pick rows and columns of each image; outside of it, the edge repeats.

    One gather of whole pixels: on uint8 images this costs a fraction of a float one.
    """
    batch, height, width, channels = images_BHWC.shape
    rows_BH = rows_BH.clamp(0, height - 1) + torch.arange(batch)[:, None] * height
    columns_BW = columns_BW.clamp(0, width - 1)
    index = (rows_BH[:, :, None] * width + columns_BW[:, None, :]).view(-1)
    pixels = images_BHWC.reshape(-1, channels).index_select(0, index.to(images_BHWC.device))
    return pixels.view(batch, rows_BH.shape[1], columns_BW.shape[1], channels)


def inception_boxes(num: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw crop boxes (num, 4) as top, left, height, width in whole pixels.

    The rule of TensorFlow's sample_distorted_bounding_box with no object to cover: the aspect is
    uniform, then the *height* is uniform between those of the smallest and the largest area. The
    mean area on a square is therefore .38, where torchvision's is .46.
    """
    aspect, height_share, top_share, left_share = torch.rand(
        4, num, generator=generator, dtype=torch.float64
    )
    aspect = ASPECT_RANGE[0] + aspect * (ASPECT_RANGE[1] - ASPECT_RANGE[0])
    area = height * width
    low = (AREA_RANGE[0] * area / aspect).sqrt().round().clamp(1, height)
    high = (AREA_RANGE[1] * area / aspect).sqrt().round()
    high = torch.minimum(high, ((width + 0.4999) / aspect).floor()).clamp(1, height)
    low = torch.minimum(low, high)
    box_height = low + (height_share * (high - low + 1)).floor()
    box_width = (box_height * aspect).round().clamp(1, width)
    top = (top_share * (height - box_height + 1)).floor()
    left = (left_share * (width - box_width + 1)).floor()
    return torch.stack((top, left, box_height, box_width), dim=1)


def crop_resize(x_BCHW: Tensor, boxes_B4: Tensor, size_px: int, *, flip_B: Tensor) -> Tensor:
    """Cut each image's box, resize it to the square (two-tap bilinear in the box) and mirror."""
    height, width = x_BCHW.shape[-2:]
    rows_BO = _grid(boxes_B4[:, 0], boxes_B4[:, 2], height, size_px)
    columns_BO = _grid(boxes_B4[:, 1], boxes_B4[:, 3], width, size_px)
    columns_BO = torch.where(flip_B[:, None], columns_BO.flip(1), columns_BO)
    grid_BOO2 = torch.stack(
        torch.broadcast_tensors(columns_BO[:, None, :], rows_BO[:, :, None]), dim=-1
    )
    return F.grid_sample(
        x_BCHW,
        grid_BOO2.to(x_BCHW.device),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )


def _grid(start_B: Tensor, length_B: Tensor, num_in: int, num_out: int) -> Tensor:
    """Return where each output pixel reads along one axis, in grid_sample's [-1, 1]."""
    centre_O = (torch.arange(num_out, dtype=torch.float32) + 0.5) / num_out
    length_B1 = length_B[:, None].float()
    # Held inside the box, so that its edge repeats and nothing outside it is read.
    position_BO = (centre_O * length_B1 - 0.5).clamp_(min=0).minimum(length_B1 - 1)
    return (position_BO + start_B[:, None].float()).mul_(2).add_(1).div_(num_in).sub_(1)
