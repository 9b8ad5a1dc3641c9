"""Originals as they are kept: packed, lent, read in batches, resumed, and refused."""

from __future__ import annotations

import errno
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import catalog, decode, loader, splits
from bench.data.packs import build, read, write
from bench.data.packs.drawn import Drawn
from bench.data.packs.read import Originals
from bench.data.parts import Part
from bench.data.transforms import preset
from bench.errors import DataError
from bench.specs import DatasetCard
from tests.bench.data.conftest import photograph
from tests.bench.data.formulas import resized, seen


def card_of(path: Path, **keys: object) -> DatasetCard:
    block = {"reader": "image_folder", "path": str(path), **keys}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


@pytest.fixture
def folder(tmp_path: Path, pictures: list[np.ndarray]) -> Path:
    """Two classes of JPEG and PNG files of many sizes."""
    for index, image in enumerate([*pictures, *pictures]):
        name = tmp_path / "set" / ("a" if index % 2 else "b")
        name.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(name / f"{index:02d}.{'png' if index < 7 else 'jpg'}")
    return tmp_path / "set"


def test_files_of_many_sizes_are_kept_as_they_are(folder: Path, tmp_path: Path) -> None:
    card = card_of(folder)
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.packing == "encoded"
    assert packed.manifest["sizes_px"] == {"train": None, "test": None}
    assert card.squared_px is None
    originals = {path.read_bytes() for path in folder.rglob("*.*")}
    for name in ("train", "test"):
        images = packed.split(name).images_NHWC
        assert isinstance(images, Originals)
        for row, image in enumerate(images):
            assert images.content(row) in originals
            assert image.shape[:2] == tuple(images.sizes_N2[row])
    assert build.verify(packed.folder) == []
    kept = [path.stat().st_size for path in packed.folder.glob("*.encoded.bin")]
    assert sum(kept) == sum(len((folder / path).read_bytes()) for path in folder.rglob("*.*"))
    with pytest.raises(DataError, match="its images are of many sizes, which no array holds"):
        build.packed(card, cache_dir=tmp_path / "other", packing="arrays")


def test_files_that_another_set_holds_are_not_copied(folder: Path, tmp_path: Path) -> None:
    """As ImageNet-ReaL asks for most of ImageNet's validation images, in another order."""
    cache_dir = tmp_path / "cache"
    whole = build.packed(card_of(folder), cache_dir=cache_dir)
    images = {path.read_bytes() for path in folder.rglob("*.*")}
    own = {whole.split("test").images_NHWC.content(row) for row in range(2)}  # type: ignore[union-attr]
    files = sorted(path for path in folder.rglob("*.*") if path.read_bytes() not in own)
    part = tmp_path / "part"
    for index, path in enumerate(reversed(files)):
        place = (
            part / ("train" if index else "test") / path.parent.name / f"new {index}{path.suffix}"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    for name in ("a", "b"):
        if not (part / "test" / name).is_dir():
            (part / "test" / name).mkdir()
            first = next((part / "train" / name).iterdir())
            (part / "test" / name / first.name).write_bytes(first.read_bytes())
    packed = build.packed(card_of(part), cache_dir=cache_dir)
    assert set(packed.manifest["lent"]) == {"train", "test"}
    assert not list(packed.folder.glob("*.encoded.bin"))
    assert build.verify(packed.folder) == []
    alone = build.packed(card_of(part), cache_dir=tmp_path / "alone")
    assert not alone.manifest["lent"]
    for split in ("train", "test"):
        borrowed, copied = packed.split(split), alone.split(split)
        assert np.array_equal(borrowed.labels_N, copied.labels_N)
        for row in range(len(copied.labels_N)):
            content = borrowed.images_NHWC.content(row)  # type: ignore[union-attr]
            assert content == copied.images_NHWC.content(row)  # type: ignore[union-attr]
            assert content in images
    shutil.rmtree(whole.folder)  # who lends may go away
    again = build.packed(card_of(part), cache_dir=cache_dir)
    assert not again.manifest["lent"]
    assert len(list(again.folder.glob("*.encoded.bin"))) == 2


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"half written"])
def test_sets_that_are_being_packed_or_are_damaged_lend_nothing(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    """A second process may be packing into the same folder, and a disk may have lost a file."""
    cache_dir = tmp_path / "cache"
    damaged = build.packed(card_of(folder), cache_dir=cache_dir).folder
    under_way = cache_dir / "0123.partial"
    under_way.mkdir()
    for place in (damaged, under_way):
        read.hashes_file(place, "train").write_bytes(content)
    packed = build.packed(card_of(folder, seed=1), cache_dir=cache_dir)
    assert packed.folder != damaged
    assert not packed.manifest["lent"]


def test_small_files_of_one_size_become_arrays_with_the_same_pixels(tmp_path: Path) -> None:
    for index in range(8):
        name = tmp_path / "set" / ("a" if index % 2 else "b")
        name.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(20, 28, index)).save(name / f"{index}.png")
    card = card_of(tmp_path / "set")
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.packing == "arrays"
    images = packed.split("train").images_NHWC
    assert images.shape[1:] == (20, 28, 3)  # type: ignore[union-attr]
    encoded = build.packed(card, cache_dir=tmp_path / "other", packing="encoded")
    assert np.array_equal(
        packed.split("train").images(slice(None)), encoded.split("train").images(slice(None))
    )


def test_drawn_originals_are_prepared_as_among_all(folder: Path, tmp_path: Path) -> None:
    packed = build.packed(card_of(folder), cache_dir=tmp_path / "cache")
    whole, few = packed.split("train"), Drawn(packed, {"train"}, 4).split("train")
    rows = splits.drawn_rows(whole.labels_N, 4)
    assert isinstance(few.images_NHWC, Originals)
    assert len(few.images_NHWC) == len(few.labels_N) == 4
    transform, device = preset("resize", size_px=16), torch.device("cpu")
    found = loader.inputs(few, slice(1, 4), transform, None, device)
    assert torch.equal(found, loader.inputs(whole, rows[1:4], transform, None, device))
    assert [few.images_NHWC.name(place) for place in range(4)] == [
        whole.images_NHWC.name(row)
        for row in rows  # type: ignore[union-attr]
    ]
    assert len(whole.images_NHWC) > 4  # as it was


@pytest.mark.ordinary
def test_the_1000_images_of_vtab_are_read_from_where_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(1300):
        folder = tmp_path / "set" / ("test" if index < 60 else "train") / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (3 + index % 4, 5, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{index:04d}.png")
    packed = build.packed(card_of(tmp_path / "set"), cache_dir=tmp_path / "cache")
    train = packed.split("train")
    rows = splits.vtab_rows("train800val200", train.labels_N, None)
    chosen = packed.split("train800val200")
    assert isinstance(chosen.images_NHWC, Originals)
    assert len(chosen.images_NHWC) == len(chosen.labels_N) == 1000
    for place, row in enumerate(np.concatenate([part for _, part in rows]).tolist()):
        assert chosen.labels_N[place] == train.labels_N[row]
        assert np.array_equal(chosen.images_NHWC[place], train.images_NHWC[row])
    assert len(packed.split("val200").labels_N) == 200


def test_batches_of_originals_resume_and_divide_among_workers(folder: Path, tmp_path: Path) -> None:
    split = build.packed(card_of(folder), cache_dir=tmp_path / "cache").split("train")

    def batches(*, prefetch: bool | None = None) -> loader.Batches:
        return loader.Batches(
            split,
            None,
            preset("vit-train", size_px=16),
            batch_size=4,
            seed=3,
            prefetch=prefetch,
        )

    whole = [batches().at(step) for step in range(4)]
    again, ahead = batches(), batches(prefetch=True)
    for step in (2, 0, 3):
        assert torch.equal(again.at(step)[0], whole[step][0])
    for step, (x_BCHW, labels_B) in enumerate(whole):
        assert torch.equal(ahead.at(step)[0], x_BCHW)
        for rank in range(2):
            part = Part(rank=rank, world=2)
            x_bCHW, labels_b = batches().at(step, part)
            assert torch.equal(x_bCHW, x_BCHW[part.rows(4)])
            assert torch.equal(labels_b, labels_B[part.rows(4)])
    rows = loader.inputs(
        split, slice(0, len(split.labels_N)), preset("resize", size_px=16), None,
        torch.device("cpu"),
    )  # fmt: skip
    images: list[np.ndarray] = list(split.images_NHWC)
    assert np.array_equal(rows.numpy(), np.stack([seen(resized(image, 16)) for image in images]))


def test_the_number_of_decoders_changes_no_bit(folder: Path, tmp_path: Path) -> None:
    from bench.data.decoders import decoding

    split = build.packed(card_of(folder), cache_dir=tmp_path / "cache").split("train")
    found = []
    for num in (1, 3):
        with decoding(num, spare=num > 1):
            batches = loader.Batches(
                split, None, preset("vit-train", size_px=16), batch_size=5, seed=1
            )
            found.append(batches.at(1)[0])
    assert torch.equal(*found)


def test_turned_and_odd_images_are_seen_upright(shared_data: Path) -> None:
    """Sizes come from the head of a file, before it is decoded: they must agree."""
    decodable = [
        path
        for path in sorted((shared_data / "decode-edge").glob("*.*"))
        if path.name not in ("expected.csv", "truncated.jpg", "empty.jpg", "not_an_image.jpg")
    ]
    assert len(decodable) == 20
    for path in decodable:
        content = path.read_bytes()
        image = decode.original(content, name=path.name)
        assert decode.size_of(content, name=path.name) == image.shape[:2], path.name
        padded = decode.original_4(content, name=path.name)
        assert np.array_equal(padded[..., :3], image), path.name
        assert padded.shape[2] == 4


def test_a_picture_that_is_none_has_no_size() -> None:
    with pytest.raises(DataError, match="x: not an image"):
        decode.size_of(b"nothing", name="x")
    with pytest.raises(DataError, match="more than the 100,000,000 allowed"):
        decode.size_of(huge_png(), name="x")


def huge_png() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_100, 10_100)).save(file, "PNG")
    return file.getvalue()


def test_a_squared_pack_is_named_on_the_card(folder: Path) -> None:
    card = card_of(folder, image_size_px=24)
    assert card.squared_px == 24
    assert card.digest != card_of(folder).digest


def test_a_full_disk_is_one_message_and_packing_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, saves = card_of(folder), []
    write_text = write.write_text

    def full(file: Path, text: str, *, sync: bool = True) -> None:
        saves.append(file)
        if len(saves) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_text(file, text, sync=sync)

    monkeypatch.setattr(write, "CHUNK_BYTES", 3000)
    monkeypatch.setattr(write, "write_text", full)
    with pytest.raises(DataError, match=r"cannot be packed into .* \(No space left on device\)"):
        build.packed(card, cache_dir=tmp_path / "cache")
    partial = tmp_path / "cache" / f"{card.digest}.partial"
    assert partial.is_dir()
    assert not (tmp_path / "cache" / card.digest).exists()
    monkeypatch.setattr(write, "write_text", write_text)
    read: list[str] = []
    original = decode.original

    def counted(content: bytes, *, name: str) -> np.ndarray:
        read.append(name)
        return original(content, name=name)

    monkeypatch.setattr(decode, "original", counted)
    resumed = build.packed(card, cache_dir=tmp_path / "cache")
    assert len(set(read)) < 14  # what was packed before is not read again
    whole = build.packed(card, cache_dir=tmp_path / "whole")
    assert resumed.content_digest == whole.content_digest
    assert not partial.exists()


def test_a_store_of_another_version_is_written_again(folder: Path, tmp_path: Path) -> None:
    card = card_of(folder)
    first = build.packed(card, cache_dir=tmp_path / "cache")
    manifest = first.folder / "manifest.json"
    former = manifest.read_text().replace(f'"format": {read.FORMAT}', '"format": 1')
    manifest.write_text(former)
    assert build.packed(card, cache_dir=tmp_path / "cache").manifest["format"] == read.FORMAT


@pytest.mark.parametrize("change", ["gone", "altered", "no image"])
def test_an_original_that_changes_before_it_is_packed_is_named(
    folder: Path, tmp_path: Path, change: str
) -> None:
    card = card_of(folder)
    file = folder / "a" / "01.png"
    if change == "gone":
        file.unlink()
        message = "images, .* expected|cannot be read|changed"
    else:
        altered = (folder / "b" / "00.png").read_bytes() if change == "altered" else b"no image"
        file.write_bytes(altered)
        message = r"changed while they were read|01\.png: not an image"
    with pytest.raises(DataError, match=message) as error:
        build.packed(card, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache" / card.digest).exists()


# --- what is said of sizes --------------------------------------------------------------------


def test_files_that_a_protocol_enlarges_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.data import sizes

    def said(card: DatasetCard, *wanted_px: int, look: bool = True) -> list[str]:
        found = sizes.enlarged(card, wanted_px, cache_dir=tmp_path / "cache", look=look)
        return list(found)

    card = card_of(folder)
    assert said(card, 1) == []
    assert said(card, 300, look=False) == []
    assert said(card, 32, 300) == [
        "mine: 86% of the images are enlarged to 32 px (shorter sides: 1 to 33 px)",
        "mine: all images are enlarged to 300 px (shorter sides: 1 to 33 px)",
    ]
    squares = card_of(folder, image_size_px=24)
    assert said(squares, 32) == [
        "mine: all images are enlarged to 32 px (shorter sides: 24 to 24 px)"
    ]
    assert said(catalog.dataset("digits"), 384) == []
    with monkeypatch.context() as few:
        few.setattr(sizes, "SAMPLED", 3)
        (line,) = said(card, 300)
        assert line.endswith(" px; the first 3 of each split were looked at)")
    before = said(card, 32)
    build.packed(card, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(sizes, "reader_of", None)  # from here on no file is looked for
    assert said(card, 32, look=False) == before
