"""A reader: everything known about one layout of files, and how it becomes images and labels.

    [dataset.NAME] -> options -> card (counts, digest) -> source (images and labels of each split)

A layout is one object in one module of this room:

    ImageFileReader, ArrayReader, RowReader   the usual ones (`common.py`): give one function
    FileReader                                anything else that lies at a path: derive from it
    Reader                                    what needs no files: derive from it

The digest is of what the reader reads (paths, labels and bytes of every file, the packed size and
the split), never of time stamps or where the files lie. Heavy libraries are imported in functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field

from bench.data.cards.imagenet import Scoring
from bench.data.sources.base import Source
from bench.data.sources.folder import Folder
from bench.errors import DataError
from bench.specs import Args, DatasetCard, Record, SplitCard

TEST_SHARE, SEED = 0.2, 0
"""Share of the images drawn for test where a layout has no test split, and the seed of the draw."""

# --- options --------------------------------------------------------------------------------


class DatasetOptions(Record):
    """`[dataset.NAME]`, a data set of the suite's own: what every reader takes."""

    reader: str
    """Layout of the files, e.g. `image_folder`; or `formula`, which needs none."""


class FileOptions(DatasetOptions):
    """Options of a layout of files."""

    path: str = Field(min_length=1)
    """Folder or file; relative paths are taken from the suite file."""
    num_classes: int | None = Field(default=None, gt=1)
    """Number of classes that the files must have; left out: however many there are."""
    part: bool = False
    """Take the files for a part of the published set whose name they go by: for rehearsals."""
    image_size_px: int | None = Field(default=None, gt=0, le=4096)
    """Squash the images to squares of this side, in pixels, before any protocol sees them; left
    out: they stay as they are."""


class DrawnOptions(FileOptions):
    """Options of a layout that may have no test split."""

    test_share: float = Field(default=TEST_SHARE, gt=0, lt=1)
    """Share of each class held back for test where the files have no test split."""
    seed: int = Field(default=SEED, ge=0, lt=2**31)
    """Seed of that draw."""


class SkipsDamaged(Record):
    """Option of layouts of encoded images."""

    skip_damaged: bool = False
    """Leave out images that do not decode; their number is on the card."""


class ImageOptions(FileOptions, SkipsDamaged):
    """Options of image files that have splits of their own."""


class DrawnImageOptions(DrawnOptions, SkipsDamaged):
    """Options of image files that may have no test split."""


# --- readers --------------------------------------------------------------------------------

Options = TypeVar("Options", bound=DatasetOptions)
AtPath = TypeVar("AtPath", bound=FileOptions)


@dataclass(frozen=True, kw_only=True)
class Reader(ABC, Generic[Options]):
    """One layout of files, or one generator of images."""

    name: str
    """Identifier in suites and on cards."""
    options: type[Options] | None = None
    """Record of its `[dataset.NAME]`; None where only cards of the catalogue use it."""
    marks: tuple[tuple[str, ...], ...] = ()
    """Names that a folder of this layout holds, as alternatives; `*` stands for any text, and
    names in the folders `train` and `data` are written with them: `train/*.tar`."""
    suffix: str = ""
    """Ending of a single file of this layout."""
    recognizes: Callable[[Path], bool] | None = None
    """Whether a folder that no reader's marks fit is of this layout."""
    reads_archives: bool = False
    """Whether its files are archives, which are not unpacked."""
    scoring: Scoring = "top1"
    """Label rule that its sets are scored by."""
    synthetic: bool = False
    """Whether it draws its images: nothing of theirs lies in a set of photographs."""

    def card(
        self, name: str, options: Options, *, base_dir: Path, claim: DatasetCard | None
    ) -> DatasetCard:
        """Return the card of a suite's own data set; raises DataError.

        Relative paths are taken from `base_dir`. `claim` is the published card of the same name,
        whose counts the files must have, or a part of them where the options say so.
        """
        raise TypeError(f"the {self.name} reader takes no block of a suite: {name}")

    @abstractmethod
    def open(self, card: DatasetCard) -> Source:
        """Return the images and labels of a card; raises DataError."""

    def digest(self, card: DatasetCard) -> str:
        """Return the digest of what would be read now; another than the card's: files changed."""
        return card.digest

    def damaged(self, card: DatasetCard, *, num_workers: int = 1) -> list[str]:
        """Decode every image of a card's files and return the message of each that fails."""
        del card, num_workers
        return []  # arrays are checked whole when they are read

    def image_files(self, card: DatasetCard) -> Folder | None:
        """Return the image files of a card, damaged ones too; None where there are none."""
        del card
        return None

    def fit(self, names: frozenset[str]) -> int:
        """Return how surely a folder that holds these names is of this layout, 0 for not at all.

        The more names a mark asks for the surer, and a name counts more than a pattern.
        """
        return max((_strength(mark, names) for mark in self.marks), default=0)


def _strength(mark: tuple[str, ...], names: frozenset[str]) -> int:
    if not all(_any_of(names, wanted) for wanted in mark):
        return 0
    return sum(1 if "*" in wanted else 10 for wanted in mark)


def _any_of(names: frozenset[str], wanted: str) -> bool:
    return wanted in names or ("*" in wanted and any(fnmatchcase(name, wanted) for name in names))


@dataclass(frozen=True)
class Facts:
    """What is found in the files of a data set."""

    digest: str
    """Digest of their content."""
    squared_px: int | None
    """Side of the squares that images are squashed to; None: they stay as they are."""
    num_classes: int
    """Number of classes."""
    class_names: tuple[str, ...]
    """Class names in label order, where known."""
    splits: Mapping[str, SplitCard]
    """Splits by name."""


@dataclass(frozen=True, kw_only=True)
class FileReader(Reader[AtPath]):
    """A layout of files at a path."""

    options: type[AtPath]
    """Record of its `[dataset.NAME]`."""

    @abstractmethod
    def facts(self, options: AtPath) -> Facts:
        """Return what is found at the path, which is absolute here; raises DataError."""

    def card(
        self, name: str, options: AtPath, *, base_dir: Path, claim: DatasetCard | None
    ) -> DatasetCard:
        """Return the card of located files, checked against what it claims to be."""
        path = self.place(name, options, base_dir)
        options = options.model_copy(update={"path": path})
        facts = self.facts(options)
        _check_classes(name, options, facts)
        whole = _whole(name, options, facts, claim)
        return DatasetCard(
            name=name,
            title=claim.title if claim else name,
            reader=self.name,
            args=self.args(options),
            num_classes=facts.num_classes,
            class_names=facts.class_names,
            splits=dict(facts.splits),
            metric=claim.metric if claim else "top1",
            scoring=self.scoring,
            group=claim.group if claim else "",
            digest=facts.digest,
            squared_px=facts.squared_px,
            whole=whole,
            source=claim.source if claim else "the user's own images",
            licence=claim.licence if claim else "the user's own",
            how_to_get=f"read from {path}",
        )

    def place(self, name: str, options: AtPath, base_dir: Path) -> str:
        """Return the absolute path of the files; raises DataError."""
        try:
            path = (base_dir / Path(options.path).expanduser()).resolve()
            path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL byte, a ~user
            raise DataError(f"dataset.{name}: path cannot be used ({error})") from error
        return str(path)

    def args(self, options: AtPath) -> Args:
        """Return the options as they are on the card: those left at their default are not.

        Share and seed always do, on cards of layouts that never draw too.
        """
        said = options.model_dump(exclude={"reader", "num_classes", "part"}, exclude_defaults=True)
        return {"test_share": TEST_SHARE, "seed": SEED, **said}

    def of(self, card: DatasetCard) -> AtPath:
        """Return the options that are on a card."""
        known = {key: card.args[key] for key in self.options.model_fields if key in card.args}
        return self.options.model_validate({"reader": self.name, **known})

    def digest(self, card: DatasetCard) -> str:
        """Return the digest of the files as they are now."""
        return self.facts(self.of(card)).digest


def _check_classes(name: str, options: FileOptions, facts: Facts) -> None:
    if options.num_classes is not None and options.num_classes != facts.num_classes:
        raise DataError(
            f"dataset.{name}: num_classes is {options.num_classes}, but {options.path} holds "
            f"{facts.num_classes} classes",
            hint="Leave num_classes out, or correct path",
        )
    if facts.num_classes < 2:
        raise DataError(
            f"dataset.{name}: {options.path} holds only one class",
            hint="A classifier needs examples of two classes",
        )


def _whole(
    name: str, options: FileOptions, facts: Facts, claim: DatasetCard | None
) -> dict[str, int]:
    """Return the published counts where files are a part of a published set, empty where they are
    all of it; raises DataError where they are neither, or a part that nobody said is one.
    """
    if claim is None:
        if options.part:
            raise DataError(
                f"dataset.{name}: part is for files under the name of a published set",
                hint="Leave part out: what is here is all of it",
            )
        return {}
    expected = {split: card.num_examples for split, card in claim.splits.items()}
    found = {split: card.num_examples for split, card in facts.splits.items()}
    as_claimed = facts.num_classes == claim.num_classes and expected.keys() <= found.keys()
    if as_claimed and all(found[split] == num for split, num in expected.items()):
        return {}
    is_part = as_claimed and all(found[split] <= num for split, num in expected.items())
    if is_part and options.part:
        return expected
    raise DataError(
        f"dataset.{name}: {options.path} has {facts.num_classes} classes and {_counts(found)}, "
        f"but {claim.title} has {claim.num_classes} and {_counts(expected)}",
        hint="Complete the files, or take them as a part of the set, for rehearsals alone: --part, "
        "or part = true in a suite"
        if is_part
        else "Complete the files; a part of the set, or other images, need another name",
    )


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{num:,} {split}" for split, num in splits.items())
