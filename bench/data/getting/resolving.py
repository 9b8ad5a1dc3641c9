"""A suite's own data sets: from a `[dataset.NAME]` block to a card with counts and a digest.

The digest is of what the reader reads (paths, labels and bytes of every file, the packed size and
the split), never of time stamps or where the files lie. Nothing heavy is imported until a reader
needs it, and what a reader found is remembered by content: planning a suite again stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.data import vtab
from bench.data.readers import files, folders, imagenet_folders, layouts
from bench.errors import DataError, UnknownName
from bench.specs import Args, DatasetBlock, DatasetCard, SplitCard, content_id

DEFAULT_FOLDER_SIZE_PX = 64
"""Side at which a user's own images are packed unless the suite says otherwise."""

FORMULA_VERSION = 1
"""Version of the generator in `formula.py`: bumped when the same arguments give other pixels."""

Cards = Mapping[str, DatasetCard]


def resolve(name: str, block: DatasetBlock, *, base_dir: Path, known: Cards) -> DatasetCard:
    """Turn a block into a card; one that carries the name of a known card must have its counts.

    Relative paths are taken from `base_dir`. Raises DataError when a field is missing or the data
    are not there, and UnknownName for a reader that does not exist.
    """
    if block.reader not in _RESOLVERS:
        raise UnknownName("reader", block.reader, _RESOLVERS, where=f"dataset.{name}.reader")
    if not 0 <= block.seed < 2**31:
        raise DataError(f"dataset.{name}: seed is {block.seed}", hint="Choose one in [0, 2^31)")
    resolver = _RESOLVERS[block.reader]
    if resolver is None:
        return _resolve_formula(name, block)
    if block.stream and resolver is not _resolve_shards:
        raise DataError(
            f"dataset.{name}: stream has no effect on the {block.reader} reader",
            hint="Only shards are streamed: leave stream out, or pack the images into shards",
        )
    if block.skip_damaged and resolver not in (_resolve_files, _resolve_rows):
        raise DataError(
            f"dataset.{name}: skip_damaged has no effect on the {block.reader} reader",
            hint="Leave it out: damage in such files always ends the reading",
        )
    path = _path(name, block, base_dir)
    return _own_card(name, block, path, resolver(block, path), known.get(name))


def formula_card(
    name: str,
    *,
    num_classes: int,
    images_per_class: int,
    image_size_px: int,
    seed: int = 0,
    title: str = "",
) -> DatasetCard:
    """Return the card of a formula-driven upstream set; its digest is that of its arguments."""
    args: Args = {
        "num_classes": num_classes,
        "images_per_class": images_per_class,
        "image_size_px": image_size_px,
        "seed": seed,
    }
    return DatasetCard(
        name=name,
        title=title or f"Fractals {num_classes:,} x {images_per_class:,}",
        reader="formula",
        args=args,
        num_classes=num_classes,
        splits={
            "train": SplitCard(
                num_examples=num_classes * images_per_class,
                selector="all generated images, class by class",
            )
        },
        digest=content_id({"reader": "formula", "version": FORMULA_VERSION, **args}),
        version=FORMULA_VERSION,
        source="Iterated function systems after Kataoka et al., Pre-training without Natural "
        "Images (arXiv:2101.08515); parameters after Anderson and Farrell, Improving Fractal "
        "Pre-training (arXiv:2110.03091)",
        licence="generated here; free of terms",
        how_to_get="generated on first use",
    )


# --- readers -----------------------------------------------------------------------------------


def _resolve_formula(name: str, block: DatasetBlock) -> DatasetCard:
    sizes: dict[str, int] = {}
    for field in ("num_classes", "images_per_class", "image_size_px"):
        value = getattr(block, field)
        if value is None:
            raise DataError(
                f"dataset.{name}: the formula reader needs {field}",
                hint=f"Add a line such as {field} = 64",
            )
        sizes[field] = value
    return formula_card(
        name,
        num_classes=sizes["num_classes"],
        images_per_class=sizes["images_per_class"],
        image_size_px=sizes["image_size_px"],
        seed=block.seed,
    )


def _resolve_files(block: DatasetBlock, path: Path) -> dict[str, Any]:
    """Image files: the digest is of the files' paths, labels and bytes."""
    folder = layouts.READERS[block.reader](path, test_share=block.test_share, seed=block.seed)
    left_out = ""
    if block.skip_damaged:
        from bench.data.readers.damaged import without_damaged

        folder, num_damaged = without_damaged(folder)
        left_out = f"; {num_damaged:,} damaged files of the set left out"
    size_px = block.image_size_px or DEFAULT_FOLDER_SIZE_PX
    content = {
        "reader": "image_folder",  # the same files by either way are the same data
        "version": folders.VERSION,
        "image_size_px": size_px,
        "files": folders.content_digest(folder),
    }
    return {
        "size_px": size_px,
        "digest": content_id(content),
        "class_names": folder.class_names,
        "num_classes": len(folder.class_names),
        "splits": {
            split: {
                "num_examples": len(items),
                "selector": folder.selectors[split] + left_out,
            }
            for split, items in folder.splits.items()
        },
    }


def _resolve_arrays(block: DatasetBlock, path: Path) -> dict[str, Any]:
    """Array files: the digest is of their bytes, and of the split where it is drawn."""
    from bench.data.readers import arrays

    found = arrays.read(block.reader, path, test_share=block.test_share, seed=block.seed)
    size_px = block.image_size_px or max(found.splits["train"].size_px)
    content = {
        "reader": block.reader,
        "version": arrays.VERSION,
        "image_size_px": size_px,
        "files": files.hashes(arrays.root_of(path), found.files),
        "split": {} if found.has_test else {"share": block.test_share, "seed": block.seed},
    }
    return {
        "size_px": size_px,
        "digest": content_id(content),
        "class_names": found.class_names,
        "num_classes": found.num_classes,
        "splits": {
            split: {"num_examples": len(part.labels_N), "selector": part.selector}
            for split, part in found.splits.items()
        },
    }


def _resolve_rows(block: DatasetBlock, path: Path) -> dict[str, Any]:
    """Encoded rows: the digest is of the files' bytes, or of name and revision on the hub."""
    from bench.data.readers import rows

    args = block_args(block, path, size_px=block.image_size_px or DEFAULT_FOLDER_SIZE_PX)
    identity = {
        "reader": block.reader,
        "version": rows.VERSION,
        "content": rows.identity(block.reader, args),
        "arguments": {key: value for key, value in args.items() if key not in ("path",)},
    }

    def facts() -> dict[str, Any]:
        found = rows.read(block.reader, args)
        return {
            "class_names": found.class_names,
            "num_classes": found.num_classes,
            "splits": {
                split: {"num_examples": len(part.labels_N), "selector": part.selector}
                for split, part in found.splits.items()
            },
        }

    found = files.remembered(identity, facts)
    return {"size_px": args["image_size_px"], "digest": content_id(identity), **found}


def _resolve_shards(block: DatasetBlock, path: Path) -> dict[str, Any]:
    """Webdataset shards: the digest is of the shards' bytes."""
    from bench.data.readers import shards

    parts = shards.split_folders(path)
    sets = {split: shards.open_shards(folder) for split, folder in parts.items()}
    largest = max(int(shard_set.labels().max()) for shard_set in sets.values())
    size_px = block.image_size_px or DEFAULT_FOLDER_SIZE_PX
    content = {
        "reader": "shards",
        "version": shards.INDEX_VERSION,
        "image_size_px": size_px,
        "files": {
            split: files.hashes(parts[split], [item.path.name for item in one.shards])
            for split, one in sets.items()
        },
    }
    if block.stream:  # the order of the images is another one, and with it the number
        content["stream"] = shards.WINDOW_SHARDS
    return {
        "size_px": size_px,
        "digest": content_id(content),
        "class_names": (),
        "num_classes": largest + 1,
        "splits": {
            split: {
                "num_examples": one.num_examples,
                "selector": f"{len(one.shards)} shards of {parts[split]}",
            }
            for split, one in sets.items()
        },
    }


def _path(name: str, block: DatasetBlock, base_dir: Path) -> Path:
    if not block.path:
        raise DataError(
            f"dataset.{name}: the {block.reader} reader needs path",
            hint='Add path = "FOLDER OR FILE", relative to the suite file',
        )
    if block.reader == "huggingface" and block.revision:
        return Path(block.path)  # a name on the hub, checked by its reader
    try:
        path = (base_dir / Path(block.path).expanduser()).resolve()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL byte, an unknown ~user
        raise DataError(f"dataset.{name}: path cannot be used ({error})") from error
    return path


_EXTRA = ("skip_damaged", "stream", "image_column", "label_column", "revision", "config")


def block_args(block: DatasetBlock, path: Path, *, size_px: int) -> Args:
    """Return the reader's arguments that go on the card; those left at their default are not."""
    extra = {
        field: value
        for field in (
            "skip_damaged",
            "stream",
            "image_column",
            "label_column",
            "revision",
            "config",
        )
        if (value := getattr(block, field))
    }
    return {
        "path": str(path),
        "image_size_px": size_px,
        "test_share": block.test_share,
        "seed": block.seed,
        **extra,
    }


def _own_card(
    name: str,
    block: DatasetBlock,
    path: Path,
    found: dict[str, Any],
    claim: DatasetCard | None,
) -> DatasetCard:
    """Make the card of located files, and check it against what it claims to be."""
    num_classes = found["num_classes"]
    splits = {split: SplitCard(**facts) for split, facts in found["splits"].items()}
    if block.num_classes is not None and block.num_classes != num_classes:
        raise DataError(
            f"dataset.{name}: num_classes is {block.num_classes}, but {path} holds {num_classes} "
            "classes",
            hint="Leave num_classes out, or correct path",
        )
    if num_classes < 2:
        raise DataError(
            f"dataset.{name}: {path} holds one class alone",
            hint="A classifier needs examples of two classes",
        )
    if claim is not None:
        _check_claim(claim, path, num_classes=num_classes, splits=splits)
    return DatasetCard(
        name=name,
        title=claim.title if claim else name,
        reader=block.reader,
        args=block_args(block, path, size_px=found["size_px"]),
        num_classes=num_classes,
        class_names=tuple(found["class_names"]),
        splits=splits,
        metric=claim.metric if claim else "top1",
        scoring=imagenet_folders.SCORING.get(block.reader, "top1"),
        group=claim.group if claim else "",
        digest=found["digest"],
        source=claim.source if claim else "the user's own images",
        licence=claim.licence if claim else "the user's own",
        how_to_get=f"read from {path}",
    )


def _check_claim(
    claim: DatasetCard, path: Path, *, num_classes: int, splits: dict[str, SplitCard]
) -> None:
    """Refuse files under the name of a published set that do not have its counts."""
    expected = {split: card.num_examples for split, card in claim.splits.items()}
    found = {split: card.num_examples for split, card in splits.items()}
    if num_classes != claim.num_classes or any(
        found.get(split) != num for split, num in expected.items()
    ):
        raise DataError(
            f"dataset.{claim.name}: {path} has {num_classes} classes and {_counts(found)}, but "
            f"{claim.title} has {claim.num_classes} and {_counts(expected)}",
            hint="Complete the files; a part of the set, or other images, need another name",
        )


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{num:,} {split}" for split, num in splits.items())


_Resolver = Callable[[DatasetBlock, Path], dict[str, Any]]

_RESOLVERS: dict[str, _Resolver | None] = {
    "formula": None,  # needs no path
    **dict.fromkeys(layouts.READERS, _resolve_files),
    **dict.fromkeys(("idx", "cifar", "arrays", "stl10", "svhn"), _resolve_arrays),
    **dict.fromkeys(vtab.ARRAY_READERS, _resolve_arrays),
    **dict.fromkeys(("parquet", "huggingface", "tfds-export"), _resolve_rows),
    "shards": _resolve_shards,
}
