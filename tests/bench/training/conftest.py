"""Training of small models: one thread computes them, here and in processes that are started."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Layers this small only wait for each other's threads."""
