"""Processes that take signals as in a terminal, however the tests themselves were started."""

from __future__ import annotations

import signal


def heed_everything() -> None:
    """Take Ctrl-C, which a shell's background ignores, and hang-ups, which nohup does.

    For `preexec_fn` of `subprocess.Popen`.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
