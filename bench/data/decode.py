"""One image file to one square RGB array, the same way for every format and mode.

Rules, in order: the EXIF orientation is applied; 16-bit grey keeps its high byte; every other mode
becomes RGB as Pillow converts it (alpha is dropped, as torchvision's ImageFolder does); the image
is squashed to the square with Pillow's bilinear filter, which averages over the source pixels when
it shrinks (antialiased).

Plain JPEG files (grey or YCbCr, without metadata that could turn them) are decoded by simplejpeg,
which calls libjpeg-turbo directly: the same pixels as Pillow's, up to five times as fast. Whatever
else it is given, or warns of, goes to Pillow, which judges alone.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import IO

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.errors import DataError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can claim any size."""

REMOVE_HINT = "Replace the file, or remove it"


def square_image(path: Path, *, size_px: int) -> np.ndarray:
    """Return the image of a file as uint8 (size, size, 3); raises DataError naming the file."""
    return square_of(_read(path, name=str(path)), size_px=size_px, name=str(path))


def square_of(content: bytes, *, size_px: int, name: str) -> np.ndarray:
    """Return the image in the bytes of a file as uint8 (size, size, 3); raises DataError."""
    image_HWC = plain_jpeg(content)
    if image_HWC is None:
        return square(_by_pillow(io.BytesIO(content), name=name), size_px)
    if image_HWC.shape == (size_px, size_px, 3):
        return image_HWC  # without a way through Pillow, which costs twice as much as decoding
    return square(Image.fromarray(image_HWC), size_px)


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
    content = _read(file, name=name)
    image_HWC = plain_jpeg(content)
    if image_HWC is not None:
        return Image.fromarray(image_HWC)
    return _by_pillow(io.BytesIO(content), name=name)


def _read(file: Path | IO[bytes], *, name: str) -> bytes:
    try:
        return file.read_bytes() if isinstance(file, Path) else file.read()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error


def plain_jpeg(content: bytes) -> np.ndarray | None:
    """Return the pixels of a JPEG that nothing is unusual about, else None.

    Segments of kind APP1 hold EXIF and XMP, either of which may say that the image is turned; the
    two bytes cannot occur in the compressed pixels.
    """
    if content[:3] != b"\xff\xd8\xff" or b"\xff\xe1" in content:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        image_HWC: np.ndarray = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:  # a warning of the decoder too: strict is its default
        return None
    return image_HWC


def _by_pillow(file: IO[bytes], *, name: str) -> Image.Image:
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
        raise DataError(f"{name}: damaged image ({error})", hint=REMOVE_HINT) from error
    except Exception as error:  # hostile bytes raise anything: SyntaxError, struct.error
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
