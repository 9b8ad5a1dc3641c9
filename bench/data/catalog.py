"""Data sets and protocols by name: what a suite may ask for, without opening a single image.

A card states facts (splits, counts, classes, terms, how to get it) and which reader yields the
images. Protocols say how images are prepared. Nothing heavy is imported here, so that plans,
listings and rejected suites stay light. Sources stand on each card and protocol.
"""

from __future__ import annotations

from pathlib import Path

from bench.data import folders, known
from bench.data.protocols import PROTOCOLS
from bench.errors import DataError, UnknownName
from bench.specs import Args, DatasetBlock, DatasetCard, Protocol, SplitCard, content_id

DEFAULT_FOLDER_SIZE_PX = 64
"""Side at which a user's own images are packed unless the suite says otherwise."""

FORMULA_VERSION = 1
"""Version of the generator in `formula.py`: bumped when the same arguments give other pixels."""


def datasets() -> dict[str, DatasetCard]:
    """Return every data set card by name."""
    return dict(_CARDS)


def dataset(name: str) -> DatasetCard:
    """Return the card of `name`; raises UnknownName with the nearest name."""
    if name not in _CARDS:
        raise UnknownName("data set", name, _CARDS)
    return _CARDS[name]


def protocols() -> dict[str, Protocol]:
    """Return every protocol by name."""
    return dict(PROTOCOLS)


def protocol(name: str) -> Protocol:
    """Return the protocol `name`; raises UnknownName with the nearest name."""
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def resolve(name: str, block: DatasetBlock, *, base_dir: Path) -> DatasetCard:
    """Turn a suite's own `[dataset.NAME]` into a card with counts and a digest of the content.

    Relative paths are taken from `base_dir`. Raises DataError when the reader is unknown, a field
    is missing or the data are not there, and UnknownName for a reader that does not exist.
    """
    if block.reader not in _RESOLVERS:
        raise UnknownName("reader", block.reader, _RESOLVERS, where=f"dataset.{name}.reader")
    if not 0 <= block.seed < 2**31:
        raise DataError(f"dataset.{name}: seed is {block.seed}", hint="Choose one in [0, 2^31)")
    return _RESOLVERS[block.reader](name, block, base_dir)


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


# --- a suite's own data sets ----------------------------------------------------------------


def _resolve_formula(name: str, block: DatasetBlock, base_dir: Path) -> DatasetCard:
    del base_dir
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


def _resolve_files(name: str, block: DatasetBlock, base_dir: Path) -> DatasetCard:
    """Image folders and CSV files: the digest is of the files' paths, labels and bytes."""
    path = _path(name, block, base_dir)
    scan = folders.scan_csv if block.reader == "csv" else folders.scan
    folder = scan(path, test_share=block.test_share, seed=block.seed)
    left_out = ""
    if block.skip_damaged:
        from bench.data.damaged import without_damaged

        folder, num_damaged = without_damaged(folder)
        left_out = f"; {num_damaged:,} damaged files of the set left out"
    size_px = block.image_size_px or DEFAULT_FOLDER_SIZE_PX
    content = {
        "reader": "image_folder",  # the same files by either way are the same data
        "version": folders.VERSION,
        "image_size_px": size_px,
        "files": folders.content_digest(folder),
    }
    return _own_card(
        name,
        block,
        path,
        size_px=size_px,
        digest=content_id(content),
        class_names=folder.class_names,
        num_classes=len(folder.class_names),
        splits={
            split: SplitCard(num_examples=len(items), selector=folder.selectors[split] + left_out)
            for split, items in folder.splits.items()
        },
    )


def _resolve_arrays(name: str, block: DatasetBlock, base_dir: Path) -> DatasetCard:
    """Array files: the digest is of their bytes, and of the split where it is drawn."""
    from bench.data import arrays, files

    path = _path(name, block, base_dir)
    found = arrays.read(block.reader, path, test_share=block.test_share, seed=block.seed)
    size_px = block.image_size_px or max(found.splits["train"].size_px)
    content = {
        "reader": block.reader,
        "version": arrays.VERSION,
        "image_size_px": size_px,
        "files": files.hashes(arrays.root_of(path), found.files),
        "split": {} if found.has_test else {"share": block.test_share, "seed": block.seed},
    }
    return _own_card(
        name,
        block,
        path,
        size_px=size_px,
        digest=content_id(content),
        class_names=found.class_names,
        num_classes=found.num_classes,
        splits={
            split: SplitCard(num_examples=len(part.labels_N), selector=part.selector)
            for split, part in found.splits.items()
        },
    )


def _resolve_shards(name: str, block: DatasetBlock, base_dir: Path) -> DatasetCard:
    """Webdataset shards: the digest is of the shards' bytes."""
    from bench.data import files, shards

    path = _path(name, block, base_dir)
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
    return _own_card(
        name,
        block,
        path,
        size_px=size_px,
        digest=content_id(content),
        class_names=(),
        num_classes=largest + 1,
        splits={
            split: SplitCard(
                num_examples=one.num_examples,
                selector=f"{len(one.shards)} shards of {parts[split]}",
            )
            for split, one in sets.items()
        },
    )


def _path(name: str, block: DatasetBlock, base_dir: Path) -> Path:
    if not block.path:
        raise DataError(
            f"dataset.{name}: the {block.reader} reader needs path",
            hint='Add path = "FOLDER OR FILE", relative to the suite file',
        )
    try:
        path = (base_dir / Path(block.path).expanduser()).resolve()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL byte, an unknown ~user
        raise DataError(f"dataset.{name}: path cannot be used ({error})") from error
    return path


def _own_card(
    name: str,
    block: DatasetBlock,
    path: Path,
    *,
    size_px: int,
    digest: str,
    class_names: tuple[str, ...],
    num_classes: int,
    splits: dict[str, SplitCard],
) -> DatasetCard:
    """Make the card of located files, and check it against what it claims to be."""
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
    claim = _CARDS.get(name)
    if claim is not None:
        _check_claim(claim, path, num_classes=num_classes, splits=splits)
    return DatasetCard(
        name=name,
        title=claim.title if claim else name,
        reader=block.reader,
        args={
            "path": str(path),
            "image_size_px": size_px,
            "test_share": block.test_share,
            "seed": block.seed,
            **({"skip_damaged": True} if block.skip_damaged else {}),
        },
        num_classes=num_classes,
        class_names=class_names,
        splits=splits,
        digest=digest,
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


_RESOLVERS = {
    "formula": _resolve_formula,
    "image_folder": _resolve_files,
    "csv": _resolve_files,
    "idx": _resolve_arrays,
    "cifar": _resolve_arrays,
    "arrays": _resolve_arrays,
    "shards": _resolve_shards,
}


# --- cards ----------------------------------------------------------------------------------

_DIGITS_ARGS: Args = {"num_test": 500, "seed": 0}

_DIGITS = DatasetCard(
    name="digits",
    title="Handwritten digits",
    reader="digits",
    args=_DIGITS_ARGS,
    num_classes=10,
    class_names=tuple("0123456789"),
    splits={
        "train": SplitCard(num_examples=1297, selector="what the test split leaves"),
        "test": SplitCard(num_examples=500, selector="stratified, drawn once with seed 0"),
    },
    digest=content_id({"reader": "digits", "version": 1, **_DIGITS_ARGS}),
    source="UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), the 1,797 "
    "test images as scikit-learn carries them: 8 x 8 grey, values 0 to 16 scaled to 0 to 255",
    licence="CC BY 4.0 (UCI Machine Learning Repository)",
    how_to_get="comes with scikit-learn",
)

_CARDS = {
    card.name: card
    for card in (
        _DIGITS,
        formula_card(
            "fractals", num_classes=64, images_per_class=256, image_size_px=16, title="Fractals"
        ),
        *known.cards(),
    )
}
