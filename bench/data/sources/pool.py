"""Work on many items by threads: decoding and resizing release the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

BATCH = 16
"""Items of one task, where they are small: handing one over costs as much as reading a file."""

AHEAD = 4
"""Tasks of each thread that wait for it, or for who takes the results."""

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], None], items: Iterable[T], num_workers: int) -> None:
    """Do the work on every item, a bounded number at a time; the first error ends it."""
    for _ in mapped(work, items, num_workers):
        pass


def mapped(
    work: Callable[[T], R], items: Iterable[T], num_workers: int, *, batch_size: int = BATCH
) -> Generator[R, None, None]:
    """Yield the work's result for every item in order, a bounded number ahead.

    Who may stop before the end closes it: threads go on with what is ahead until then.
    """

    def each(batch: list[T]) -> list[R]:
        return [work(item) for item in batch]

    num_workers = max(1, min(num_workers, os.cpu_count() or 1))
    pending = iter(items)
    ahead: deque[Future[list[R]]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        while batch := list(islice(pending, batch_size)):
            ahead.append(pool.submit(each, batch))
            if len(ahead) > AHEAD * num_workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
