"""One image file to one square RGB array, the same way for every format and mode.

Rules, in order: the EXIF orientation is applied; 16-bit grey keeps its high byte; every other mode
becomes RGB as Pillow converts it (alpha is dropped, as torchvision's ImageFolder does); the image
is squashed to the square with Pillow's bilinear filter, which averages over the source pixels when
it shrinks (antialiased).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.errors import DataError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can claim any size."""

REMOVE_HINT = "Replace the file, or remove it"


def square_image(path: Path, *, size_px: int) -> np.ndarray:
    """Return the image of a file as uint8 (size, size, 3); raises DataError naming the file."""
    return square(load_rgb(path, name=str(path)), size_px)


def square(image: Image.Image, size_px: int) -> np.ndarray:
    """Return an image squashed to the square, uint8 (size, size, 3)."""
    if image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(image)


def square_array(image: np.ndarray, size_px: int) -> np.ndarray:
    """Return a uint8 image (H, W) or (H, W, 3) as a square RGB array."""
    return square(Image.fromarray(image).convert("RGB"), size_px)


def load_rgb(file: Path | IO[bytes], *, name: str) -> Image.Image:
    """Decode a file to an upright RGB image; raises DataError that names it by `name`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, huge images: judged here instead
            with Image.open(file) as image:
                _check_size(image, name)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image", hint=REMOVE_HINT) from error
    except DataError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from error
        raise DataError(f"{name}: damaged image ({error})", hint=REMOVE_HINT) from error
    except (
        Exception
    ) as error:  # decoders raise anything on hostile bytes: SyntaxError, struct.error
        raise DataError(
            f"{name}: damaged image ({type(error).__name__}: {error})", hint=REMOVE_HINT
        ) from error


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width:,} x {height:,} pixels, more than the {MAX_PIXELS:,} allowed",
            hint="Shrink the image, or remove it",
        )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # Pillow clips such values at 255 when it converts: every 16-bit image would turn white.
        values = np.asarray(image)
        if image.mode.startswith("I"):
            values = values.astype(np.int64) >> 8
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "RGB":
        return image.copy() if image.readonly else image
    if image.mode == "P":  # palettes with transparency go through RGBA
        image = image.convert("RGBA")
    return image.convert("RGB")
