"""ImageNet's 1,000 classes: their order, what proves it; its card and those of its test sets.

Class k is the k-th WNID ("n01440764") in sorted order, in every public classifier. Numbers from
elsewhere (the devkit's own ids, folder names sorted as strings, names in words) give another order
and an accuracy near chance, which is why the order is checked against known pairs before hours are
spent. The evaluation sets share the 1,000 classes; nothing is trained on them.

The lists come from timm's package (`timm/data/_info`), read without importing it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from bench.errors import DataError
from bench.facts import IMAGENET_21K_IMAGES, IMAGENET_TRAIN, IMAGENET_VAL
from bench.specs import DatasetCard, SplitCard

NUM_CLASSES = 1000

Scoring = Literal["top1", "multi-label", "class-subset", "corruption"]
"""Label rules; `scoring.py` has them."""

ANCHORS = {
    0: "n01440764",  # tench
    1: "n01443537",  # goldfish
    134: "n02012849",  # crane, the bird
    207: "n02099601",  # golden retriever
    281: "n02123045",  # tabby
    388: "n02510455",  # giant panda
    517: "n03126707",  # crane, the machine
    638: "n03710637",  # maillot
    817: "n04285008",  # sports car
    934: "n07697537",  # hotdog
    999: "n15075141",  # toilet tissue
}
"""Known pairs of index and WNID, spread over the list."""

ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Top-1 error of AlexNet on each corruption of ImageNet-C, mean of the five severities.

As google-research/augmix prints them ("raw AlexNet errors taken from hendrycks/robustness"); the
test holds them against AlexNet's errors at each severity from a second source."""

CORRUPTIONS = tuple(ALEXNET_ERRORS)
"""The 15 corruptions of the benchmark, in its order; an image's detail is a place in this list."""

NUM_SEVERITIES = 5

_TERMS = "no licence granted; research use under the ImageNet terms of access"
_TRAIN = "the owner's training split"
_IMAGES = f"images: {_TERMS}"
_RECALLED = "recalled, not looked up"


def synsets() -> tuple[str, ...]:
    """Return the 1,000 WNIDs in class order."""
    return _lines("imagenet_synsets.txt")


def subset_synsets(name: str) -> tuple[str, ...]:
    """Return the 200 sorted WNIDs of `imagenet-a` or `imagenet-r`."""
    return _lines(f"{name.replace('-', '_')}_synsets.txt")


def subset_indices(name: str) -> tuple[int, ...]:
    """Return the 200 sorted class indices of `imagenet-a` or `imagenet-r`."""
    return tuple(map(int, _lines(f"{name.replace('-', '_')}_indices.txt")))


@cache
def _lines(file: str) -> tuple[str, ...]:
    # Found, not imported: timm would load torch.
    spec = importlib.util.find_spec("timm")
    path = Path(str(spec.origin)).parent / "data" / "_info" / file if spec else Path(file)
    try:
        return tuple(path.read_text(encoding="utf-8").split())
    except OSError as error:
        raise DataError(
            f"{path}: ImageNet's class list is not there ({error.strerror})",
            hint="Install timm as pinned in requirements.lock",
        ) from error


def order_problem(names: Sequence[str]) -> str:
    """Say in words what is wrong with class names in label order, or "" where all is well.

    `names[k]` is what class k is called where the labels come from: a folder, a list.
    """
    if len(names) != NUM_CLASSES:
        known = set(names) & set(synsets())
        missing = next((name for name in synsets() if name not in known), "")
        return f"{len(names):,} classes in place of 1,000" + (
            f"; the first one missing is {missing}, and labels from there on are shifted"
            if known and len(names) < NUM_CLASSES
            else ""
        )
    for index, wnid in ANCHORS.items():
        if names[index] != wnid:
            return f"class {index} is {names[index]}, not {wnid}" + _likely_cause(names)
    wrong = [k for k, (name, wnid) in enumerate(zip(names, synsets(), strict=True)) if name != wnid]
    if wrong:
        return f"class {wrong[0]} is {names[wrong[0]]}, not {synsets()[wrong[0]]}"
    return ""


def _likely_cause(names: Sequence[str]) -> str:
    if set(names) == set(synsets()):
        return ": the right classes in another order (the devkit's ids are not class numbers)"
    if all(name.isdigit() for name in names):
        return f": {numbering_problem(names) or 'class numbers in place of WNIDs'}"
    return ": names that are no WNIDs sort into another order"


def numbering_problem(names: Sequence[str]) -> str:
    """Say what is wrong with numbered class folders in label order, or "" where all is well.

    ImageNet-V2's folders are "0" to "999"; sorted as strings, "10" comes before "2", and 988 of
    the 1,000 classes are wrong (github.com/modestyachts/ImageNetV2, issue 10).
    """
    if not all(name.isdigit() for name in names):
        return ""
    numbers = [int(name) for name in names]
    wrong = [index for index, number in enumerate(numbers) if number != index]
    if not wrong:
        return ""
    if sorted(numbers) == list(range(len(numbers))):
        return f'folders sorted as strings: "{names[wrong[0]]}" is class {wrong[0]}'
    missing = min(set(range(NUM_CLASSES)) - set(numbers), default=None)
    return f"folder {missing} is missing" if missing is not None else "folders named twice"


# --- cards ----------------------------------------------------------------------------------


class _Set(NamedTuple):
    """One row of the table below."""

    name: str
    title: str
    num_test: int
    scoring: Scoring
    selector: str
    source: str
    licence: str
    how_to_get: str


_SETS = (
    _Set("imagenet-1k-real", "ImageNet ReaL", 46_837, "multi-label",
         "validation images with at least one ReaL label (3,163 of 50,000 have none); a hit is any "
         "of an image's labels",
         "Beyer et al., arXiv:2006.07159; google-research/reassessed-imagenet, real.json",
         f"labels Apache-2.0; {_IMAGES}",
         "ImageNet's validation images in val/, and real.json next to it"),
    _Set("imagenet-v2", "ImageNet-V2", 10_000, "top1",
         "matched-frequency; folders 0 to 999 are class numbers, not names",
         "Recht et al., arXiv:1902.10811; modestyachts/ImageNetV2, README",
         "MIT (code); images: each its own Flickr licence, used as ImageNet is",
         "Unpack imagenetv2-matched-frequency.tar.gz from its owner"),
    _Set("imagenet-a", "ImageNet-A", 7500, "class-subset",
         f"200 of the 1,000 classes; scores of the other 800 are left out ({_RECALLED})",
         "Hendrycks et al., arXiv:1907.07174", f"MIT ({_RECALLED})",
         "Unpack imagenet-a.tar from its owner"),
    _Set("imagenet-r", "ImageNet-R", 30_000, "class-subset",
         "200 of the 1,000 classes; scores of the other 800 are left out",
         "Hendrycks et al., arXiv:2006.16241; hendrycks/robustness, README", f"MIT ({_RECALLED})",
         "Unpack imagenet-r.tar from its owner"),
    _Set("imagenet-sketch", "ImageNet-Sketch", 50_889, "top1",
         f"all sketches of the 1,000 classes ({_RECALLED}; the owner says 50,000)",
         "Wang et al., arXiv:1905.13549", f"MIT ({_RECALLED})",
         "Unpack the sketches of their owner: a folder for each WNID"),
    _Set("imagenet-c", "ImageNet-C", 3_750_000, "corruption",
         "the 50,000 validation images under 15 corruptions at 5 severities, already cut to "
         "224 x 224 and compressed: never resized or cropped again",
         "Hendrycks and Dietterich, arXiv:1903.12261; hendrycks/robustness, README",
         f"CC BY 4.0 ({_RECALLED}); {_IMAGES}",
         "Unpack noise, blur, weather and digital .tar of zenodo.org/record/2235448 into one "
         "folder"),
)  # fmt: skip


def _card(row: _Set) -> DatasetCard:
    return DatasetCard(
        name=row.name,
        title=row.title,
        reader=row.name.replace("-1k", ""),
        num_classes=NUM_CLASSES,
        splits={"test": SplitCard(num_examples=row.num_test, selector=row.selector)},
        metric={"multi-label": "real-top1", "corruption": "mce"}.get(row.scoring, "top1"),
        scoring=row.scoring,
        source=row.source,
        licence=row.licence,
        how_to_get=row.how_to_get,
    )


CARDS = (
    DatasetCard(
        name="imagenet-1k",
        title="ImageNet",
        reader="imagenet",
        num_classes=NUM_CLASSES,
        splits={
            "train": SplitCard(num_examples=IMAGENET_TRAIN, selector=_TRAIN),
            "test": SplitCard(
                num_examples=IMAGENET_VAL,
                selector="the 50,000 validation images, which papers report on",
            ),
        },
        source="Russakovsky et al., arXiv:1409.0575",
        licence=_TERMS,
        how_to_get="Register at image-net.org, download ILSVRC2012; train/WNID/, and val/ with its "
        "labels",
    ),
    DatasetCard(
        name="imagenet-21k",
        title="ImageNet-21k",
        reader="shards",
        num_classes=21_843,
        splits={"train": SplitCard(num_examples=IMAGENET_21K_IMAGES, selector=_TRAIN)},
        source=f"Deng et al., CVPR 2009; number of images {_RECALLED}",
        licence=_TERMS,
        how_to_get="Register at image-net.org, download the fall 2011 release, pack it into shards",
    ),
    *(_card(row) for row in _SETS),
)
"""ImageNet, and its evaluation sets, which have a test split alone; not located."""
