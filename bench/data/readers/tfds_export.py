"""Exports from TensorFlow Datasets, as `export_tfds.py` writes them in an environment of its own.

VTAB's 1,000 images are the first ones in TensorFlow Datasets' file order, so that no other source
has the same. The script keeps that order; here its manifest is checked and VTAB's label rules are
applied. TensorFlow is not needed.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

from bench.data.readers.base import DrawnOptions, SkipsDamaged
from bench.data.readers.common import RowReader
from bench.data.readers.parquet import open_files
from bench.data.sources import files
from bench.data.sources.export_tfds import FORMAT
from bench.data.sources.rows import RowSet
from bench.errors import DataError

_EXPORT_AGAIN = "Run export_tfds.py again"


def read_export(path: Path) -> RowSet:
    """Open an export after checking its manifest and every file's digest; raises DataError.

    train800 and val200, where the export has no train, together make train, in that order.
    """
    from bench.data.sources.vtab_labels import EXPORTED

    manifest = read_manifest(path)
    splits: dict[str, dict[str, Any]] = manifest["splits"]
    digests = files.hashes(
        path, list(chain.from_iterable(part["files"] for part in splits.values()))
    )
    for split, part in splits.items():
        for name, digest in part["files"].items():
            if digests[name] != digest:
                raise DataError(
                    f"{path / name}: not the file that was exported", hint=_EXPORT_AGAIN
                )
        if not part["files"]:
            raise DataError(f"{path}, {split}: no images", hint=_EXPORT_AGAIN)
    parts = {split: [path / name for name in part["files"]] for split, part in splits.items()}
    selectors = {split: str(part["selector"]) for split, part in splits.items()}
    if "train" not in parts and {"train800", "val200"} <= set(parts):
        parts = {"train": parts.pop("train800") + parts.pop("val200"), **parts}
        selectors["train"] = f"{selectors['train800']}, then {selectors['val200']}"
    label = str(manifest["label"])
    source, rule = EXPORTED.get(label, (label, None))
    return open_files(
        path,
        parts,
        image_column="image",
        label_column=source,
        class_names=tuple(map(str, manifest["class_names"])),
        selectors={split: f"{text} of {manifest['dataset']}" for split, text in selectors.items()},
        rule=rule,
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of an export; raises DataError."""
    file = path / "manifest.json"
    if not file.is_file():
        raise DataError(
            f"{path}: no manifest.json of an export",
            hint="Make it with export_tfds.py in an environment that has tensorflow_datasets",
        )
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        sound = manifest["format"] == FORMAT and {"label", "class_names", "dataset"} <= set(
            manifest
        )
        for part in manifest["splits"].values():
            sound = sound and isinstance(part["selector"], str) and _plain_names(part["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: damaged ({error!r})", hint=_EXPORT_AGAIN) from error
    if not sound:
        raise DataError(f"{file}: not of {FORMAT}", hint=_EXPORT_AGAIN)
    return manifest


def _plain_names(names: dict[str, str]) -> bool:
    return all(Path(name).name == name and name.endswith(".parquet") for name in names)


class ExportOptions(DrawnOptions, SkipsDamaged):
    """Options of an export: its manifest names the columns."""


READERS = (
    RowReader(
        name="tfds-export",
        options=ExportOptions,
        rows=lambda options: read_export(Path(options.path)),
        content=(".parquet", "manifest.json"),
        marks=(("manifest.json", "*.parquet"),),
    ),
)
