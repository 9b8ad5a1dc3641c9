"""Encoded rows: Parquet, saved Hugging Face sets and TFDS exports, and their bad forms."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from bench.data import catalog
from bench.data.packs import build
from bench.data.readers import READERS, options_of, reader_of, tfds_export
from bench.data.sources import export_tfds, rows, vtab_labels
from bench.errors import DataError
from bench.specs import DatasetCard

RNG_SIDE = 9


def png(seed: int, side: int = RNG_SIDE) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def card_of(path: Path | str, reader: str, **fields: object) -> DatasetCard:
    block = {"reader": reader, "path": str(path), "image_size_px": RNG_SIDE, **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def counts(card: DatasetCard) -> dict[str, int]:
    return {split: part.num_examples for split, part in card.splits.items()}


def write_parquet(
    file: Path, images: Sequence[Any], labels: Sequence[Any], *, group: int = 3
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"image": list(images), "label": list(labels)})
    pyarrow.parquet.write_table(table, file, row_group_size=group)
    return file


def as_rows(seeds: Sequence[int]) -> list[dict[str, Any]]:
    return [{"bytes": png(seed), "path": f"{seed}.png"} for seed in seeds]


# --- Parquet --------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", ["bytes", "struct"])
@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.parquet", "{}/0.parquet"])
def test_parquet_files_pack_to_their_images(tmp_path: Path, cells: str, layout: str) -> None:
    for split, seeds in (
        ("train", range(8)),
        ("validation", range(8, 12)),
        ("test", range(20, 25)),
    ):
        images = as_rows(seeds) if cells == "struct" else [png(seed) for seed in seeds]
        write_parquet(tmp_path / "set" / layout.format(split), images, [s % 2 for s in seeds])
    card = card_of(tmp_path / "set", "parquet")
    assert counts(card) == {"train": 8, "val": 4, "test": 5}
    assert card.num_classes == 2
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    test = packed.split("test")
    assert test.labels_N.tolist() == [0, 1, 0, 1, 0]
    assert all(np.array_equal(test.images_NHWC[i], pixels(png(20 + i))) for i in range(5))
    encoded = build.packed(card, cache_dir=tmp_path / "other", packing="encoded")
    assert np.array_equal(encoded.split("train").images(slice(2, 7)), packed.split("train").images(slice(2, 7)))  # fmt: skip  # noqa: E501


def test_several_files_are_one_split_in_name_order(tmp_path: Path) -> None:
    for part in (1, 0):
        seeds = range(10 * part, 10 * part + 7)
        write_parquet(
            tmp_path / f"train-0000{part}-of-00002.parquet", as_rows(seeds), [0, 1] * 3 + [0]
        )
    found = READERS["parquet"].rows(
        options_of("mine", {"reader": "parquet", "path": str(tmp_path)})
    )
    contents = list(found.splits["train"].contents(0))
    assert [content for _, content in contents] == [png(s) for s in (*range(7), *range(10, 17))]
    for start in (1, 3, 6, 7, 9, 13, 14):
        assert [c for _, c in found.splits["train"].contents(start)] == [
            c for _, c in contents[start:]
        ]


def test_one_file_is_split_by_a_draw(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "all.parquet", as_rows(range(20)), [0, 1] * 10)
    card = card_of(file, "parquet", test_share=0.2)
    assert counts(card) == {"train": 16, "test": 4}
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    every = np.concatenate([packed.split(name).images_NHWC for name in ("train", "test")])
    source = np.stack([pixels(png(seed)) for seed in range(20)])
    assert np.array_equal(np.unique(every, axis=0), np.unique(source, axis=0))
    assert card_of(file, "parquet", test_share=0.2, seed=1).digest != card.digest


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002-6f3344faa23e9b0a", "train-00001-of-00002-0123456789abcdef"),
        ("train-1-of-2", "train-2-of-2"),
        ("train-2-of-3", "train-0-of-3", "train-1-of-3"),
    ],
)
def test_whole_sets_of_parts_are_taken_however_they_are_numbered(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Hugging Face once ended each name with a digest of its own; some count from 1."""
    for part, name in enumerate(names):
        write_parquet(
            tmp_path / f"{name}.parquet", as_rows(range(4 * part, 4 * part + 4)), [0, 1] * 2
        )
    card = card_of(tmp_path, "parquet")
    assert sum(counts(card).values()) == 4 * len(names)


def test_a_part_of_impossibly_many_is_told_at_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-5-of-99999999999.parquet", as_rows(range(4)), [0, 1] * 2)
    with pytest.raises(
        DataError, match=r"train-0-of-99999999999\.parquet: missing \(and 99,999,999,997"
    ):
        card_of(tmp_path, "parquet")


def test_names_of_labels(tmp_path: Path) -> None:
    """Texts in sorted order; whole numbers take the names that Hugging Face keeps in the schema."""
    write_parquet(tmp_path / "texts/train.parquet", as_rows(range(4)), ["cow", "ant", "cow", "bee"])
    write_parquet(tmp_path / "texts/test.parquet", as_rows(range(4, 6)), ["bee", "ant"])
    card = card_of(tmp_path / "texts", "parquet")
    assert card.class_names == ("ant", "bee", "cow")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    content = {"image": as_rows(range(4)), "label": [0, 1, 1, 0]}
    (tmp_path / "hf").mkdir()
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "hf/train.parquet")
    assert card_of(tmp_path / "hf", "parquet").class_names == ("no", "yes")


def test_planning_again_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_parquet(tmp_path / "all.parquet", as_rows(range(8)), [0, 1] * 4)
    first = card_of(file, "parquet")
    monkeypatch.setattr(rows, "read", None)
    assert card_of(file, "parquet") == first


def bad_parquet(tmp_path: Path, what: str) -> Path:
    file, images = tmp_path / "train.parquet", as_rows(range(4))
    if what == "none":
        (tmp_path / "readme.txt").write_text("x")
        return tmp_path
    if what == "test only":
        return write_parquet(tmp_path / "test-0.parquet", images, [0, 1, 0, 1]).parent
    if what == "columns":
        pyarrow.parquet.write_table(pyarrow.table({"picture": [b"x"], "kind": [1]}), file)
        return file
    labels: list[Any] = {"null": [0, 1, None, 1], "range": [0, 1, -100, 1], "text": [0.5] * 4}.get(
        what, [0, 1, 0, 1]
    )
    if what == "path":
        images[2] = {"bytes": None, "path": "elsewhere.png"}
    if what == "image":
        images[2] = {"bytes": images[2]["bytes"][:40], "path": None}
    if what == "one class":
        labels = [0, 0, 0, 0]
    if what == "empty":
        images, labels = images[:0], labels[:0]
    if what == "part":
        file = tmp_path / "train-00000-of-00002.parquet"
        return write_parquet(file, images, labels).parent
    write_parquet(file, images, labels)
    if what == "damaged":
        file.write_bytes(file.read_bytes()[:-20])
    return file


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("none", r"no \.parquet files\. Name the files after their split"),
        ("test only", "no training files, but test"),
        ("columns", r"no column of images by a usual name, but picture, kind\. .*image_column = "),
        ("null", r"train: row 2 has label None\. Labels are whole numbers from 0"),
        ("text", r"train: row 0 has label 0\.5"),
        ("range", r"train: row 2 has label -100, not one of 0 to 1 \(1 such rows\)"),
        ("path", r"row 2: no image bytes\. Write the images into the files"),
        ("image", r"row 2: not an image\. Replace the file"),
        ("one class", "holds only one class"),
        ("empty", "train: no images"),
        ("part", r"train-00001-of-00002\.parquet: missing\. Get all parts of the set"),
        ("damaged", r"not a Parquet file .*Get the file again"),
    ],
)
def test_bad_parquet_files(tmp_path: Path, what: str, told: str) -> None:
    (tmp_path / "set").mkdir()
    path = bad_parquet(tmp_path / "set", what)
    with pytest.raises(DataError, match=told):
        build.packed(card_of(path, "parquet"), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("*/"))


def test_damaged_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    images = as_rows(range(10))
    images[3]["bytes"] = images[3]["bytes"][:40]
    images[8]["bytes"] = b"no image"
    file = write_parquet(tmp_path / "train.parquet", images, [0, 1] * 5)
    write_parquet(tmp_path / "test.parquet", as_rows(range(20, 24)), [0, 1] * 2)
    card = card_of(tmp_path, "parquet", skip_damaged=True)
    assert counts(card) == {"train": 8, "test": 4}
    assert "2 damaged files of the set left out" in card.splits["train"].selector
    train = build.packed(card, cache_dir=tmp_path / "cache").split("train")
    kept = [row for row in range(10) if row not in (3, 8)]
    assert all(np.array_equal(train.images_NHWC[i], pixels(png(kept[i]))) for i in range(8))
    problems = reader_of(card).damaged(card_of(tmp_path, "parquet"))
    assert [text.split(": ")[0] for text in problems] == [f"{file}, row 3", f"{file}, row 8"]


# --- Hugging Face ---------------------------------------------------------------------------


def save(path: Path, *, splits: tuple[str, ...] = ("train", "test"), single: bool = False) -> Path:
    features = datasets.Features(
        {"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=["a", "b", "c"])}
    )

    def part(first: int) -> datasets.Dataset:
        seeds = range(first, first + 9)
        content = {"img": as_rows(seeds), "fine_label": [seed % 3 for seed in seeds]}
        return datasets.Dataset.from_dict(content, features=features)

    saved: Any = part(0)
    if not single:
        saved = datasets.DatasetDict({name: part(9 * i) for i, name in enumerate(splits)})
    saved.save_to_disk(str(path))
    return path


def test_a_saved_set_packs_to_its_images(tmp_path: Path) -> None:
    save(tmp_path / "set", splits=("train", "validation", "test"))
    card = card_of(tmp_path / "set", "huggingface")
    assert counts(card) == {"train": 9, "val": 9, "test": 9}
    assert card.class_names == ("a", "b", "c")
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    test = packed.split("test")
    assert test.labels_N.tolist() == [0, 1, 2] * 3
    assert all(np.array_equal(test.images_NHWC[i], pixels(png(18 + i))) for i in range(9))
    assert packed.split("val").labels_N.tolist() == [0, 1, 2] * 3


def test_a_single_saved_table_is_split_by_a_draw(tmp_path: Path) -> None:
    save(tmp_path / "set", single=True)
    assert counts(card_of(tmp_path / "set", "huggingface")) == {"train": 7, "test": 2}


def test_bad_saved_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        card_of(tmp_path / "none", "huggingface")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not a folder of datasets\.save_to_disk\. Write it with"):
        card_of(tmp_path / "empty", "huggingface")
    save(tmp_path / "other", splits=("test",))
    with pytest.raises(DataError, match="no split named train, but test"):
        card_of(tmp_path / "other", "huggingface")
    save(tmp_path / "set")
    table = next((tmp_path / "set" / "train").glob("*.arrow"))
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(DataError, match=r"set: damaged \(.*Save it again"):
        card_of(tmp_path / "set", "huggingface")
    save(tmp_path / "third")
    with pytest.raises(DataError, match=r'no column "image", but img, fine_label'):
        card_of(tmp_path / "third", "huggingface", image_column="image")


def test_a_name_on_the_hub_needs_a_commit_and_a_connection() -> None:
    """Names move; and without a connection the cure is named (tests have the hub off)."""
    with pytest.raises(DataError, match=r'ylecun/mnist: revision "main" is not a commit of 40 hex'):
        card_of("ylecun/mnist", "huggingface", revision="main")
    with pytest.raises(DataError, match="a revision is given, but this is not a name on the hub"):
        card_of("/some/folder", "huggingface", revision="0" * 40)
    told = (
        r"nobody/none: cannot be fetched from the hub \(.*save_to_disk\(FOLDER\), then point path"
    )
    with pytest.raises(DataError, match=told):
        card_of("nobody/none", "huggingface", revision="0" * 40)


# --- TFDS exports ---------------------------------------------------------------------------

TFDS = '''
"""Stands in for tensorflow_datasets in a process of its own: what the export script uses of it."""
import io
import numpy as np
from PIL import Image

__version__ = "4.9.10"

class ReadConfig:
    def __init__(self, interleave_cycle_length):
        assert interleave_cycle_length == 1

class decode:
    class SkipDecoding:
        pass

class _Label:
    names = ["ant", "bee"]

class _Builder:
    name = "pets"

    class info:
        full_name = "pets/1.0.0"
        features = {"label": _Label}

    def download_and_prepare(self):
        pass

    def as_dataset(self, *, split, shuffle_files, read_config, decoders):
        assert not shuffle_files and list(decoders) == ["image"]
        name, _, part = split.rstrip("]").partition("[")
        first, _, last = part.partition(":")
        every = range(*{"train": (0, 40), "test": (100, 105)}[name])
        for seed in every[int(first or 0) : int(last or len(every))]:
            pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, format="PNG")
            sizes = {"size": np.zeros(3 + seed % 8), "pixel_coords": np.full((2, 3), 8.2)}
            yield {"image": file.getvalue(), "label": np.int64(seed % 2),
                   "objects": sizes, "file_name": b"x.png"}

def builder(name, data_dir=None):
    assert name == "pets:1.*.*"
    return _Builder()

def as_numpy(table):
    return table
'''


def run_export(tmp_path: Path, *, label: str = "label") -> Path:
    """Run the stand-alone script as a user would, next to a stand-in for TensorFlow Datasets."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tensorflow_datasets.py").write_text(TFDS)
    script = Path(export_tfds.__file__)
    splits = ["train800=train[:30]", "val200=train[30:]", "test=test"]
    subprocess.run(
        [sys.executable, script, "pets:1.*.*", tmp_path / "out", "--label", label,
         *(word for split in splits for word in ("--split", split))],
        check=True, env={"PYTHONPATH": str(tmp_path / "lib"), "PATH": ""}, cwd=tmp_path,
    )  # fmt: skip
    return tmp_path / "out"


@pytest.mark.ordinary
def test_an_export_keeps_order_and_joins_the_parts_of_train(tmp_path: Path) -> None:
    out = run_export(tmp_path)
    card = card_of(out, "tfds-export")
    assert counts(card) == {"train": 40, "test": 5}
    assert card.class_names == ("ant", "bee")
    assert card.splits["train"].selector == "train[:30], then train[30:] of pets/1.0.0"
    packed = build.packed(card, cache_dir=tmp_path / "cache")
    train, test = packed.split("train"), packed.split("test")
    assert all(np.array_equal(train.images_NHWC[i], pixels(png(i))) for i in range(40))
    assert np.array_equal(test.images_NHWC[0], pixels(png(100)))
    assert train.labels_N.tolist() == [0, 1] * 20


@pytest.mark.ordinary
def test_exports_that_were_touched_are_refused(tmp_path: Path) -> None:
    out = run_export(tmp_path)
    write_parquet(out / "test-00000.parquet", as_rows(range(5)), [0, 1, 0, 1, 0])
    with pytest.raises(DataError, match=r"test-00000\.parquet: not the file that was exported"):
        card_of(out, "tfds-export")
    (out / "test-00000.parquet").unlink()
    with pytest.raises(DataError, match=r"test-00000\.parquet: cannot be read"):
        card_of(out, "tfds-export")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["splits"]["test"]["files"] = {"../test.parquet": "0"}
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json: not of tfds-export 1"):
        card_of(out, "tfds-export")
    (out / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        card_of(out, "tfds-export")
    (out / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"no manifest\.json of an export\. Make it with"):
        card_of(out, "tfds-export")


@pytest.mark.ordinary
@pytest.mark.parametrize(
    ("label", "expected"),
    [("clevr-count", [seed % 8 for seed in range(40)]), ("clevr-dist", [1] * 40)],
)
def test_label_rules_apply_to_what_was_exported(
    tmp_path: Path, label: str, expected: list[int]
) -> None:
    found = tfds_export.read_export(run_export(tmp_path, label=label))
    assert found.splits["train"].labels_N.tolist() == expected


def test_the_closest_vehicle_counts() -> None:
    """KITTI's classes: within 8 m, within 20 m, farther, none; pedestrians (3) do not count."""
    scenes: list[dict[str, Any]] = [
        {"type": [3, 0], "location": [[0, 0, 2.0], [0, 0, 15.0]]},
        {"type": [2], "location": [[0, 0, 8.0]]},
        {"type": [1, 0], "location": [[0, 0, 60.0], [1, 1, 30.0]]},
        {"type": [3], "location": [[0, 0, 2.0]]},
    ]
    _, rule = vtab_labels.EXPORTED["kitti-dist"]
    assert rule([json.dumps(scene) for scene in scenes]) == [1, 0, 2, 3]


def test_an_export_writes_pixels_as_png_and_sprites_at_full_range() -> None:
    grey = np.array([[0, 1], [1, 0]], dtype=np.uint8)[..., None]
    assert pixels(export_tfds.encoded(grey, 255)).tolist() == [[0, 255], [255, 0]]
    assert export_tfds.encoded(png(1), 1) == png(1)
    plain = export_tfds.to_plain({"a": np.array([1.5]), "b": b"x", "c": [np.int64(3)]})
    assert plain == {"a": [1.5], "b": "x", "c": [3]}
