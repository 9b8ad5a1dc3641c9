"""Crops of whole batches: windows and resized boxes, drawn for each image by itself.

Everything works on packed uint8 images and on the device they are on. Random numbers are drawn on
the CPU, and only a box, an offset or a flip of each image travels: where rows and columns are read
is worked out where the pixels are. What made it fast on a CPU is in docs/performance.md, section
"Data".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AREA_RANGE = (0.05, 1.0)
"""Inception crop: share of the image's area."""

ASPECT_RANGE = (0.75, 1.33)
"""Inception crop: width over height, as TensorFlow's sample_distorted_bounding_box has it."""

MAX_ATTEMPTS = 100
"""Inception crop: boxes drawn for an image before it is taken whole."""

CHUNK_PIXELS = 1 << 15
"""Pixels that a CPU crops at once: temporaries that fit its cache are three times as fast."""

DEVICE_CHUNK_PIXELS = 1 << 24
"""Pixels that another device crops at once: some 32 bytes each, half a GiB, are temporaries."""


@dataclass(frozen=True)
class Draws:
    """Random numbers of a whole batch, of which only some images are here.

    A worker that holds a part of a batch draws for all of it and keeps its own, so that the parts
    of all workers are the batch that one worker would have made.
    """

    generator: torch.Generator
    """Lives on the CPU whatever the device of the images: a seed gives the same crops anywhere."""
    num: int
    """Images in the whole batch."""
    rows_B: Tensor | None = None
    """Which of them are here (int64); None: all."""

    def uniform(self, *shape: int) -> Tensor:
        """Return float64 in [0, 1), (*shape, images here)."""
        drawn = torch.rand(*shape, self.num, generator=self.generator, dtype=torch.float64)
        return drawn if self.rows_B is None else drawn[..., self.rows_B]

    def integers(self, low: int, high: int) -> Tensor:
        """Return a pair of whole numbers in [low, high) for each image here, (images, 2)."""
        drawn = torch.randint(low, high, (self.num, 2), generator=self.generator)
        return drawn if self.rows_B is None else drawn[self.rows_B]

    def half(self) -> Tensor:
        """Return flip_B: true with probability one half."""
        drawn = torch.rand(self.num, generator=self.generator) < 0.5
        return drawn if self.rows_B is None else drawn[self.rows_B]


Randomness = torch.Generator | Draws | None
"""What a training preset draws from; evaluation presets need nothing."""


def to_float(images_BHWC: Tensor) -> Tensor:
    """Return x_BCHW float32 in [0, 255], a fresh contiguous tensor."""
    return images_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def to_range(x_BCHW: Tensor) -> Tensor:
    """Map [0, 255] to [-1, 1], in place."""
    return x_BCHW.sub_(127.5).mul_(1 / 127.5)


def in_chunks(
    function: Callable[..., Tensor], images_BHWC: Tensor, *per_image: Tensor, size_px: int
) -> Tensor:
    """Apply a function of images and per-image tensors to a few images at a time, then `to_range`.

    Tensors per image are made for the whole batch by the caller, on the device of the images: some
    twenty small operations on every chunk cost more than the pixels do.
    """
    batch, height, width, channels = images_BHWC.shape
    pixels = CHUNK_PIXELS if images_BHWC.device.type == "cpu" else DEVICE_CHUNK_PIXELS
    chunk = max(1, pixels // max(height * width, size_px * size_px))
    if chunk >= batch:
        return to_range(function(images_BHWC, *per_image).contiguous())
    x_BCHW = torch.empty(batch, channels, size_px, size_px, device=images_BHWC.device)
    for start in range(0, batch, chunk):
        part = slice(start, start + chunk)
        values_BCHW = function(images_BHWC[part], *(values[part] for values in per_image))
        torch.sub(values_BCHW, 127.5, out=x_BCHW[part]).mul_(1 / 127.5)
    return x_BCHW


def windows(images_BHWC: Tensor, rows_BH: Tensor, columns_BW: Tensor) -> Tensor:
    """Pick rows and columns of each image; outside of it, the edge repeats.

    One gather of whole pixels: on uint8 images this costs a fraction of a float one.
    """
    batch, height, width, channels = images_BHWC.shape
    place_B1 = torch.arange(batch, device=images_BHWC.device)[:, None]
    rows_BH = rows_BH.clamp(0, height - 1) + place_B1 * height
    columns_BW = columns_BW.clamp(0, width - 1)
    index = (rows_BH[:, :, None] * width + columns_BW[:, None, :]).view(-1)
    pixels = images_BHWC.reshape(-1, channels).index_select(0, index)
    return pixels.view(batch, rows_BH.shape[1], columns_BW.shape[1], channels)


def inception_boxes(sizes_B2: Tensor, draws: Draws) -> Tensor:
    """Draw boxes_B4 (int64) as top, left, height, width in pixels, one for each image.

    The rule of TensorFlow's sample_distorted_bounding_box with no object to cover (core/kernels/
    image/sample_distorted_bounding_box_op.cc): the aspect is uniform, then the *height* is uniform
    between those of the smallest and the largest area. The mean area on a square is therefore .38,
    where torchvision's is .46. What fits no area is drawn again, up to 100 times; after that the
    whole image is taken. The last offset that would fit is never drawn, as there.

    Draws nothing after it from `draws`: how often it draws depends on the images that are here.
    """
    height_B, width_B = sizes_B2.unbind(1)
    nothing_B = torch.zeros_like(height_B)
    boxes_B4 = torch.stack((nothing_B, nothing_B, height_B, width_B), dim=1)
    missing_B = torch.ones(len(sizes_B2), dtype=torch.bool)
    for _ in range(MAX_ATTEMPTS):
        drawn_B4, fits_B = _attempt(height_B, width_B, draws)
        boxes_B4 = torch.where((missing_B & fits_B)[:, None], drawn_B4, boxes_B4)
        missing_B &= ~fits_B
        if not missing_B.any():
            break
    return boxes_B4


def _attempt(height_B: Tensor, width_B: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Draw a box for each image, in float32 and whole numbers as TensorFlow does; does it fit?"""
    drawn_4B = draws.uniform(4)
    low, high = ASPECT_RANGE
    aspect_B = drawn_4B[0].float() * (high - low) + low
    min_area_B = AREA_RANGE[0] * width_B.float() * height_B
    max_area_B = AREA_RANGE[1] * width_B.float() * height_B
    shortest_B = _rounded((min_area_B / aspect_B).sqrt())
    tallest_B = _rounded((max_area_B / aspect_B).sqrt())
    too_wide_B = _rounded(tallest_B * aspect_B) > width_B
    narrower_B = ((width_B + (0.5 - 1e-7)) / aspect_B.double()).long()
    narrower_B -= (_rounded(narrower_B * aspect_B) > width_B).long()
    tallest_B = torch.where(too_wide_B, narrower_B, tallest_B).minimum(height_B)
    shortest_B = shortest_B.minimum(tallest_B)
    box_height_B = shortest_B + _below(drawn_4B[1], tallest_B - shortest_B + 1)
    # Rounding may have left the area: one row more, or one less.
    area_B = box_height_B * _rounded(box_height_B * aspect_B)
    box_height_B = box_height_B + (area_B < min_area_B).long()
    area_B = box_height_B * _rounded(box_height_B * aspect_B)
    box_height_B = box_height_B - (area_B > max_area_B).long()
    box_width_B = _rounded(box_height_B * aspect_B)
    area_B = box_height_B * box_width_B
    fits_B = (min_area_B <= area_B) & (area_B <= max_area_B) & (area_B > 0)
    fits_B &= (box_width_B <= width_B) & (box_height_B <= height_B)
    top_B = _below(drawn_4B[2], height_B - box_height_B)
    left_B = _below(drawn_4B[3], width_B - box_width_B)
    return torch.stack((top_B, left_B, box_height_B, box_width_B), dim=1), fits_B


def _rounded(values_B: Tensor) -> Tensor:
    """Round halves to even, as lrintf does."""
    return values_B.round().long()


def _below(share_B: Tensor, num_B: Tensor) -> Tensor:
    """Return a whole number in [0, num) for a uniform share; 0 where num is not positive."""
    return (share_B * num_B).long().clamp_(min=0)


def crop_positions(boxes_B4: Tensor, size_px: int, *, flip_B: Tensor) -> Tensor:
    """Return where rows and columns of each resized box are read, in pixels: position_B2O.

    Bilinear with half-pixel centres, held inside the box, so that its edge repeats and nothing
    outside it is read; columns of mirrored images run backwards.
    """
    centre_O = (torch.arange(size_px, dtype=torch.float32, device=boxes_B4.device) + 0.5) / size_px
    start_B21, length_B21 = boxes_B4.float().view(-1, 2, 2, 1).unbind(1)
    position_B2O = (centre_O * length_B21 - 0.5).clamp_(min=0).minimum(length_B21 - 1)
    position_B2O.add_(start_B21)
    columns_BO = position_B2O[:, 1]
    columns_BO.copy_(torch.where(flip_B[:, None], columns_BO.flip(1), columns_BO))
    return position_B2O


def sample_in_chunks(images_BHWC: Tensor, position_B2O: Tensor) -> Tensor:
    """Read each image at the crossings of its rows and columns, two-tap bilinear, in [-1, 1]."""
    # grid_sample's coordinates: from -1 to 1 between the outer edges of the image.
    height, width = images_BHWC.shape[1:3]
    rows_BO, columns_BO = (position_B2O * 2 + 1).unbind(1)
    rows_BO, columns_BO = rows_BO / height - 1, columns_BO / width - 1
    size_px = position_B2O.shape[2]
    return in_chunks(sample, images_BHWC, rows_BO, columns_BO, size_px=size_px)


def sample(images_BHWC: Tensor, rows_BO: Tensor, columns_BO: Tensor) -> Tensor:
    """Return x_BCHW (float32 in [0, 255]) at rows and columns in grid_sample's coordinates."""
    zeros_BO = torch.zeros_like(rows_BO)
    # A sum of complex numbers writes both coordinates of every crossing in one pass, in an eighth
    # of the time that stacking takes.
    down_BOO = torch.complex(zeros_BO, rows_BO)[..., None]
    grid_BOO = torch.complex(columns_BO, zeros_BO)[:, None, :] + down_BOO
    return F.grid_sample(
        images_BHWC.permute(0, 3, 1, 2).float(),  # left in the order of the pixels
        torch.view_as_real(grid_BOO),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
