"""Tests that share a set-up, or a Ray, run one after the other on one worker of pytest."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("alone")
def test_a_group_is_sent_to_one_worker(request: pytest.FixtureRequest) -> None:
    """The scheduler reads the group behind the name; some releases of pytest drop it."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("not run with --dist loadgroup")
    assert request.node.nodeid.endswith("@alone")
