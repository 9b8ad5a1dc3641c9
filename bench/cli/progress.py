"""What a person sees in the terminal while a suite runs: one live line per running job, or, where
the output is not a terminal (a log file, CI), a plain line from time to time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.cli.listing import duration
from bench.plan import rehearsed
from bench.plan.spec import JobGraph
from bench.schedule import Estimates, Event
from bench.specs import JobResult, PlannedJob
from bench.store import Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 10.0
REFRESH_EVERY_S = 0.5


class SuiteProgress:
    """Follows a suite: jobs done, running and left, current loss and images/s, time left."""

    def __init__(
        self,
        graph: JobGraph,
        done: Mapping[str, JobResult],
        todo: Sequence[PlannedJob],
        *,
        store: Store,
        num_slots: int,
        console: Console,
    ) -> None:
        self._store = store
        self._console = console
        rehearsed_s = rehearsed.seconds(graph, store.paths.cache)
        self._estimates = Estimates(graph, done, rehearsed_s=rehearsed_s)
        self._num_slots = max(1, num_slots)
        self._left = {job.job_id: job for job in todo}
        self._total = len(done) + len(todo)
        self._running: dict[str, PlannedJob] = {}
        self._lines: dict[str, TaskID] = {}
        self._last_s = time.monotonic()
        self._bar: Progress | None = None
        self._overall: TaskID | None = None

    def __enter__(self) -> SuiteProgress:
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[words]}"),
                console=self._console,
                transient=True,
                auto_refresh=False,  # drawn when there is something new to show
            )
            self._overall = self._bar.add_task("suite", total=self._total, words="")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_event(self, event: Event) -> None:
        """Take in that a job started, ended or is tried again."""
        job = event.job
        if event.what == "started":
            self._running[job.job_id] = job
            if self._bar is not None:
                self._lines[job.job_id] = self._bar.add_task(
                    f"  {job.name}", total=max(1, job.num_steps), words=""
                )
            return
        self._running.pop(job.job_id, None)
        if self._bar is not None and job.job_id in self._lines:
            self._bar.remove_task(self._lines.pop(job.job_id))
        if event.what == "retried":
            self._say(f"[yellow]again[/]   {job.name}: {_plain(event.words)}")
            return
        if event.what == "waiting":
            self._say(f"waiting {job.name}: {_plain(event.words)}")
            return
        self._left.pop(job.job_id, None)
        if event.result is None:
            return
        if event.what == "failed":
            self._say(f"[red]failed[/]  {job.name}: {_plain(event.result.error)}")
        self._estimates.learn(job, event.result)

    def on_poll(self) -> None:
        """Refresh what is shown, not more often than a person can read."""
        now_s = time.monotonic()
        pause_s = REFRESH_EVERY_S if self._bar is not None else PLAIN_EVERY_S
        if now_s - self._last_s < pause_s:
            return
        self._last_s = now_s
        if self._bar is None:
            self._say(f"{self._summary()}{self._newest()}")
            return
        assert self._overall is not None
        self._bar.update(
            self._overall, completed=self._total - len(self._left), words=self._summary()
        )
        for job_id, line in self._lines.items():
            step, words = self._at(job_id)
            self._bar.update(line, completed=step, words=words)
        self._bar.refresh()

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _summary(self) -> str:
        done = self._total - len(self._left)
        seconds = sum(self._estimates.seconds(job) for job in self._left.values())
        return (
            f"{done}/{self._total} jobs done, {len(self._running)} running, "
            f"about {duration(seconds / self._num_slots)} left"
        )

    def _newest(self) -> str:
        for job_id, job in self._running.items():
            _, words = self._at(job_id)
            if words:
                return f"; {job.name}: {words}"
        return ""

    def _at(self, job_id: str) -> tuple[int, str]:
        """Return the step of a running job, and its loss and speed in words."""
        lines = self._store.progress(job_id)
        scored = self._store.scored(job_id)
        if scored is not None:
            words = f"{scored['done']:,} of {scored['total']:,} images scored"
            return int(lines[-1]["step"]) if lines else 0, words + _rate(scored)
        if not lines:
            return 0, ""
        # An older attempt may have come further than the newest has by now.
        last = max(lines, key=lambda line: (line["attempt"], line["step"]))
        words = f"loss {last.get('loss', float('nan')):.3f}"
        return int(last["step"]), words + _rate(last)


def _rate(line: Mapping[str, Any]) -> str:
    """Return images a second, in words; of slow ones with a fraction, so that none is 0."""
    per_s = line.get("images_per_s")
    if not per_s:
        return ""
    return f", {per_s:,.0f} images/s" if per_s >= 10 else f", {per_s:.2g} images/s"


def _plain(text: str) -> str:
    """Keep markup and control characters of a message from reaching the terminal."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else " " for c in text))
