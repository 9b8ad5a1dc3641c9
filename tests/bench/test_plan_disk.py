"""What a suite takes on disk, added up by hand."""

from __future__ import annotations

from pathlib import Path

from bench import cost
from bench.paths import CachePaths
from bench.plan import disk, plan_with_catalogue, suites


def test_a_suite_is_added_up(tmp_path: Path) -> None:
    graph = plan_with_catalogue(suites.load("quickstart", num_seeds=1), {})
    cache = CachePaths(tmp_path)
    found = disk.needed(graph, cache, num_running=2)
    # Pixels, and 8 bytes a label: fractals of 16 px, digits of 8.
    assert found.data == 16_384 * (3 * 16**2 + 8) + 1_797 * (3 * 8**2 + 8)
    # float32, of both splits of digits: three sizes of upstream, ViT, BiT and hybrid.
    assert found.features == 4 * 1_797 * 3 * (64 + 128 + 64)
    trained = [job for job in graph.jobs if job.labels.stage in ("pretrain", "final")]
    assert found.weights == sum(4 * job.num_params for job in trained)
    _, largest = cost.largest_checkpoint(graph.jobs)
    assert found.checkpoints == 2 * 3 * largest > 0
    assert found.num_bytes == found.data + found.features + found.weights + found.checkpoints
    for card in graph.datasets.values():
        cache.packed(card.digest).mkdir(parents=True)
    assert disk.needed(graph, cache).data == 0


def test_what_is_refused_takes_nothing(tmp_path: Path) -> None:
    graph = plan_with_catalogue(suites.load("quickstart", settings=["device_memory_gib=0.1"]), {})
    assert all(job.refused for job in graph.jobs)
    assert disk.needed(graph, CachePaths(tmp_path)).num_bytes == 0
