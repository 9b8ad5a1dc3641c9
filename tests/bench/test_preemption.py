"""Signals that tell a process to end: what they become, when, and whom they reach in the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from bench import preemption
from bench.errors import Preempted


@pytest.fixture
def told() -> Iterator[list[int]]:
    """The signals that arrive at who would have had them without us."""
    found = list[int]()
    before = {
        number: signal.signal(number, lambda number, frame: found.append(number))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    }
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_the_work_at_once_and_is_handed_on(told: list[int], number: int) -> None:
    with pytest.raises(Preempted), preemption.heeded():
        signal.raise_signal(number)
    assert told == [number]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    signal.raise_signal(number)  # as before
    assert told == [number, number]


def test_work_may_be_brought_to_safety_first(told: list[int]) -> None:
    reached = []

    def work() -> None:
        with preemption.heeded(), preemption.deferred():
            assert not preemption.asked()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # some send it to the process and to its group
            reached.append(preemption.asked())

    with pytest.raises(Preempted):
        work()
    assert reached == [True]
    assert told == [signal.SIGTERM]
    assert not preemption.asked()


def test_an_error_on_the_way_out_is_not_hidden(told: list[int]) -> None:
    def work() -> None:
        with preemption.heeded(), preemption.deferred():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        work()
    assert told == [signal.SIGTERM]


def test_what_the_process_ignores_stays_ignored(told: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with preemption.heeded():
        signal.raise_signal(signal.SIGHUP)
        assert not preemption.asked()
    assert told == []


def test_an_alarm_of_others_is_left_alone(told: list[int]) -> None:
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        with preemption.heeded():
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_other_threads_change_no_handler(told: list[int]) -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with preemption.heeded():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
