"""What every reader keeps: known options, light to import, found by its marks, opens its cards."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import catalog
from bench.data.getting import recognize
from bench.data.packs import build
from bench.data.readers import READERS
from bench.data.readers.base import DatasetOptions
from bench.plugins import OURS
from bench.specs import DatasetCard, Record

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden" / "readers.json"
CATALOGUE_ONLY = {"digits", "sprites"}
"""Readers that no suite's block may name."""
MANY_FILES = {
    "imagenet", "imagenet-v2", "imagenet-sketch", "imagenet-c", "vtab-folder", "clevr-count",
    "clevr-dist", "kitti-dist",
}  # fmt: skip
"""Layouts of a thousand files and more, which take seconds."""
UNSTEADY = {"parquet", "huggingface", "tfds-export", "arrays", "dsprites-loc", "dsprites-ori"}
"""Readers whose test files carry the version of the library, or of Python, that wrote them."""

Make = Callable[[Path], Path]


def with_options() -> dict[str, type[DatasetOptions]]:
    return {name: reader.options for name, reader in READERS.items() if reader.options is not None}


def test_every_reader_takes_a_block_but_those_of_the_catalogue() -> None:
    ours = {name for name in READERS if READERS.origin(name) == OURS}
    assert ours - set(with_options()) == CATALOGUE_ONLY
    assert {card.reader for card in catalog.CARDS.values()} <= set(READERS)
    assert not READERS.broken


def documented(record: type[DatasetOptions]) -> set[str]:
    """Return the fields of a record, and of those that it derives from, with a line under them."""
    found = set()
    for base in record.__mro__[: record.__mro__.index(Record)]:
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, line in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr):
                found.add(ast.unparse(field.target))
    return found


@pytest.mark.parametrize("name", with_options())
def test_every_option_is_documented(name: str) -> None:
    record = with_options()[name]
    assert record.__doc__
    assert documented(record) == set(record.model_fields)
    text = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text
    for field in record.model_fields:
        assert field in text, f"{name}.{field}"


def test_importing_every_reader_loads_no_library() -> None:
    code = (
        "import sys; from bench.data.readers import READERS; len(READERS)\n"
        "heavy = 'numpy scipy PIL simplejpeg sklearn torch pandas pyarrow datasets'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_the_tests_write_files_of_every_layout(layouts: dict[str, Make]) -> None:
    ours = {name for name in with_options() if READERS.origin(name) == OURS}
    assert set(layouts) == ours - {"formula"}


def card_of(name: str, path: Path, **keys: object) -> DatasetCard:
    block = {"reader": name, "path": str(path), **keys}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def facts(card: DatasetCard, content: str) -> dict[str, Any]:
    """Return what must not change by accident: digest and arguments are in notes and identities."""
    found = card.model_dump(mode="json", include={"digest", "args", "num_classes", "scoring", "metric", "splits"})  # fmt: skip  # noqa: E501
    found |= {"class_names": len(card.class_names), "content": content[:16]}
    path = found["args"].pop("path")
    if card.reader in UNSTEADY:
        del found["digest"]
    plain: dict[str, Any] = json.loads(json.dumps(found).replace(path, "PATH"))
    return plain


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.ordinary] if name in MANY_FILES else [])
        for name in with_options()
        if name != "formula"
    ],
)
def test_a_layout_is_carded_opened_and_packed(
    name: str, layouts: dict[str, Make], tmp_path: Path
) -> None:
    """Renewed by VITBENCH_REGENERATE=1, as golden files are."""
    path = layouts[name](tmp_path / "set")
    card, reader = card_of(name, path), READERS[name]
    assert reader.digest(card) == card.digest == card_of(name, path).digest
    assert card.scoring == reader.scoring
    source = reader.open(card)
    for split, part in card.splits.items():
        labels_N = source.labels(split)
        assert source.num_examples()[split] == len(labels_N) == part.num_examples
        assert labels_N.dtype == np.int64
        assert 0 <= labels_N.min() <= labels_N.max() < card.num_classes
    assert reader.damaged(card) == []
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    small = {split: packed.size_px(split) for split in card.splits}
    assert small == {split: source.size_px(split) or small[split] for split in card.splits}
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = facts(card, packed.content_digest)
    if os.environ.get("VITBENCH_REGENERATE"):
        text = json.dumps({**golden, name: found}, indent=1)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    else:
        assert found == golden[name]


@pytest.mark.parametrize(
    "name", [name for name, reader in READERS.items() if reader.marks and name not in MANY_FILES]
)
def test_a_layout_is_recognized_by_its_marks(
    name: str, layouts: dict[str, Make], tmp_path: Path
) -> None:
    path = layouts[name](tmp_path / "set")
    assert recognize.detect(path) == name
    assert next(recognize.search(tmp_path)) == (name, path)


@pytest.mark.parametrize("name", ["image_folder", "csv", "arrays"])
def test_class_folders_and_single_files_are_recognized(
    name: str, layouts: dict[str, Make], tmp_path: Path
) -> None:
    assert recognize.detect(layouts[name](tmp_path / "set")) == name


def test_readers_without_marks_are_not_taken_for_others(
    layouts: dict[str, Make], tmp_path: Path
) -> None:
    """ImageNet's folders look like anybody's: the card says whose they are."""
    path = layouts["imagenet-a"](tmp_path / "set")
    assert recognize.detect(path) == "image_folder"
    assert recognize.find(catalog.published("imagenet-a"), path) == ("imagenet-a", path)


@pytest.mark.parametrize("name", with_options())
def test_streaming_and_leaving_out_are_said_by_the_options(name: str) -> None:
    options = with_options()[name]
    assert ("stream" in options.model_fields) == (name == "shards")
