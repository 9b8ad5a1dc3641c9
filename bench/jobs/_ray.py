"""Ray inside a job: that of the scheduler, or one of the job's own where there is none."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def node_resource() -> str:
    """Return the resource that every task on this node can ask for."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    return next(name for name in resources if name.startswith("node:") and "__internal" not in name)


@contextmanager
def ray_here(*, num_cpus: int = 1) -> Iterator[None]:
    """Use the Ray that this process belongs to, or one of its own that ends with the block.

    That has so many CPUs to give, whatever the machine has.

    Its ports are open on every interface, so a token guards them.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    # Ray looks at these once in the life of a process, so they stay, and the token stays the same.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with environment({"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}):
        import ray

        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=128 * 2**20,
            _node_ip_address="127.0.0.1",
        )
        try:
            if in_main and handler is not None:
                signal.signal(signal.SIGTERM, handler)  # Ray sets one of its own
            yield
        finally:
            ray.shutdown()


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment, and put them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
