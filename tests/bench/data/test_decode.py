"""Decoding: every format and mode upright and alike, and hostile files refused in one line."""

from __future__ import annotations

import csv
import io
import itertools
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from bench.data import decode
from bench.errors import DataError


def expected(shared_data: Path) -> list[dict[str, str]]:
    with open(shared_data / "decode-edge" / "expected.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_decodable_edge_case_becomes_upright_rgb(shared_data: Path) -> None:
    rows = [row for row in expected(shared_data) if row["decodes"] == "yes"]
    assert len(rows) == 20
    for row in rows:
        path = shared_data / "decode-edge" / row["file"]
        image = decode.load_rgb(path, name=row["file"])
        size = (int(row["width"]), int(row["height"]))
        assert image.mode == "RGB"
        assert image.size == (size[::-1] if size == (111, 160) else size), row["file"]
        assert decode.squashed(path, size_px=(24, 24)).shape == (24, 24, 3)


def test_every_other_edge_case_is_refused_by_name(shared_data: Path) -> None:
    rows = [row for row in expected(shared_data) if row["decodes"] != "yes"]
    assert {row["file"] for row in rows} == {"truncated.jpg", "empty.jpg", "not_an_image.jpg"}
    for row in rows:
        with pytest.raises(DataError, match=rf"{row['file']}: .*\. Replace the file"):
            decode.squashed(shared_data / "decode-edge" / row["file"], size_px=(24, 24))


def test_all_orientations_and_codings_show_the_same_picture(shared_data: Path) -> None:
    folder = shared_data / "decode-edge"
    base = decode.squashed(folder / "baseline.jpg", size_px=(32, 32)).astype(int)
    for name in [f"exif_orientation_{k}.jpg" for k in range(1, 9)] + [
        "progressive.jpg", "yuv444.jpg", "png_named.JPEG", "webp_lossless.webp", "cmyk.jpg",
        "rgba.png",
    ]:  # fmt: skip
        other = decode.squashed(folder / name, size_px=(32, 32)).astype(int)
        assert np.abs(other - base).mean() < 6, name


def test_grey_of_8_and_16_bits_keep_their_brightness(shared_data: Path) -> None:
    folder = shared_data / "decode-edge"
    grey = decode.squashed(folder / "gray.jpg", size_px=(32, 32)).astype(int)
    deep = decode.squashed(folder / "gray16.png", size_px=(32, 32)).astype(int)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert np.abs(grey - deep).mean() < 6


def test_sixteen_bit_values_keep_their_high_byte(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255, 256], [32768, 65535, 12800]], np.uint16)).save(
        tmp_path / "deep.png"
    )
    image = np.asarray(decode.load_rgb(tmp_path / "deep.png", name="deep"))
    assert image[..., 0].tolist() == [[0, 0, 1], [128, 255, 50]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": ".jpg", "YCbCr": ".jpg", "I": ".tif", "F": ".tif"}.get(mode, ".png")
    source = Image.fromarray(np.full((6, 5, 3), 200, np.uint8))
    image = source.convert("L").convert(mode) if mode in "IF" else source.convert(mode)
    image.save(tmp_path / f"image{suffix}")
    got = decode.load_rgb(tmp_path / f"image{suffix}", name=mode)
    assert got.mode == "RGB"
    assert got.size == (5, 6)


def test_the_resize_rule_is_pillows_antialiased_bilinear(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = decode.squashed(tmp_path / "a.png", size_px=(10, 10)).astype(int)
    assert np.abs(got - pixels.reshape(10, 3, 10, 5, 3).mean(axis=(1, 3))).mean() < 12
    same = decode.squashed(tmp_path / "a.png", size_px=(10, 10))
    expected_image = Image.fromarray(pixels).resize((10, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(same, np.asarray(expected_image))


# --- plain JPEG files -----------------------------------------------------------------------


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (33, 50), (250, 187)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_plain_jpegs_have_pillows_pixels(
    size: tuple[int, int], subsampling: int, progressive: bool
) -> None:
    pixels = np.random.default_rng(0).integers(90, 160, (*size, 3), dtype=np.uint8)
    for mode in ("RGB", "L"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(
            buffer, "JPEG", quality=85, subsampling=subsampling, progressive=progressive
        )
        content = buffer.getvalue()
        fast = decode.plain_jpeg(content)
        assert fast is not None
        assert np.array_equal(fast, by_pillow(content))
        buffer.seek(0)
        assert np.array_equal(np.asarray(decode.load_rgb(buffer, name="x")), fast)


def test_real_photographs_have_pillows_pixels(shared_data: Path) -> None:
    """Installed together, simplejpeg and Pillow must agree to the bit: digests rest on it."""
    paths = sorted((shared_data / "coco-tiny" / "train2017").glob("*.jpg"))[:12]
    contents = [path.read_bytes() for path in paths]
    with tarfile.open(shared_data / "cifar10-jpeg" / "cifar10-jpeg-test.tar.gz") as archive:
        files = (archive.extractfile(member) for member in archive if member.isfile())
        contents += [file.read() for file in itertools.islice(files, 200) if file is not None]
    plain = {index: decode.plain_jpeg(content) for index, content in enumerate(contents)}
    assert len(plain) == 212
    assert sum(image is None for image in plain.values()) <= 6  # photographs with EXIF
    for index, image in plain.items():
        assert image is None or np.array_equal(image, by_pillow(contents[index]))


def saved(mode: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (40, 20)).save(buffer, **{"format": "JPEG", **options})  # type: ignore[arg-type]
    return buffer.getvalue()


ROTATED = Image.Exif()
ROTATED[0x0112] = 6
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (saved("RGB", exif=ROTATED), (20, 40)),
        (saved("RGB", xmp=XMP), (20, 40)),
        (saved("CMYK"), (40, 20)),
        (saved("RGB", keep_rgb=True), (40, 20)),
        (saved("RGB", format="PNG"), (40, 20)),
    ],
    ids=["EXIF", "XMP", "CMYK", "RGB inside", "PNG"],
)
def test_unusual_files_go_to_pillow(content: bytes, size: tuple[int, int]) -> None:
    assert decode.plain_jpeg(content) is None
    assert decode.load_rgb(io.BytesIO(content), name="x").size == size


def test_a_jpeg_that_the_decoder_warns_of_is_judged_by_pillow() -> None:
    whole = saved("RGB")
    for cut in range(2, len(whole) - 1, 7):
        assert decode.plain_jpeg(whole[:cut]) is None
    with pytest.raises(DataError, match=r"x: damaged image"):
        decode.load_rgb(io.BytesIO(whole[: len(whole) // 2]), name="x")


def test_a_turned_jpeg_with_fill_bytes_before_its_metadata_is_turned() -> None:
    """Any marker may follow bytes of 0xFF that mean nothing (ITU T.81, B.1.1.2)."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.new("RGB", (40, 24), "red").save(file, "JPEG", exif=exif)
    content = file.getvalue()
    metadata = content.index(b"\xff\xe1")
    tables = content.index(b"\xff\xdb")
    for fill, shift in itertools.product(range(4), range(2)):
        # What looks like the begin of the pixels to whoever takes a fill byte for a marker.
        comment = b"\0" * shift + b"\xff\xda" * 32_000
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        filled = content[:metadata] + b"\xff" * fill + content[metadata:tables]
        filled += segment * 2 + content[tables:]
        assert decode.original(filled, name="x").shape == (40, 24, 3), (fill, shift)
        assert decode.size_of(filled, name="x") == (40, 24), (fill, shift)


# --- hostile files --------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """Return a tiny PNG that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_before_decoding(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(DataError, match=r"bomb\.png: .*pixels"):
        decode.squashed(tmp_path / "bomb.png", size_px=(8, 8))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: cannot be read \(No such file"):
        decode.squashed(tmp_path / "none.png", size_px=(8, 8))
    with pytest.raises(DataError, match="cannot be read"):
        decode.squashed(tmp_path, size_px=(8, 8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_and_garbled_files_never_escape_as_another_error(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    whole = buffer.getvalue()
    rng = np.random.default_rng(1)
    for cut in range(0, len(whole), max(1, len(whole) // 40)):
        garbled = bytearray(whole)
        for place in rng.integers(0, len(whole), 6):
            garbled[place] ^= int(rng.integers(1, 256))
        for content in (whole[:cut], bytes(garbled)):
            told, image = refusal(content)
            if image is None:
                assert told.startswith("file: ")
                assert "\n" not in told
            else:
                assert image.mode == "RGB"


def refusal(content: bytes) -> tuple[str, Image.Image | None]:
    try:
        return "", decode.load_rgb(io.BytesIO(content), name="file")
    except DataError as error:
        return str(error), None
