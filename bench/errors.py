"""Every error a person can meet, and the words it is reported in.

BenchError                 something went wrong; carries a cause and a cure
├── UserError              the input is wrong: exit 2, one line, nothing written
│   ├── SuiteError         a suite file (file, key, cause, nearest valid name, cure)
│   ├── UnknownName        a name nobody registered (suggests the nearest)
│   └── DataError          a data set that is missing, empty, damaged or inconsistent
├── CheckpointError        a checkpoint or weights file that is damaged or of another model
├── JobError               a job failed: the others continue, exit 1
│   ├── Diverged           the loss became NaN or infinite
│   └── OutOfMemory        the device or the host had no memory left
├── Preempted              the process was told to end, or lost its machine: the job goes on later
├── JobHeld                another process works on the job: wait for it
└── StaleAttempt           a newer attempt owns the job folder; this one must not write
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_LISTED = 12
"""Names listed in an error when none is near; the rest is counted."""


MAX_CHARACTERS = 1500
"""Of what is printed on one line: a name or a number may have any length."""


class BenchError(Exception):
    """An error reported in one line: `message` is the cause, `hint` the cure (may be empty)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Ray carries errors between processes by pickling them: rebuild from the words given,
        # whatever signature the subclass has.
        return (_rebuild, (type(self), self.message, self.hint))

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


def _rebuild(kind: type[BenchError], message: str, hint: str) -> BenchError:
    error = kind.__new__(kind)
    BenchError.__init__(error, message, hint=hint)
    return error


class UserError(BenchError):
    """The input is wrong; nothing was written."""

    exit_code = 2


class SuiteError(UserError):
    """A suite file is wrong at `key`."""

    def __init__(self, file: str, key: str, cause: str, *, hint: str = "") -> None:
        where = f"{file}: {key}" if key else file
        super().__init__(f"{where}: {cause}", hint=hint)


class UnknownName(UserError):
    """`name` is not one of the known names of this kind."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, where: str = "", note: str = ""
    ) -> None:
        prefix = f"{where}: " if where else ""
        super().__init__(
            f'{prefix}unknown {kind} "{name}"{f" ({note})" if note else ""}',
            hint=suggest(name, known, kind=kind),
        )


class DataError(UserError):
    """A data set is missing, empty, damaged or inconsistent."""


class CheckpointError(BenchError):
    """A checkpoint or weights file is damaged, or belongs to another model."""


class JobError(BenchError):
    """A job failed; independent jobs continue."""


class Diverged(JobError):
    """The training loss became NaN or infinite."""


class OutOfMemory(JobError):
    """The device or the host had no memory left for this job."""


class Preempted(BenchError):
    """The process of a job was told to end, or lost its machine: the job itself did not fail."""


class JobHeld(BenchError):
    """Another process works on the job."""


class StaleAttempt(BenchError):
    """A newer attempt owns the job folder; the late writer is refused."""


def printable(text: str) -> str:
    """Return text on one line in which nothing is obeyed by a terminal or shown as something else.

    Names of files may hold control characters, changes of direction and bytes that are no UTF-8:
    they are written as escapes, by which the file can still be found.
    """
    line = " ".join(text.split())
    if len(line) > MAX_CHARACTERS:
        line = f"{line[:MAX_CHARACTERS]}..."
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
    )


def suggest(name: str, known: Iterable[str], *, kind: str = "name") -> str:
    """Return `Did you mean "x"?`, or the list of what there is when nothing is near."""
    names = sorted(set(known))
    by_lower = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if near:
        return f'Did you mean "{by_lower[near[0]]}"?'
    if not names:
        return f"No {kind} is known"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    kinds = f"{kind[:-1]}ies" if kind.endswith("ly") else f"{kind}s"  # families, but keys
    return f"Known {kinds}: {', '.join(names[:MAX_LISTED])}{more}"
