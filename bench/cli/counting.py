"""How far long work on many files is: a line that is redrawn on a terminal, elsewhere a line every
ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.cli.listing import duration
from bench.cli.progress import PLAIN_EVERY_S, REFRESH_EVERY_S

if TYPE_CHECKING:
    from rich.console import Console


def counted(words: str, console: Console) -> Callable[[int, int], None]:
    """Return what is called with (files done, files in all) and says so in one line.

    The rate is that of this call's own work: what an earlier one did is done, not fast.
    """
    pause_s = REFRESH_EVERY_S if console.is_terminal else PLAIN_EVERY_S
    began: list[tuple[float, int]] = []
    last_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if not began:
            began.append((now_s, done))
        if now_s - last_s < pause_s and not (console.is_terminal and done == total):
            return
        last_s = now_s
        line = f"{words}: {done:,} of {total:,}{_pace(done, total, *began[0], now_s)}"
        if console.is_terminal:
            console.file.write(f"\r\x1b[2K{line}" + "\n" * (done == total))
            console.file.flush()
        else:
            console.print(line, highlight=False, soft_wrap=True)

    return tell


def _pace(done: int, total: int, began_s: float, before: int, now_s: float) -> str:
    """Return images a second and the time left, in words; empty while neither is known."""
    if done <= before or now_s <= began_s:
        return ""
    per_s = (done - before) / (now_s - began_s)
    return f", {per_s:,.0f}/s, about {duration((total - done) / per_s)} left"
