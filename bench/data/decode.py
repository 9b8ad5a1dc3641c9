"""One image file to one RGB array, the same way for every format and mode.

Rules, in order: the EXIF orientation is applied; 16-bit grey keeps its high byte; every other mode
becomes RGB as Pillow converts it (alpha is dropped, as torchvision's ImageFolder does). That is the
original, which a protocol crops and resizes. Only where a data set was asked for as squares is it
squashed here, with Pillow's bilinear filter, which averages over the source pixels when it shrinks
(antialiased).

Plain JPEG files (grey or YCbCr, not turned by their metadata) are decoded by simplejpeg, which
calls libjpeg-turbo directly: the same pixels as Pillow's, up to five times as fast. Whatever else
it is given, or warns of, goes to Pillow, which judges alone.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from bench.errors import DataError

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can claim any size."""

QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""

REMOVE_HINT = "Replace the file, or remove it"
SHRINK_HINT = "Shrink the image, or remove it"


Size = tuple[int, int]
"""Height and width, in pixels."""


def original(content: bytes, *, name: str) -> np.ndarray:
    """Return the image in the bytes of a file as uint8 (H, W, 3); raises DataError."""
    image_HWC = plain_jpeg(content)
    if image_HWC is not None:
        return image_HWC
    return np.asarray(_by_pillow(content, name=name))


def original_4(content: bytes, *, name: str) -> np.ndarray:
    """Return the same with a fourth byte in each pixel, uint8 (H, W, 4), which means nothing.

    Pixels of four bytes are picked several times as fast as pixels of three (`taps.read`).
    """
    image_HW4 = plain_jpeg(content, colours="RGBA")
    if image_HW4 is not None:
        return image_HW4
    return np.asarray(_by_pillow(content, name=name).convert("RGBA"))


def size_of(content: bytes, *, name: str) -> Size:
    """Return the size of the upright image in the bytes of a file; raises DataError.

    Only the head of the file is read: the image may still turn out not to decode.
    """
    with contextlib.suppress(ValueError):
        if _is_plain(content):
            height, width, _, _ = simplejpeg.decode_jpeg_header(content)
            return height, width
    with _judged(name, content), Image.open(io.BytesIO(content)) as image:
        _check_size(image, name)
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in QUARTER_TURNS
    return (width, height) if turned else (height, width)


def squashed(path: Path, *, size_px: Size) -> np.ndarray:
    """Return the image of a file squashed to (height, width), uint8 (H, W, 3); raises DataError."""
    return squashed_of(_read(path, name=str(path)), size_px=size_px, name=str(path))


def squashed_of(content: bytes, *, size_px: Size, name: str) -> np.ndarray:
    """Return the image in the bytes of a file squashed to a size, uint8 (H, W, 3)."""
    return _squashed(original(content, name=name), size_px)


def squashed_array(image: np.ndarray, size_px: Size) -> np.ndarray:
    """Return a uint8 image (H, W) or (H, W, 3) squashed to a size, uint8 (H, W, 3)."""
    return _squashed(np.asarray(Image.fromarray(image).convert("RGB")), size_px)


def _squashed(image_HWC: np.ndarray, size_px: Size) -> np.ndarray:
    if image_HWC.shape[:2] == size_px:
        return image_HWC  # without a way through Pillow, which costs twice as much as decoding
    height, width = size_px
    image = Image.fromarray(image_HWC).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def load_rgb(file: Path | IO[bytes], *, name: str) -> Image.Image:
    """Decode a file to an upright RGB image; raises DataError that names it by `name`."""
    content = _read(file, name=name)
    image_HWC = plain_jpeg(content)
    if image_HWC is not None:
        return Image.fromarray(image_HWC)
    return _by_pillow(content, name=name)


def _read(file: Path | IO[bytes], *, name: str) -> bytes:
    try:
        return file.read_bytes() if isinstance(file, Path) else file.read()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from error


def plain_jpeg(content: bytes, *, colours: str = "RGB") -> np.ndarray | None:
    """Return the pixels of a JPEG that nothing is unusual about, else None.

    Segments of kind APP1 hold EXIF and XMP, either of which may say that the image is turned; most
    do not.
    """
    if not _is_plain(content):
        return None
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(content)
        if stored not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        image_HWC: np.ndarray = simplejpeg.decode_jpeg(content, colours)
    except ValueError:  # a warning of the decoder too: strict is its default
        return None
    return image_HWC


def _is_plain(content: bytes) -> bool:
    """Return whether a file is a JPEG that nothing before its pixels turns."""
    if content[:2] != b"\xff\xd8":
        return False
    start = 2
    while content[start : start + 1] == b"\xff":
        marker = content[start + 1 : start + 2]
        if marker == b"\xda":  # the pixels begin
            return True
        if marker in (b"\xe1", b"\xff"):  # or padding, which metadata may follow
            return _is_upright(content)
        start += 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    return False  # damage: Pillow judges


def _is_upright(content: bytes) -> bool:
    """Return whether the metadata of a file can be read and do not turn it."""
    with (
        contextlib.suppress(DataError),
        _judged("", content),
        Image.open(io.BytesIO(content)) as image,
    ):
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) == 1)
    return False


def _by_pillow(content: bytes, *, name: str) -> Image.Image:
    with _judged(name, content), Image.open(io.BytesIO(content)) as image:
        _check_size(image, name)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)


@contextlib.contextmanager
def _judged(name: str, content: bytes) -> Iterator[None]:
    """Say in one line what is wrong with an image that Pillow cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, huge images: judged here instead
            yield
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image{_instead(content)}", hint=REMOVE_HINT) from error
    except Image.DecompressionBombError as error:  # Pillow looks first
        words = f"{name}: more than the {MAX_PIXELS:,} pixels allowed"
        raise DataError(words, hint=SHRINK_HINT) from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{name}: damaged image ({error})", hint=REMOVE_HINT) from error
    except Exception as error:  # hostile bytes raise anything: SyntaxError, struct.error
        raise DataError(
            f"{name}: damaged image ({type(error).__name__}: {error})", hint=REMOVE_HINT
        ) from error


def _instead(content: bytes) -> str:
    """Return what lies in place of an image, where it is one of the usual things."""
    head = content[:64].lstrip().lower()
    if not content:
        return ", but an empty file"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return ", but a page of a web site"
    if head.startswith(b"version https://git-lfs"):
        return ", but a pointer to one (`git lfs pull` fetches it)"
    return ""


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width:,} x {height:,} pixels, more than the {MAX_PIXELS:,} allowed",
            hint=SHRINK_HINT,
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
