"""Where jobs run: in this process, or as Ray core tasks."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.errors import BenchError, JobError, Preempted, UserError
from bench.paths import WorkPaths
from bench.preemption import GRACE_S
from bench.schedule.one_job import perform
from bench.schedule.ray_files import RayFiles
from bench.specs import DatasetCard, JobResult, JobSpec, PlannedJob, Resources

SHARE = "Give --workdir a folder that every node of the cluster shares"
"""What to do where the work folder of a node is not that of the driver."""

LEAVE_S = GRACE_S + 5
"""Seconds after which a task that was told to end is ended."""


class Lost(Exception):
    """The process of a job died before it answered."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class Executor(Protocol):
    """Where jobs run: in this process, or on Ray."""

    def fits(self, resources: Resources) -> bool:
        """Tell whether a job with these resources can start now."""

    def submit(self, job: PlannedJob) -> None:
        """Start a job."""

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        """Return one finished job and its result or error; None after `timeout_s`."""

    def close(self) -> None:
        """Stop everything that was started."""


class LocalExecutor:
    """One job at a time in this process: for debugging, and where one core is all there is."""

    def __init__(self, datasets: Mapping[str, DatasetCard], workdir: Path) -> None:
        self._datasets = datasets
        self._workdir = workdir
        self._waiting: list[PlannedJob] = []

    def fits(self, resources: Resources) -> bool:
        """Tell whether no job is waiting."""
        return not self._waiting

    def submit(self, job: PlannedJob) -> None:
        """Take the job; `next` does it."""
        self._waiting.append(job)

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        """Do the waiting job and return what came of it."""
        if not self._waiting:
            return None
        job = self._waiting.pop()
        try:
            return job.job_id, perform(
                job.spec,
                self._datasets.get(job.dataset),
                workdir=self._workdir,
                resources=job.resources,
                file=job.file,
            )
        except Exception as error:
            return job.job_id, error

    def close(self) -> None:
        """Nothing was started."""


class RayExecutor:
    """Ray core tasks on this machine, or on the cluster at `address`.

    A local Ray opens ports on every interface even when told to use 127.0.0.1, so a token of this
    run's own guards them; usage statistics and the dashboard are off.
    """

    def __init__(
        self, datasets: Mapping[str, DatasetCard], workdir: Path, *, address: str | None = None
    ) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # read once a process
        elif _keeps_a_token():
            # `ray start` guards a cluster with it; to an address that is named none is shown.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray

        self._ray = ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        self._files = RayFiles() if address is None else None
        if self._files is not None:
            options |= {
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "object_store_memory": 128 * 2**20,
            }
            if self._files.path is not None:
                options["_temp_dir"] = str(self._files.path)
        try:
            ray.init(address=address or "local", **options)
        except ConnectionError as error:
            if "InvalidAuthToken" in str(error.__cause__):
                raise UserError(
                    f"--address {address}: the Ray cluster there does not take this user's token",
                    hint="Set RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head",
                ) from error
            raise UserError(
                f"--address {address}: no Ray cluster answers there",
                hint="Start one with `ray start --head`, or leave --address out",
            ) from error
        except Exception as error:  # Ray has no class of its own for it
            if "timed out during startup" not in str(error):
                raise
            raise BenchError(
                "Ray did not start within its 30 s: this machine is too busy",
                hint="Run the same command again when it is less so, or with --local",
            ) from error
        self._datasets = datasets
        self._workdir = workdir
        self._free = self._capacity()
        self._total = self._free
        self._running: dict[Any, PlannedJob] = {}

    def _capacity(self) -> Resources:
        there = self._ray.cluster_resources()
        return Resources(
            cpus=there.get("CPU", 0), gpus=there.get("GPU", 0), tpus=int(there.get("TPU", 0))
        )

    def check(self, jobs: Sequence[PlannedJob]) -> None:
        """Raise UserError when a job asks for more than the cluster has: it would wait forever."""
        for job in jobs:
            asked = job.resources.of_all_workers()
            if not _within(asked, self._total):
                raise UserError(
                    f"{job.name} asks for {_words(asked)}; there are {_words(self._total)}",
                    hint="Lower the suite's num_threads, gpus, tpus or workers, or use --address",
                )

    def fits(self, resources: Resources) -> bool:
        """Tell whether the free cores and devices are enough."""
        return _within(resources.of_all_workers(), self._free)

    def submit(self, job: PlannedJob) -> None:
        """Start the job as a Ray task; attempts are counted by the loop, not by Ray."""
        # A job of several workers takes nothing itself: it would keep it from them.
        own = job.resources if job.resources.workers == 1 else Resources(cpus=0)
        options: dict[str, Any] = {
            "num_cpus": own.cpus,
            "num_gpus": own.gpus,
            "max_retries": 0,
            "name": job.name,
        }
        if own.tpus:
            options["resources"] = {"TPU": own.tpus}
        if own.gpus or own.tpus:
            options["max_calls"] = 1  # a reused process would keep the device's memory
        card = self._datasets.get(job.dataset)
        task = self._ray.remote(_ray_task).options(**options)
        reference = task.remote(
            job.spec.model_dump_json(),
            card.model_dump_json() if card else "",
            str(self._workdir),
            job.resources.model_dump_json(),
            job.file,
        )
        self._running[reference] = job
        self._free = _minus(self._free, job.resources.of_all_workers())

    def next(self, timeout_s: float) -> tuple[str, JobResult | Exception] | None:
        """Return one finished task."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        job = self._running.pop(ready[0])
        self._free = _minus(self._free, job.resources.of_all_workers(), sign=-1)
        try:
            return job.job_id, JobResult.model_validate_json(self._ray.get(ready[0]))
        except self._ray.exceptions.LocalRayletDiedError as error:
            raise BenchError(
                "Ray itself died on this machine; finished jobs are kept",
                hint="Run the same command again to continue",
            ) from error
        except self._ray.exceptions.NodeDiedError as error:
            return job.job_id, Preempted(first_line(error))
        except self._ray.exceptions.RayTaskError as error:
            return job.job_id, error.cause if isinstance(error.cause, Exception) else error
        except self._ray.exceptions.RayError as error:
            return job.job_id, Lost(first_line(error))

    def close(self) -> None:
        """Tell the tasks to end, which save their work first, and end Ray itself."""
        left = list(self._running)
        try:
            for reference in left:
                self._ray.cancel(reference, recursive=False)  # each tells its own
            if left:
                _, left = self._ray.wait(left, num_returns=len(left), timeout=LEAVE_S)
        finally:
            # Only those: to force one that is just ending makes Ray abort this process.
            for reference in left:
                self._ray.cancel(reference, force=True)
            self._ray.shutdown()
            if self._files is not None:
                self._files.remove()


def _ray_task(spec: str, card: str, workdir: str, resources: str, file: str = "") -> str:
    """Do one job in a Ray worker; records travel as JSON."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a command in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # by it Ray tells a task to end
    if not WorkPaths(Path(workdir)).jobs.is_dir():
        raise JobError(f"node {socket.gethostname()} has no {workdir}", hint=SHARE)
    return perform(
        JobSpec.model_validate_json(spec),
        DatasetCard.model_validate_json(card) if card else None,
        workdir=Path(workdir),
        resources=Resources.model_validate_json(resources),
        file=file,
    ).model_dump_json()


def _keeps_a_token() -> bool:
    """Tell whether this user has a token of a Ray cluster, where Ray looks for one."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return Path("~/.ray/auth_token").expanduser().is_file()


def _within(asked: Resources, there: Resources) -> bool:
    slack = 1e-9
    return (
        asked.cpus <= there.cpus + slack
        and asked.gpus <= there.gpus + slack
        and asked.tpus <= there.tpus
    )


def _minus(there: Resources, asked: Resources, *, sign: int = 1) -> Resources:
    return Resources(
        cpus=max(0.0, there.cpus - sign * asked.cpus),
        gpus=max(0.0, there.gpus - sign * asked.gpus),
        tpus=there.tpus - sign * asked.tpus,
    )


def _words(resources: Resources) -> str:
    return f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs, {resources.tpus} TPU chips"
