"""How large the images of a data set are: will a protocol enlarge them?

A packed set knows the size of each image. Of files that are not packed yet the heads of a few are
read, which means listing them all: of ImageNet that takes a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from bench.data.readers import reader_of
from bench.paths import CachePaths
from bench.specs import DatasetCard

SAMPLED = 64
"""Images of each split whose heads are read."""


def enlarged(
    card: DatasetCard, wanted_px: Iterable[int], *, cache_dir: Path, look: bool
) -> Iterator[str]:
    """Yield what to say of each input size, in pixels, that is larger than images of a data set.

    Only sets of files are judged: what is drawn, or packaged, has the size that it was chosen for.
    With `look` files that are not packed under `cache_dir` are listed. Raises DataError.
    """
    if not card.digest or "path" not in card.args:
        return
    sides_px, looked_at = _packed_sides(CachePaths(cache_dir).packed(card.digest)), ""
    if not sides_px and look:
        sides_px = _shorter_sides(card)
        if any(split.num_examples > SAMPLED for split in card.splits.values()):
            looked_at = f"; the first {SAMPLED} of each split were looked at"
    for size_px in wanted_px:
        small = sum(side < size_px for side in sides_px)
        if small:
            share = "all" if small == len(sides_px) else f"{small / len(sides_px):.0%} of the"
            yield (
                f"{card.name}: {share} images are enlarged to {size_px} px "
                f"(shorter sides: {min(sides_px)} to {max(sides_px)} px{looked_at})"
            )


def _packed_sides(folder: Path) -> list[int]:
    """Return the shorter side of each image of a packed set; none where there is no such set."""
    from bench.data.packs.read import open_packed

    packed = open_packed(folder)
    if packed is None:
        return []
    return [side for split in packed.manifest["splits"] for side in packed.shorter_sides(split)]


def _shorter_sides(card: DatasetCard) -> list[int]:
    """Look at the heads of the first images of each split."""
    from bench.data.decode import size_of

    source = reader_of(card).open(card)
    sides: list[int] = []
    for split in card.splits:
        known = source.size_px(split)
        if known is not None:
            sides.append(min(known))
            continue
        for name, content_of in islice(source.encoded(split, start=0), SAMPLED):
            sides.append(min(size_of(content_of(), name=name)))
    return sides
