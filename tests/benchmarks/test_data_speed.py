"""The data path against its peers, side by side in one run and on one thread.

Run `taskset -c 1 pytest tests/benchmarks/test_data_speed.py -s` on a quiet machine to see the
figures; those of record stand in docs/performance.md, section "Data". Rates are of CPU time on one
thread, rounds are interleaved and the best of each side counts, because other load only ever adds
to it. What is asserted is that both sides do the same work; a rate is printed, never asserted.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torchvision.transforms import v2

from bench import models
from bench.data import catalog, decode, taps, transforms
from bench.data.crops import Draws
from bench.data.decoders import decoding
from bench.data.loader import MAX_BLOCK_STEPS, Batches, inputs
from bench.data.packs import build
from bench.data.packs.read import Originals, Split
from bench.data.sources import fractals

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDS, BATCH = 5, 64


def fastest(
    sides: dict[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Return each side's least CPU seconds, rounds interleaved, first call not counted."""
    best = dict.fromkeys(sides, float("inf"))
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            start = clock()
            side()
            best[name] = min(best[name], clock() - start)
    return best


def tell(line: str) -> None:
    load = os.getloadavg()[0]
    os.write(1, f"\n  {line} [load {load:.1f}]".encode())


def random_split(num: int, side: int) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, side, side, 3), dtype=np.uint8)
    return Split(images, np.arange(num, dtype=np.int64) % 10)


@pytest.mark.ordinary
@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("crop", ["shift", "Inception crop"])
def test_packed_images_against_torchvision(side: int, crop: str) -> None:
    """Crop, flip and normalization; the peer is torchvision on PIL images in a DataLoader."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    split = random_split(512, side)
    peer_transform = v2.Compose(
        [
            v2.RandomCrop(side, padding=side // 8, padding_mode="edge")
            if crop == "shift"
            else v2.RandomResizedCrop(side, scale=(0.05, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    class Pictures(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(split.labels_N)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            image = Image.fromarray(split.images_NHWC[index])
            return peer_transform(image), int(split.labels_N[index])

    loader = DataLoader(Pictures(), batch_size=BATCH, shuffle=True)
    preset = transforms.preset("shift-flip" if crop == "shift" else "vit-train", size_px=side)
    ours = Batches(split, None, preset, batch_size=BATCH, seed=0)
    best = fastest(
        {
            "ours": lambda: [ours.at(step) for step in range(8)],
            "peer": lambda: list(loader),
        }
    )
    x_BCHW, _ = ours.at(0)
    peer_BCHW, _ = next(iter(loader))
    assert x_BCHW.shape == peer_BCHW.shape
    assert abs(float(x_BCHW.mean() - peer_BCHW.mean())) < 0.1
    tell(
        f"{side} px {crop} + flip + normalize: ours {512 / best['ours']:,.0f} images/s, "
        f"torchvision {512 / best['peer']:,.0f}, ratio {best['peer'] / best['ours']:.1f}"
    )


@pytest.mark.ordinary
@pytest.mark.parametrize("name", ["vit-micro", "bit-micro"])
def test_the_loaders_share_of_a_training_step(name: str) -> None:
    size_px = catalog.protocol("pretrain-micro").image_size_px
    split = random_split(4096, size_px)
    batches = Batches(
        split, None, transforms.preset("shift-flip", size_px=size_px), batch_size=BATCH, seed=0
    )
    model = models.build(
        name, num_classes=64, image_size_px=size_px, generator=torch.Generator().manual_seed(0)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x_BCHW, y_B = batches.at(0)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(model(x_BCHW), y_B)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    counter = itertools.count()
    best = fastest(
        {"step": step, "data": lambda: [batches.at(next(counter)) for _ in range(MAX_BLOCK_STEPS)]},
        rounds=30,
    )
    best["data"] /= MAX_BLOCK_STEPS
    assert torch.isfinite(x_BCHW).all()
    tell(
        f"{name} at {size_px} px: step {best['step'] * 1e3:.2f} ms, "
        f"data {best['data'] * 1e3:.2f} ms, {best['data'] / (best['step'] + best['data']):.1%}"
    )


@pytest.mark.ordinary
def test_prefetching_on_one_core() -> None:
    """Training steps with batches prepared before them, and in a parallel thread."""
    split = random_split(4096, 12)
    model = models.build(
        "vit-micro", num_classes=64, image_size_px=12, generator=torch.Generator().manual_seed(0)
    )
    got: dict[str, torch.Tensor] = {}

    def steps(prefetch: bool) -> None:
        transform = transforms.preset("shift-flip", size_px=12)
        batches = Batches(split, None, transform, batch_size=BATCH, seed=0, prefetch=prefetch)
        for step in range(16):
            x_BCHW, y_B = batches.at(step)
            torch.nn.functional.cross_entropy(model(x_BCHW), y_B).backward()
        model.zero_grad()
        got[str(prefetch)] = x_BCHW

    best = fastest(
        {"before": lambda: steps(False), "parallel": lambda: steps(True)}, clock=time.perf_counter
    )
    assert torch.equal(got["True"], got["False"])
    tell(
        f"16 steps of vit-micro: batches made before {best['before'] * 1e3:.0f} ms, "
        f"in parallel {best['parallel'] * 1e3:.0f} ms, "
        f"ratio {best['before'] / best['parallel']:.2f}"
    )


def photographs(folder: Path, *, num: int = 24) -> list[bytes]:
    """Return real photographs as JPEG of 500 x 375 pixels, the usual size in ImageNet."""
    contents = []
    for path in sorted(folder.glob("*.jpg"))[:num]:
        buffer = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").resize((500, 375)).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


def small_images(archive: Path, *, num: int = 512) -> list[bytes]:
    """Return CIFAR-10 images as JPEG of 32 x 32 pixels."""
    with tarfile.open(archive) as tar:
        files = (tar.extractfile(member) for member in tar if member.isfile())
        return [file.read() for file in itertools.islice(files, num) if file is not None]


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def by_torchvision(content: bytes) -> np.ndarray:
    from torchvision.io import ImageReadMode, decode_jpeg

    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return decode_jpeg(data, ImageReadMode.RGB).permute(1, 2, 0).numpy()


@pytest.mark.ordinary
@pytest.mark.parametrize("what", ["500 x 375", "32 x 32"])
def test_jpeg_decoders(shared_data: Path, what: str) -> None:
    """Decoding alone, to an array, by each decoder that can be installed; then with the resize."""
    if what == "32 x 32":
        contents = small_images(shared_data / "cifar10-jpeg" / "cifar10-jpeg-test.tar.gz")
        sizes = [32]
    else:
        contents = photographs(shared_data / "coco-tiny" / "train2017")
        sizes = [64, 224]
    decoders: dict[str, Callable[[bytes], np.ndarray]] = {
        "Pillow": by_pillow,
        "torchvision": by_torchvision,
        "simplejpeg": lambda content: simplejpeg.decode_jpeg(content, "RGB"),
    }
    sides: dict[str, Callable[[], list[np.ndarray]]] = {
        name: lambda decoder=decoder: [decoder(content) for content in contents]
        for name, decoder in decoders.items()
    }
    for size_px in sizes:
        for name in ("Pillow", "torchvision"):
            sides[f"{name} to {size_px} px"] = lambda name=name, size_px=size_px: [
                decode.squashed_array(decoders[name](content), (size_px, size_px))
                for content in contents
            ]
        sides[f"ours to {size_px} px"] = lambda size_px=size_px: [
            decode.squashed_of(content, size_px=(size_px, size_px), name="x")
            for content in contents
        ]
    best = fastest(sides, rounds=3)
    expected = sides["Pillow"]()
    for name in decoders:
        for image, reference in zip(sides[name](), expected, strict=True):
            assert np.array_equal(image, reference), name
    rates = ", ".join(f"{name} {len(contents) / best[name]:,.0f}" for name in sides)
    tell(f"JPEG of {what}, images/s: {rates}")


@pytest.mark.ordinary
def test_faster_ways_to_a_small_square_that_move_pixels(shared_data: Path) -> None:
    """Decoding at a fraction of the size, and torch's resize of uint8, against ours."""
    contents = photographs(shared_data / "coco-tiny" / "train2017")

    def draft(content: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (64, 64))
            return decode.squashed_array(np.asarray(image.convert("RGB")), (64, 64))

    def torch_resize(content: bytes) -> np.ndarray:
        image_HWC = torch.from_numpy(simplejpeg.decode_jpeg(content, "RGB"))
        x_1CHW = torch.nn.functional.interpolate(
            image_HWC.permute(2, 0, 1)[None], (64, 64), mode="bilinear", antialias=True
        )
        return x_1CHW[0].permute(1, 2, 0).numpy()

    ways = {
        "ours": lambda content: decode.squashed_of(content, size_px=(64, 64), name="x"),
        "Pillow's draft": draft,
        "torch's resize": torch_resize,
    }
    sides = {
        name: lambda way=way: [way(content) for content in contents] for name, way in ways.items()
    }
    best = fastest(sides, rounds=3)
    images = {name: np.stack(side()).astype(int) for name, side in sides.items()}
    for name in ("Pillow's draft", "torch's resize"):
        moved = np.abs(images[name] - images["ours"])
        tell(
            f"{name} to 64 px: {best['ours'] / best[name]:.2f} times as fast; "
            f"levels off: mean {moved.mean():.2f}, most {moved.max()}"
        )


@pytest.mark.ordinary
@pytest.mark.parametrize("size_px", [224, pytest.param(384, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["vit-train", "resize"])
def test_originals_to_inputs(name: str, size_px: int, shared_data: Path, tmp_path: Path) -> None:
    """Real pictures to inputs: our batches, their bare parts, and torchvision on Pillow."""
    files = sorted((shared_data / "imagenet-samples").glob("*.JPEG"))[:BATCH]
    for index, file in enumerate(files):
        folder = tmp_path / "set" / "train" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
    shutil.copytree(tmp_path / "set" / "train", tmp_path / "set" / "test")
    block = {"reader": "image_folder", "path": str(tmp_path / "set")}
    card = catalog.resolve("pictures", block, base_dir=tmp_path)
    split = build.packed(card, cache_dir=tmp_path / "cache").split("train")
    images = split.images_NHWC
    assert isinstance(images, Originals)
    preset = transforms.preset(name, size_px=size_px)
    training = name == "vit-train"
    rows = np.arange(len(files))
    contents = [images.content(row) for row in rows]

    def draws() -> Draws:
        return Draws(torch.Generator().manual_seed(0), num=len(files))

    assert preset.preset.where is not None
    where = preset.preset.where(images.sizes_N2, draws(), size_px)

    def bare() -> np.ndarray:
        x_BCHW = np.empty((len(files), 3, size_px, size_px), dtype=np.float32)
        for row, content in enumerate(contents):
            taps.read(simplejpeg.decode_jpeg(content, "RGBA"), *where, row, x_BCHW[row])
        return x_BCHW

    def ours() -> torch.Tensor:
        with decoding(1, spare=False):
            return inputs(split, rows, preset, draws() if training else None, torch.device("cpu"))

    resized = (
        v2.RandomResizedCrop(size_px, (0.05, 1.0)) if training else v2.Resize((size_px, size_px))
    )
    flip = v2.RandomHorizontalFlip(0.5 if training else 0.0)
    theirs = v2.Compose([resized, flip, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

    def torchvision() -> torch.Tensor:
        return torch.stack(
            [theirs(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents]
        )

    def decoded() -> list[np.ndarray]:
        return [simplejpeg.decode_jpeg(content, "RGB") for content in contents]

    assert np.array_equal(ours().numpy(), bare())
    sides = {"decode": decoded, "bare": bare, "ours": ours, "torchvision": torchvision}
    best = fastest(sides, rounds=5)  # type: ignore[arg-type]
    rates = ", ".join(f"{side} {len(files) / best[side]:,.0f}" for side in sides)
    tell(f"{name} of originals at {size_px} px, images/s on one thread: {rates}")
    tell(f"{name}, {size_px} px: loader over its bare parts {best['ours'] / best['bare'] - 1:+.1%}")


@pytest.mark.ordinary
def test_fractals_per_second() -> None:
    for size_px in (16, 32, 64):
        got: list[np.ndarray] = []

        def classes(size_px: int = size_px, got: list[np.ndarray] = got) -> None:
            got[:] = [
                fractals.images(
                    seed=0, class_index=k, instances_N=np.arange(256), image_size_px=size_px
                )
                for k in range(4)
            ]

        best = fastest({"ours": classes}, rounds=3)
        assert len(np.unique(np.concatenate(got).reshape(1024, -1), axis=0)) == 1024
        tell(f"fractals at {size_px} px: {1024 / best['ours']:,.0f} images/s on one core")


@pytest.mark.ordinary
def test_opening_a_packed_set(tmp_path: Path) -> None:
    card = catalog.dataset("fractals")
    start = time.perf_counter()
    build.packed(card, cache_dir=tmp_path)
    built_s = time.perf_counter() - start
    best = fastest({"open": lambda: build.packed(card, cache_dir=tmp_path)})
    assert build.packed(card, cache_dir=tmp_path).split("train").images_NHWC.shape[0] == 16_384
    tell(f"fractals: packed in {built_s:.2f} s, opened and checked in {best['open'] * 1e3:.1f} ms")
