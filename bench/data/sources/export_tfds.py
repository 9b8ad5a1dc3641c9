"""Export a data set of TensorFlow Datasets to Parquet files, in its own order.

Stands alone: copy it to an environment that has tensorflow_datasets, pyarrow and the disk for the
data set, and run it there; vitbench never imports TensorFlow. For a VTAB task:

    python export_tfds.py oxford_iiit_pet:3.*.* OUT --split train800=train[:800] \\
        --split val200=train[2944:3144] --split test=test

Images stay the bytes that the data set holds (re-encoded as PNG where it holds pixels); whole
numbers become columns, everything else JSON text. manifest.json names the files, their SHA-256,
and what was asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT = "tfds-export 1"
ROWS_PER_FILE = 10_000


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("builder", help="name of the data set, with config and version")
    parser.add_argument("out", type=Path, help="folder to write; must not exist")
    parser.add_argument("--split", action="append", required=True, metavar="NAME=EXPRESSION")
    parser.add_argument("--image", default="image", help="feature that holds the image")
    parser.add_argument("--label", default="label", help="column, or rule such as clevr-count")
    parser.add_argument("--data-dir", default=None, help="where TensorFlow Datasets keeps its data")
    asked = parser.parse_args()
    splits = dict(item.split("=", 1) for item in asked.split)
    export(
        asked.builder,
        asked.out,
        splits=splits,
        image=asked.image,
        label=asked.label,
        data_dir=asked.data_dir,
    )


def export(
    builder_name: str,
    out: Path,
    *,
    splits: dict[str, str],
    image: str = "image",
    label: str = "label",
    data_dir: str | None = None,
) -> None:
    """Write every split of a builder to `out`, whole or not at all."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(builder_name, data_dir=data_dir)
    builder.download_and_prepare()
    partial = out.with_name(out.name + ".partial")
    partial.mkdir(parents=True)
    scale = 255 if builder.name == "dsprites" else 1  # its pixels are 0 or 1
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "dataset": builder.info.full_name,
        "tfds_version": tfds.__version__,
        "label": label,
        "class_names": list(getattr(builder.info.features.get(label), "names", None) or []),
        "splits": {},
    }
    # One file at a time and none shuffled: the order in which split expressions count.
    config = tfds.ReadConfig(interleave_cycle_length=1)
    for split, expression in splits.items():
        table = builder.as_dataset(
            split=expression,
            shuffle_files=False,
            read_config=config,
            decoders={image: tfds.decode.SkipDecoding()},
        )
        rows = (row(example, image, scale) for example in tfds.as_numpy(table))
        manifest["splits"][split] = {"selector": expression, **write(partial, split, rows)}
    text = json.dumps(manifest, indent=1)
    (partial / "manifest.json").write_text(text, encoding="utf-8")
    os.rename(partial, out)


def row(example: dict[str, Any], image: str, scale: int) -> dict[str, Any]:
    """Return one example as a row: image bytes, whole numbers, JSON text."""
    found: dict[str, Any] = {"image": encoded(example[image], scale)}
    for name, value in example.items():
        if name != image:
            plain = to_plain(value)
            found[name] = plain if isinstance(plain, int) else json.dumps(plain)
    return found


def encoded(value: Any, scale: int) -> bytes:
    """Return the bytes of an image file: as they are, or a PNG of pixels."""
    if isinstance(value, bytes) and scale == 1:
        return value
    import io

    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value)
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    file = io.BytesIO()
    Image.fromarray((pixels * scale).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def to_plain(value: Any) -> Any:
    """Return NumPy values, bytes and what holds them as JSON's own kinds."""
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def write(folder: Path, split: str, rows: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Write rows as Parquet files; return their names and digests, and the number of rows."""
    import pyarrow
    import pyarrow.parquet

    files: dict[str, str] = {}
    total = 0
    pending: list[dict[str, Any]] = []

    def flush() -> None:
        path = folder / f"{split}-{len(files):05d}.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(pending), path, row_group_size=256)
        with open(path, "rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        pending.clear()

    for item in rows:
        pending.append(item)
        total += 1
        if len(pending) == ROWS_PER_FILE:
            flush()
    if pending:
        flush()
    return {"num_examples": total, "files": files}


if __name__ == "__main__":
    main()
