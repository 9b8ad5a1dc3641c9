"""The tables of names in docs/systems.md, held against the files that `save_weights` writes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import baselines
from baselines.contents import contents
from bench import models
from bench.plan.weights_files import look

PAGE = Path(__file__).resolve().parents[2] / "docs" / "systems.md"
SECTION = PAGE.read_text(encoding="utf-8").split("### Names in a file")[1].split("\n### ")[0]
TABLES = [
    [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
    for block in re.findall(r"(?:^\|.*\n)+", SECTION, re.MULTILINE)
]
VIT, LINEN, BIT, HYBRID = TABLES
ROWS = {"vit-micro": VIT, "bit-micro": BIT, "hybrid-micro": VIT + HYBRID}


def made(system: str, **extra: int) -> models.Classifier:
    generator = torch.Generator().manual_seed(1)
    model = models.build(system, num_classes=5, generator=generator, **extra)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.rand(parameter.shape, generator=generator)
    return model


def sizes(system: str) -> dict[str, int]:
    """Return the letters of the page for a micro system, whose stems are 3x3."""
    if system == "bit-micro":
        return {"D": baselines.system(system).feature_dim, "K": 5, "7": 3}
    patch_px = 4 if system == "vit-micro" else 1
    width = 64
    return {"D": width, "3D": 3 * width, "H": 4, "A": width // 4, "M": 128, "P": patch_px,
            "L": 10, "K": 5, "7": 3}  # fmt: skip


def numbered(name: str) -> str:
    """Return a name with the letters of the page in place of its numbers."""
    for pattern, letters in (
        (r"encoderblock_\d+", "encoderblock_I"),
        (r"stages\.\d+\.blocks\.\d+", "stages.S.blocks.U"),
        (r"(?<!stages\.S\.)blocks\.\d+", "blocks.I"),
        (r"block\d+/unit\d+", "blockS/unitU"),
    ):
        name = re.sub(pattern, letters, name)
    return name


def described(system: str, layout: str) -> dict[str, str]:
    """Return the shapes that the page gives, by name; ours are timm's behind `encoder.`."""
    column = 0 if layout == "npz" else 2
    found = {row[column].strip("`"): row[column + 1] for row in ROWS[system]}
    found.pop("none", None)
    if layout == "safetensors":
        heads = ("head.weight", "head.bias")
        found = {f"encoder.{name}": shape for name, shape in found.items() if "head" not in name}
        return found | {heads[0]: "K, D", heads[1]: "K"}
    return {name: shape for name, shape in found.items() if not name.startswith("pre_logits")}


def agrees(shape: tuple[int, ...], words: str, known: dict[str, int]) -> bool:
    parts = [part.strip() for part in words.split(",")]
    if len(parts) != len(shape):
        return False
    free: dict[str, int] = {}  # channels, the same within one array
    for part, size in zip(parts, shape, strict=True):
        expected = known.get(part, int(part) if part.isdecimal() else free.setdefault(part, size))
        if expected != size:
            return False
    return True


@pytest.mark.parametrize("layout", ["npz", "timm", "safetensors"])
@pytest.mark.parametrize("system", list(ROWS))
def test_the_page_names_every_array_of_a_file_with_its_shape_and_no_other(
    tmp_path: Path, system: str, layout: str
) -> None:
    ending = "npz" if layout == "npz" else "safetensors"
    path = models.save_weights(made(system), tmp_path / f"a.{ending}", layout=layout)
    shapes, words = look(path).shapes, described(system, layout)
    assert {numbered(name) for name in shapes} == words.keys()
    for name, shape in shapes.items():
        assert agrees(shape, words[numbered(name)], sizes(system)), (name, shape)


def test_the_page_names_the_layer_before_the_classifier(tmp_path: Path) -> None:
    path = models.save_weights(
        made("vit-micro", representation_dim=7), tmp_path / "a.npz", layout="npz"
    )
    shapes = look(path).shapes
    known = sizes("vit-micro") | {"R": 7}
    rows = {row[0].strip("`"): row[1] for row in VIT if row[0].startswith("`pre_logits")}
    assert len(rows) == 2
    assert all(agrees(shapes[name], words, known) for name, words in rows.items())
    assert shapes["head/kernel"] == (7, 5)


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
@pytest.mark.parametrize("system", ["vit-micro", "hybrid-micro"])
def test_files_with_the_names_of_linen_are_read_as_the_page_says(
    tmp_path: Path, system: str, prefix: str
) -> None:
    model = made(system)
    path = models.save_weights(model, tmp_path / "a.npz", layout="npz")
    renamed = {}
    for name, array in np.load(path).items():
        for before, linen in ([cell.strip("`") for cell in row] for row in LINEN):
            name = name.replace(f"/{before}/", f"/{linen}/")
        renamed[prefix + name] = array
    assert any("/MlpBlock_0/" in name for name in renamed)
    np.savez(path, **renamed)
    held = contents(baselines.system(system), look(path).shapes)
    assert (held.layout, held.num_classes, held.image_size_px) == ("npz", 5, 12)
    again = models.build(system, num_classes=5)
    models.load_weights(again, path)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
