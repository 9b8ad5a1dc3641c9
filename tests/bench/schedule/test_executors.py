"""Where jobs run: what is told when Ray cannot begin."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from bench import schedule
from bench.errors import BenchError


@pytest.mark.ordinary
def test_a_machine_too_busy_for_ray_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray waits 30 s for itself; how busy a machine is cannot be made, but its words are Ray's."""
    import ray
    import ray._private.node

    words = re.search(
        r"The current node timed out during startup", inspect.getsource(ray._private.node)
    )
    assert words is not None

    def too_late(**options: Any) -> None:
        raise Exception(words[0])

    monkeypatch.setattr(ray, "init", too_late)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "0")  # what the executor sets is put back
    with pytest.raises(BenchError, match=r"Ray did not start .* --local"):
        schedule.RayExecutor({}, tmp_path)
