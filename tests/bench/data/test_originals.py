"""Images as a protocol sees them: every preset on originals, against the authors' formulas."""

from __future__ import annotations

import errno
import io
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import stats

from bench.data import catalog, crops, decode, loader, splits, taps, transforms
from bench.data.packs import build, read, write
from bench.data.packs.read import Originals
from bench.data.transforms import preset
from bench.errors import DataError
from bench.specs import DatasetCard

SIDES_PX = (224, 384, 480, 512, 518)
TRAINING = ("vit-train", "bit-train", "shift", "shift-flip")
f32 = np.float32


# --- the formulas, slowly ---------------------------------------------------------------------


def pixel_by_pixel(image_HWC: np.ndarray, size_px: int, *, legacy: bool = False) -> np.ndarray:
    """TensorFlow's bilinear resize, one number after another, all in float32."""
    height, width, _ = image_HWC.shape
    out = np.empty((size_px, size_px, 3), dtype=f32)
    for row in range(size_px):
        top, bottom, down = one_tap(row, height, size_px, legacy)
        for column in range(size_px):
            left, right, along = one_tap(column, width, size_px, legacy)
            for channel in range(3):
                a, b = (f32(image_HWC[top, x, channel]) for x in (left, right))
                c, d = (f32(image_HWC[bottom, x, channel]) for x in (left, right))
                above, below = f32(a + f32(f32(b - a) * along)), f32(c + f32(f32(d - c) * along))
                out[row, column, channel] = f32(above + f32(f32(below - above) * down))
    return out


def one_tap(index: int, source: int, target: int, legacy: bool) -> tuple[int, int, np.float32]:
    scale = f32(f32(source) / f32(target))
    if legacy:
        position = f32(f32(index) * scale)
    else:
        position = f32(f32(f32(f32(index) + f32(0.5)) * scale) - f32(0.5))
    floor = math.floor(position)
    return max(floor, 0), max(min(math.ceil(position), source - 1), 0), f32(position - f32(floor))


def resized(image_HWC: np.ndarray, size_px: int, *, legacy: bool = False) -> np.ndarray:
    """The same for whole images: the taps of each axis by the loop, then the same float steps."""
    height, width, _ = image_HWC.shape
    rows = [one_tap(index, height, size_px, legacy) for index in range(size_px)]
    columns = [one_tap(index, width, size_px, legacy) for index in range(size_px)]
    (top, bottom, down), (left, right, along) = (
        [np.array(part) for part in zip(*axis, strict=True)] for axis in (rows, columns)
    )
    pixels = image_HWC.astype(f32)
    along, down = along[None, :, None], down[:, None, None]
    above = pixels[top][:, left]
    above = above + (pixels[top][:, right] - above) * along
    below = pixels[bottom][:, left]
    below = below + (pixels[bottom][:, right] - below) * along
    found: np.ndarray = above + (below - above) * down
    return found


def seen(pixels_HWC: np.ndarray) -> np.ndarray:
    """Return (x - 127.5) / 127.5, channels first."""
    return ((pixels_HWC - f32(127.5)) / f32(127.5)).transpose(2, 0, 1)


def random_crop(
    width: int, height: int, uniform: Callable[[], float]
) -> tuple[int, int, int, int] | None:
    """One attempt of sample_distorted_bounding_box, number after number, as its source has it."""
    aspect = f32(f32(uniform()) * f32(f32(1.33) - f32(0.75)) + f32(0.75))
    low = f32(f32(f32(0.05) * f32(width)) * f32(height))
    high = f32(f32(f32(1.0) * f32(width)) * f32(height))
    shortest, tallest = (int(np.rint(np.sqrt(f32(area / aspect)))) for area in (low, high))
    if int(np.rint(f32(tallest) * aspect)) > width:
        tallest = int((width + 0.5 - 1e-7) / float(aspect))
        if int(np.rint(f32(tallest) * aspect)) > width:
            tallest -= 1
    tallest = min(tallest, height)
    shortest = min(shortest, tallest)
    share = uniform()
    box_height = shortest + int(share * (tallest - shortest + 1))
    box_width = int(np.rint(f32(box_height) * aspect))
    if box_width * box_height < low:
        box_height += 1
        box_width = int(np.rint(f32(box_height) * aspect))
    if box_width * box_height > high:
        box_height -= 1
        box_width = int(np.rint(f32(box_height) * aspect))
    area = box_width * box_height
    down, along = uniform(), uniform()
    if not low <= area <= high or box_width > width or box_height > height or area <= 0:
        return None
    top = int(down * (height - box_height)) if box_height < height else 0
    left = int(along * (width - box_width)) if box_width < width else 0
    return top, left, box_height, box_width


# --- images -----------------------------------------------------------------------------------


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """An image with edges and gradients, which resizing moves."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.where(rng.random((height, width, 1)) < 0.2, 255 - image, image).astype(np.uint8)


class InMemory:
    """Images as `Transform.originals` takes them."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self._images = images
        self.sizes_N2 = np.array([image.shape[:2] for image in images])

    def each(self, rows: np.ndarray, work: Callable[[int, np.ndarray], None]) -> None:
        for place, row in enumerate(rows):
            image = self._images[row]
            padded = np.full((*image.shape[:2], 4), 99, dtype=np.uint8)
            padded[..., :3] = image
            work(place, padded)


SHAPES = ((40, 30), (30, 40), (33, 33), (57, 21), (1, 9), (9, 1), (200, 3))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [photograph(*shape, seed) for seed, shape in enumerate(SHAPES)]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[np.ndarray]:
    """ImageNet pictures: wide, tall, square, grey and very large ones among them."""
    files = sorted((shared_data / "imagenet-samples").glob("*.JPEG"))
    images = [decode.original(path.read_bytes(), name=path.name) for path in files[::10]]
    assert len({image.shape for image in images}) > 5
    return images


def of(name: str, images: list[np.ndarray], size_px: int, seed: int | None = None) -> np.ndarray:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    x_BCHW = preset(name, size_px=size_px).originals(
        InMemory(images), np.arange(len(images)), generator
    )
    found: np.ndarray = x_BCHW.numpy()
    return found


@pytest.mark.parametrize("name", TRAINING)
def test_training_presets_refuse_to_draw_from_nowhere(name: str) -> None:
    with pytest.raises(ValueError, match="pass a generator"):
        of(name, [photograph(9, 8, seed=0)], 4)


# --- the resize rule --------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("size_px", [1, 5, 16, 31])
def test_two_taps_equal_tensorflows_rule_to_the_bit(
    pictures: list[np.ndarray], size_px: int, legacy: bool
) -> None:
    found = of("resize-legacy" if legacy else "resize", pictures, size_px)
    for image, x_CHW in zip(pictures, found, strict=True):
        expected = pixel_by_pixel(image, size_px, legacy=legacy)
        assert np.array_equal(expected, resized(image, size_px, legacy=legacy))
        assert np.array_equal(x_CHW, seen(expected))


@pytest.mark.data
@pytest.mark.parametrize("size_px", SIDES_PX)
def test_evaluation_of_real_images_equals_the_formulas(
    real: list[np.ndarray], size_px: int
) -> None:
    larger_px = round(size_px * 8 / 7)
    start = (larger_px - size_px) // 2
    central = slice(start, start + size_px)
    found = {name: of(name, real, size_px) for name in ("resize", "resize-legacy", "fewshot")}
    for index, image in enumerate(real):
        assert np.array_equal(found["resize"][index], seen(resized(image, size_px)))
        legacy = resized(image, size_px, legacy=True)
        assert np.array_equal(found["resize-legacy"][index], seen(legacy))
        cut = resized(image, larger_px)[central, central]
        assert np.array_equal(found["fewshot"][index], seen(cut))


@pytest.mark.data
@pytest.mark.parametrize("size_px", SIDES_PX)
def test_training_on_real_images_equals_the_formulas(real: list[np.ndarray], size_px: int) -> None:
    found = {name: of(name, real, size_px, seed=size_px) for name in TRAINING}
    draws = {
        name: crops.Draws(torch.Generator().manual_seed(size_px), num=len(real))
        for name in TRAINING
    }
    flips = draws["vit-train"].half()
    sizes_B2 = torch.tensor([image.shape[:2] for image in real])
    boxes = crops.inception_boxes(sizes_B2, draws["vit-train"]).tolist()
    larger_px = {480: 512, 384: 448}.get(size_px, round(size_px * 8 / 7))
    cuts = draws["bit-train"].integers(0, larger_px - size_px + 1).tolist()
    cut_flips = draws["bit-train"].half()
    moves = draws["shift"].integers(-(size_px // 8), size_px // 8 + 1).tolist()
    for index, image in enumerate(real):
        top, left, height, width = boxes[index]
        crop = resized(image[top : top + height, left : left + width], size_px)
        crop = crop[:, ::-1] if flips[index] else crop
        assert np.array_equal(found["vit-train"][index], seen(crop))
        top, left = cuts[index]
        cut = resized(image, larger_px)[top : top + size_px, left : left + size_px]
        cut = cut[:, ::-1] if cut_flips[index] else cut
        assert np.array_equal(found["bit-train"][index], seen(cut))
        rows, columns = (
            np.clip(np.arange(size_px) + move, 0, size_px - 1) for move in moves[index]
        )
        assert np.array_equal(
            found["shift"][index], seen(resized(image, size_px)[rows][:, columns])
        )


@pytest.mark.data
@pytest.mark.parametrize("size_px", SIDES_PX)
def test_two_taps_are_not_an_antialiased_resize(real: list[np.ndarray], size_px: int) -> None:
    """At 384 px a squashed pack made these one and the same."""
    shrunk = [image for image in real if min(image.shape[:2]) > size_px][:3]
    plain, smooth = (of(name, shrunk, size_px) for name in ("resize", "resize-antialias"))
    for index, image in enumerate(shrunk):
        expected = F.interpolate(
            torch.tensor(image).permute(2, 0, 1)[None].float(), (size_px, size_px),
            mode="bilinear", antialias=True, align_corners=False,
        )  # fmt: skip
        assert smooth[index] == pytest.approx(expected[0].numpy() / 127.5 - 1, abs=2e-5)
        assert np.abs(plain[index] - smooth[index]).mean() > 0.001


@pytest.mark.parametrize("name", transforms.PRESETS)
def test_originals_of_one_size_look_as_from_an_array(name: str) -> None:
    images = [photograph(29, 24, seed) for seed in range(5)]
    batch = torch.from_numpy(np.stack(images))
    from_array = preset(name, size_px=16)(batch, torch.Generator().manual_seed(4))
    assert of(name, images, 16, seed=4) == pytest.approx(from_array.numpy(), abs=3e-5)


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (50, 51)])
def test_timms_evaluation_keeps_the_shape_of_a_picture(size: tuple[int, int]) -> None:
    """Pillow and torchvision: the shorter side, then the centre."""
    from torchvision.transforms import v2

    image = photograph(*size, seed=1)
    steps = v2.Compose(
        [v2.Resize(248, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)]
    )
    expected = np.asarray(steps(Image.fromarray(image)))
    found = of("timm-bicubic-900", [image], 224)[0]
    assert np.abs(found - seen(expected.astype(f32))).max() <= 1 / 127.5 + 1e-6
    assert np.abs(found - seen(expected.astype(f32))).mean() < 1e-3


# --- the law of crops -------------------------------------------------------------------------

FRAMES = ((300, 400), (400, 300), (224, 224), (375, 500), (60, 80))


@pytest.mark.parametrize(("height", "width"), [*FRAMES, (4, 3), (5, 1), (2, 2)])
def test_each_box_is_the_one_that_tensorflow_makes_of_the_same_numbers(
    height: int, width: int
) -> None:
    num = 1500
    sizes_B2 = torch.tensor((height, width)).expand(num, 2)
    drawn_4B = crops.Draws(torch.Generator().manual_seed(1), num=num).uniform(4)
    draws = crops.Draws(torch.Generator().manual_seed(1), num=num)
    boxes_B4, fits_B = crops._attempt(sizes_B2[:, 0], sizes_B2[:, 1], draws)
    for index, numbers in enumerate(drawn_4B.T.tolist()):
        numbered: Iterator[float] = iter(numbers)
        expected = random_crop(width, height, numbered.__next__)
        assert bool(fits_B[index]) == (expected is not None)
        if expected is not None:
            assert tuple(boxes_B4[index].tolist()) == expected


@pytest.mark.parametrize(("height", "width"), FRAMES)
def test_crops_follow_tensorflows_law(height: int, width: int) -> None:
    """On originals a crop is as wide as the paper's; squashing 4:3 first made it 1.0 to 1.78."""
    num, rng = 4000, random.Random(0)
    sizes_B2 = torch.tensor((height, width)).expand(num, 2)
    draws = crops.Draws(torch.Generator().manual_seed(2), num=num)
    ours = crops.inception_boxes(sizes_B2, draws).numpy()
    theirs = [box for _ in range(num) if (box := random_crop(width, height, rng.random))]
    found, expected = ({**shape(boxes, height, width)} for boxes in (ours, np.array(theirs)))
    for name in found:
        assert stats.ks_2samp(found[name], expected[name]).pvalue > 1e-3, name
    assert 0.72 < found["aspect"].min() < found["aspect"].max() < 1.40
    assert found["area"].min() >= 0.05


def shape(boxes: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    top, left, box_height, box_width = boxes.T
    return {
        "aspect": box_width / box_height,
        "area": box_width * box_height / (height * width),
        "top": top / height,
        "left": left / width,
    }


def test_an_image_that_no_crop_fits_is_taken_whole() -> None:
    boxes = crops.inception_boxes(
        torch.tensor([[1, 400], [300, 400]]), crops.Draws(torch.Generator(), num=2)
    )
    assert boxes[0].tolist() == [0, 0, 1, 400]


# --- the store --------------------------------------------------------------------------------


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

    def batches(**keys: int | bool) -> loader.Batches:
        return loader.Batches(
            split, None, preset("vit-train", size_px=16), batch_size=4, seed=3, **keys  # type: ignore[arg-type]
        )  # fmt: skip

    whole = [batches().at(step) for step in range(4)]
    again, ahead = batches(), batches(prefetch=True)
    for step in (2, 0, 3):
        assert torch.equal(again.at(step)[0], whole[step][0])
    for step, (x_BCHW, labels_B) in enumerate(whole):
        assert torch.equal(ahead.at(step)[0], x_BCHW)
        for rank in range(2):
            part, labels = batches(rank=rank, world=2).at(step)
            assert torch.equal(part, x_BCHW[rank::2])
            assert torch.equal(labels, labels_B[rank::2])
    evaluated = loader.evaluation_batches(split, preset("resize", size_px=16), batch_size=3)
    rows = torch.cat([x_BCHW for x_BCHW, _ in evaluated])
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


def test_taps_hold_indices_inside_the_image() -> None:
    lengths = np.array([1, 2, 7, 500])
    for legacy in (False, True):
        found = taps.taps(lengths, 13, legacy=legacy)
        assert (found.low_BO >= 0).all()
        assert (found.high_BO < lengths[:, None]).all()
        assert (found.low_BO <= found.high_BO).all()
        assert ((found.lerp_BO >= 0) & (found.lerp_BO < 1)).all()


def test_a_full_disk_is_one_message_and_packing_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, saves = card_of(folder), []
    save = write._save

    def full(file: Path, entries: np.ndarray) -> None:
        saves.append(file)
        if len(saves) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, entries)

    monkeypatch.setattr(write, "CHUNK_BYTES", 3000)
    monkeypatch.setattr(write, "_save", full)
    with pytest.raises(DataError, match=r"cannot be packed into .* \(No space left on device\)"):
        build.packed(card, cache_dir=tmp_path / "cache")
    partial = tmp_path / "cache" / f"{card.digest}.partial"
    assert partial.is_dir()
    assert not (tmp_path / "cache" / card.digest).exists()
    monkeypatch.setattr(write, "_save", save)
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
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    assert build.packed(card, cache_dir=tmp_path / "cache").manifest["format"] == 2


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
