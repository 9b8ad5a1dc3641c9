"""Memory that is exhausted, and memory that the C library keeps because the next step wants it.

glibc gives the top of the heap back to the kernel whenever it is free, which for small models is at
every step: the pages then come back one fault at a time. A small CNN spent a third of its time
there. What is large pays its faults by its arithmetic, and kept it would only leave holes, into
which the next large piece does not fit, until the host has no more. Elsewhere than on glibc nothing
is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT_BYTES = 2**28  # at the top of the heap; more than a step of a micro system frees
_LARGE_BYTES = 2**25  # straight from the kernel and back; glibc itself adapts no further
_PIECE_BYTES = 2**16


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep some freed memory in the process while the block runs, and give it back at its end.

    The thresholds stay as set: glibc cannot tell what they were, and adapts them no more.
    """
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    try:
        yield
    finally:
        library.malloc_trim(0)


@contextmanager
def returned_memory() -> Iterator[None]:
    """Give what is freed back at once while the block runs, inside `kept_memory`.

    What is resident is then what is held, without the holes between pieces: slow, but exact.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _PIECE_BYTES)
    library.mallopt(_TRIM_THRESHOLD, _PIECE_BYTES)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error says that memory is exhausted: libraries raise many things then."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )
