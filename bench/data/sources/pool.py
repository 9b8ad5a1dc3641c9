"""Work on many items by threads: decoding and resizing release the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], None], items: Iterable[T], num_workers: int) -> None:
    """Do the work on every item, a bounded number at a time; the first error ends it."""
    for _ in mapped(work, items, num_workers):
        pass


def mapped(
    work: Callable[[T], R], items: Iterable[T], num_workers: int
) -> Generator[R, None, None]:
    """Yield the work's result for every item in order, a bounded number ahead.

    Who may stop before the end closes it: threads go on with what is ahead until then.
    """
    num_workers = max(1, min(num_workers, os.cpu_count() or 1))
    pending = iter(items)
    with ThreadPoolExecutor(num_workers) as pool:
        while chunk := list(islice(pending, 256 * num_workers)):
            yield from pool.map(work, chunk)
