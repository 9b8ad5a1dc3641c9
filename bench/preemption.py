"""A process that is told to end: by the notice of a spot machine, by a cluster, by a person.

The signal becomes `Preempted`, which leaves a job as an error does, so that its claim is released.
It is raised at once, or, inside `deferred`, where the block has brought its work to safety. Then
the signal goes to whoever would have had it: a worker of Ray, or the command, ends as it always
does.

Signals reach the main thread only. That is where Ray runs a task, and where a command runs a job;
in any other thread nothing is changed here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
        if asked():
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        for number in heeded:
            signal.signal(number, before[number])
        if asked():
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


def asked() -> bool:
    """Tell whether the process was told to end."""
    return bool(_notice.number)


def _on_signal(number: int, frame: object) -> None:
    again = number == signal.SIGALRM or number == signal.SIGINT == _notice.number
    if not asked():
        _notice.number = number
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
    if again or not _notice.is_deferred:
        raise Preempted("the process was told to end")


def _hand_on(number: int, handler: Callable[[int, Any], Any] | int | None) -> None:
    _notice.number = 0
    if callable(handler):
        handler(number, None)  # a worker of Ray blocks SIGINT: sent again, it would not arrive
    else:
        signal.raise_signal(number)
