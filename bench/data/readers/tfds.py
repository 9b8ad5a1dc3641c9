"""Exports from TensorFlow Datasets, as `export_tfds.py` writes them in an environment of its own.

VTAB's 1,000 images are the first ones in TensorFlow Datasets' file order, so that no other source
has the same. The script keeps that order; here its manifest is checked and VTAB's label rules are
applied. TensorFlow is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.readers import files, vtab_labels
from bench.data.readers.export_tfds import FORMAT
from bench.data.readers.parquet import open_files
from bench.data.readers.rows import RowSet
from bench.errors import DataError

_EXPORT_AGAIN = "Run export_tfds.py again"


def read_export(path: Path) -> RowSet:
    """Open an export after checking its manifest and every file's digest; raises DataError.

    train800 and val200, where the export has no train, together make train, in that order.
    """
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
    source, rule = RULES.get(label, (label, None))
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


# --- label rules of VTAB's structured tasks --------------------------------------------------

Rule = Callable[[Sequence[Any]], list[int]]


def _of_numbers(rule: Callable[[np.ndarray], np.ndarray]) -> Rule:
    def apply(values: Sequence[Any]) -> list[int]:
        return [int(label) for label in rule(np.array(values))]

    return apply


def _of_scenes(measure: Callable[[dict[str, Any]], float], rule: Callable[..., Any]) -> Rule:
    def apply(values: Sequence[Any]) -> list[int]:
        measured = np.array([measure(json.loads(value)) for value in values])
        return [int(label) for label in rule(measured)]

    return apply


def _num_objects(objects: dict[str, Any]) -> float:
    return len(objects["size"])


def _smallest_depth(objects: dict[str, Any]) -> float:
    return float(min(place[2] for place in objects["pixel_coords"]))


def _closest_vehicle_m(objects: dict[str, Any]) -> float:
    """Distance ahead of the closest car, van or truck: types 0 to 2 of TensorFlow Datasets."""
    places = zip(objects["type"], objects["location"], strict=True)
    ahead = [float(place[2]) for kind, place in places if kind < len(vtab_labels.KITTI_VEHICLES)]
    return min(ahead, default=vtab_labels.KITTI_NO_VEHICLE_M)


RULES: dict[str, tuple[str, Rule]] = {
    "clevr-count": ("objects", _of_scenes(_num_objects, vtab_labels.clevr_count)),
    "clevr-dist": ("objects", _of_scenes(_smallest_depth, vtab_labels.clevr_closest)),
    "kitti-dist": ("objects", _of_scenes(_closest_vehicle_m, vtab_labels.kitti_closest)),
    "dsprites-loc": ("label_x_position", _of_numbers(vtab_labels.dsprites_x_position)),
    "dsprites-ori": ("label_orientation", _of_numbers(vtab_labels.dsprites_orientation)),
    "smallnorb-azim": ("label_azimuth", _of_numbers(vtab_labels.smallnorb_azimuth)),
    "smallnorb-elev": ("label_elevation", _of_numbers(vtab_labels.smallnorb_elevation)),
}
"""Column and rule by the name that `export_tfds.py --label` takes."""
