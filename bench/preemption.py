"""A process that is told to end: by the notice of a spot machine, by a cluster, by a person.

The signal becomes `Preempted`, which leaves a job as an error does, so that its claim is released.
It is raised at once, or, inside `deferred`, where the block has brought its work to safety. Then
the signal goes to whoever would have had it: a worker of Ray, or the command, ends as it always
does.

Signals reach the main thread only. That is where Ray runs a task, and where a command runs a job;
in any other thread nothing is changed here. Workers of a group train in a thread: who waits for
them hands the notice on, by a file (`handed_on`, `taken_from`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import Preempted

GRACE_S = 25.0
"""Seconds in which work is brought to safety; spot machines leave 30 and more."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@dataclass
class _Notice:
    """What this process was told."""

    number: int = 0
    """The signal; 0: none came."""
    is_deferred: bool = False
    """Whether a block raises Preempted itself, when its work is safe."""
    told: Path | None = None
    """The file that hands the notice on."""
    source: Path | None = None
    """A file that says what a signal says."""


_notice = _Notice()


@contextmanager
def heeded() -> Iterator[None]:
    """Raise Preempted in the block when the process is told to end; then end it as it would have.

    A signal that the process ignores stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = [n for n, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    alarm = signal.signal(signal.SIGALRM, _on_signal)
    _notice.number = 0
    for number in heeded:
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        if _notice.number:
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        for number in heeded:
            signal.signal(number, before[number])
        if _notice.number:
            _hand_on(_notice.number, before[signal.Signals(_notice.number)])


@contextmanager
def deferred() -> Iterator[None]:
    """Let the block ask (`asked`) and raise Preempted itself; at its end it is raised anyway.

    It is also raised after GRACE_S, and at a second Ctrl-C.
    """
    _notice.is_deferred = True
    try:
        yield
    finally:
        _notice.is_deferred = False
    if asked():
        raise Preempted("the process was told to end")


@contextmanager
def handed_on(file: Path) -> Iterator[None]:
    """Hand the notice on to processes that the block waits for, and that bring its work to safety.

    It is raised here after GRACE_S, and at a second Ctrl-C. `file` exists from the notice on, and
    is gone after the block; its folder must be there.
    """
    file.unlink(missing_ok=True)
    _notice.told, _notice.is_deferred = file, True
    try:
        yield
    finally:
        _notice.told, _notice.is_deferred = None, False
        file.unlink(missing_ok=True)


@contextmanager
def taken_from(file: Path) -> Iterator[None]:
    """Take it in the block as a notice that `file` exists: in a thread, where no signal arrives."""
    _notice.source = file
    try:
        yield
    finally:
        _notice.source = None


def asked() -> bool:
    """Tell whether the process was told to end."""
    return bool(_notice.number) or (_notice.source is not None and _notice.source.exists())


def _on_signal(number: int, frame: object) -> None:
    again = number == signal.SIGALRM or number == signal.SIGINT == _notice.number
    if not _notice.number:
        _notice.number = number
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        if _notice.told is not None:
            with contextlib.suppress(OSError):  # whoever it was for is gone, folder and all
                _notice.told.touch()
    if again or not _notice.is_deferred:
        raise Preempted("the process was told to end")


def _hand_on(number: int, handler: Callable[[int, Any], Any] | int | None) -> None:
    _notice.number = 0
    if callable(handler):
        handler(number, None)  # a worker of Ray blocks SIGINT: sent again, it would not arrive
    else:
        signal.raise_signal(number)
