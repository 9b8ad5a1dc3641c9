"""Small image folders made on the spot, and a cache folder that is not the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path_factory.mktemp("user-cache")))


def write_images(
    folder: Path, counts: dict[str, int], *, side: int = 12, suffix: str = ".png", seed: int = 0
) -> Path:
    """Write `counts[class]` random images of each class under `folder`; returns the folder."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (side, side + 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}{suffix}")
    return folder


@pytest.fixture
def make_images() -> Callable[..., Path]:
    return write_images


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """An image with edges and gradients, which resizing moves."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.where(rng.random((height, width, 1)) < 0.2, 255 - image, image).astype(np.uint8)


SHAPES = ((40, 30), (30, 40), (33, 33), (57, 21), (1, 9), (9, 1), (200, 3))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [photograph(*shape, seed) for seed, shape in enumerate(SHAPES)]
