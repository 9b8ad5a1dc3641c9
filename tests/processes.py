"""Processes without what other tests left in this one, forked where training was imported once."""

from __future__ import annotations

import multiprocessing

CLEAN = multiprocessing.get_context("forkserver")
"""Processes without the signal handlers and threads of this one. Tests that start them share the
`xdist_group` "processes", so that one server, which takes seconds to start, serves them all."""
CLEAN.set_forkserver_preload(["bench.training", "bench.models", "timm.models.vision_transformer"])
