"""The threads that decode images: a resource of the job, which changes no pixel.

Decoding, picking pixels and their arithmetic release the interpreter's lock, so threads are enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

_num_threads = 0
_are_spare = False


@contextmanager
def decoding(num_threads: int, *, spare: bool) -> Iterator[None]:
    """Decode by so many threads while the block runs; `spare` ones have cores of their own."""
    global _num_threads, _are_spare
    before = _num_threads, _are_spare
    _num_threads, _are_spare = num_threads, spare
    try:
        yield
    finally:
        _num_threads, _are_spare = before


def are_spare() -> bool:
    """Return whether the threads that decode have cores that nothing else of the job uses."""
    return _are_spare


def num_threads() -> int:
    """Return how many threads decode: those of `decoding`, else one for each core there is."""
    return _num_threads or len(os.sched_getaffinity(0))


def each(work: Callable[[int], None], places: Iterable[int]) -> None:
    """Do the work of every place; the first error is raised."""
    if num_threads() == 1 and not _are_spare:
        for place in places:  # the job's one thread: another would only take turns with it
            work(place)
        return
    for _ in _pool(num_threads()).map(work, places):
        pass


@lru_cache(maxsize=2)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
