"""The reader and the card on the pages for people who add some work as other distributions' do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from bench import plugins
from bench.data import catalog, home
from bench.data.getting import recognize
from bench.data.getting.locate import locate
from bench.data.packs import build
from bench.data.readers import READERS
from bench.errors import DataError

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extending"


def module(page: str) -> ModuleType:
    """Return the module that a page shows."""
    code = re.search(r"```python\n(.*?)```", (PAGES / page).read_text("utf-8"), re.DOTALL)
    assert code is not None
    made = ModuleType(page.removesuffix(".md"))
    exec(compile(code[1], page, "exec"), vars(made))
    return made


def point(name: str, found: object) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, dist=SimpleNamespace(name="their-package"), load=lambda: found
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the pages' reader and card, and a reader that is none."""
    points = {
        "vitbench.readers": (
            point("lists", module("readers.md").READERS),
            point("broken", "no reader"),
        ),
        "vitbench.datasets": (point("blobs", module("datasets.md").CARD),),
    }
    monkeypatch.setattr(plugins, "entry_points", lambda: points)
    for registry in (READERS, catalog.CARDS):
        vars(registry).pop("_found", None)
    yield
    for registry in (READERS, catalog.CARDS):
        vars(registry).pop("_found", None)


def write_blobs(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    for split, num in (("train", 6), ("test", 2)):
        names = [f"{split}{k}.ppm" for k in range(num)]
        for value, name in enumerate(names):
            content = b"P6 2 2 255\n" + bytes([value + 10 * num]) * 12
            (root / "images" / name).write_bytes(content)
        lines = [f"{name} {('red', 'blue')[k % 2]}" for k, name in enumerate(names)]
        (root / f"{split}.txt").write_text("\n".join(lines))
    return root


def test_a_reader_and_a_card_of_others_work_as_ours_do(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITBENCH_DATA", str(tmp_path))
    path = write_blobs(tmp_path / "blobs")
    assert READERS.origin("lists") == catalog.CARDS.origin("blobs") == "their-package"
    assert recognize.detect(path) == "lists"
    card = locate("blobs", size_px=2)
    home.note(card)
    assert catalog.dataset("blobs") == card
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    assert packed.split("train").labels_N.tolist() == [1, 0, 1, 0, 1, 0]
    assert [int(image[0, 0, 0]) for image in packed.split("test").images_NHWC] == [20, 21]
    own = {"reader": "lists", "path": str(path), "skip_damaged": True}
    assert catalog.resolve("mine", own, base_dir=tmp_path).args["skip_damaged"] is True


def test_what_is_wrong_is_refused(installed: None, tmp_path: Path) -> None:
    path = write_blobs(tmp_path / "blobs")
    for block, told in (
        (
            {"reader": "lists", "path": str(path), "seed": 1},
            "seed: the lists reader has no such key",
        ),
        (
            {"reader": "broken", "path": "x"},
            r'unknown reader "broken" \(their-package: .*no Reader',
        ),
    ):
        with pytest.raises(Exception, match=told):
            catalog.resolve("mine", block, base_dir=tmp_path)
    (path / "test.txt").write_text("../../etc/passwd red")
    with pytest.raises(DataError, match=r"test\.txt, line 1: not NAME LABEL"):
        catalog.resolve("mine", {"reader": "lists", "path": str(path)}, base_dir=tmp_path)
