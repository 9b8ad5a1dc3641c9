"""Fixtures shared by all tests: the real image sets, and quiet, offline libraries."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and threads would wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes depends on who else uses the machine.
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")

from bench.plan import fitting  # noqa: E402  (what it imports looks at the environment)

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Spare what was imported: each collection of garbage would look through all of it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let it go at the end: libraries report as leaked what is never collected."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests out of the user's cache and data home."""
    os.environ["VITBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["VITBENCH_DATA"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session", autouse=True)
def same_memory() -> Iterator[None]:
    """Plan as on one machine, whatever the memory of this one and of its GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "device_memory_gib", {"cpu": 24.0}.get)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real image sets (`VITBENCH_TEST_DATA`, or `../shared/data`)."""
    named = os.environ.get("VITBENCH_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "DATA.md").is_file():
        pytest.skip(f"no real image sets at {folder}; set VITBENCH_TEST_DATA")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, which small layers are done with soonest."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
