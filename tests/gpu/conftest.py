"""The table at the end of the checks of a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.gpu.checks import Seen

SEEN = pytest.StashKey[list[Seen]]()


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Callable[[Seen], None]:
    """Return what takes a line into the table, and fails where a bound is not kept."""

    def take(seen: Seen) -> None:
        request.config.stash.setdefault(SEEN, []).append(seen)
        assert seen.passed, f"{seen.check}: {seen.measured}; {seen.bound}"

    return take


def table(lines: Iterable[Seen]) -> list[str]:
    """Return the lines of the table, columns aligned."""
    rows = [("check", "measured", "bound", "")]
    for seen in lines:
        verdict = "told" if not seen.bound else "passed" if seen.passed else "FAILED"
        rows.append((seen.check, seen.measured, seen.bound, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    if config.stash.get(SEEN, []):
        terminalreporter.section("what was checked")
        terminalreporter.write_line("\n".join(table(config.stash[SEEN])))
