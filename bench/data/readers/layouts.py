"""Layouts of image files by reader: from a path to files, labels and splits.

A scanner opens no image. Layouts without splits of their own are split by a seeded draw; published
ones have theirs.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.data.readers import folders, imagenet_folders, owners, vtab_folders
from bench.data.readers.folders import Folder

READERS: dict[str, Callable[..., Folder]] = {
    "image_folder": folders.scan,
    "csv": folders.scan_csv,
    **imagenet_folders.SCANNERS,
    **owners.SCANNERS,
    **vtab_folders.SCANNERS,
}
"""Scanners by reader: (path, *, test_share, seed) -> Folder."""
