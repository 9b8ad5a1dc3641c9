"""What `vitbench run` refuses before it writes anything: a place where nothing could run."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.doctor import folder, machine
from bench.doctor.check import Check, ok, problem
from bench.errors import UserError
from bench.specs import PlannedJob

ANSWER_S = 3.0
"""How long a cluster may take to accept a connection; Ray itself waits for minutes."""


def check_place(
    todo: Sequence[PlannedJob], *, workdir: Path, local: bool, address: str | None
) -> None:
    """Raise UserError where the work folder, the devices or the cluster are not there."""
    if not todo:
        return
    checks = [folder.writable(workdir.resolve())]
    asked = [job.resources.of_all_workers() for job in todo]
    gpus = max(resources.gpus for resources in asked)
    if local or address is None:
        found = machine.measure(look_for_gpus=gpus > 0)
        tpus = max(resources.tpus for resources in asked)
        checks += machine.devices(found, gpus=gpus, tpus=tpus)
        if not local:
            threads = max(round(resources.cpus) for resources in asked)
            checks.append(machine.cores(found, num_threads=threads))
    else:
        checks.append(cluster(address))
    for check in checks:
        if check.status == "problem":
            raise UserError(f"{check.topic}: {check.found}", hint=check.cure)


def cluster(address: str) -> Check:
    """Try to connect to a Ray cluster; `auto` and other names are left to Ray."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        if address in ("auto", "local"):
            return ok("--address", f"{address}: found by Ray")
        return problem("--address", f'"{address}" is not an address', "Write HOST:PORT, or auto")
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError as error:
        return problem(
            "--address",
            f"no Ray cluster answers at {address} ({error.strerror or error})",
            "Start one with `ray start --head`, or leave --address out",
        )
    return ok("--address", f"{address} answers")
