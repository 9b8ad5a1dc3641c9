"""What a machine lacks, tried on numbers; its ports, its weights, a cluster that answers."""

from __future__ import annotations

import hashlib
import math
import socket
from pathlib import Path

import pytest

import baselines
from bench import digests
from bench.doctor import Check, before, folder, machine, weights
from bench.paths import CachePaths
from bench.plan.fitting import TOO_LARGE

NOWHERE = CachePaths(Path("/nowhere"))
HERE = machine.Machine(num_cores=2, available_gib=4.0, num_gpus=0, num_tpus=0)
VERSIONS = {name: floor for name, (floor, _) in machine.FLOORS.items()}


@pytest.mark.parametrize(
    ("checks", "status", "found", "cure"),
    [
        ([machine.cores(HERE, num_threads=8)], "problem", "8 threads", "num_threads=2"),
        (
            [machine.memory(HERE, needed_gib=9.5, job="pretrain x")],
            "problem", "pretrain x needs about 9.50", "lower batch_size",
        ),
        (
            machine.too_large({f"{TOO_LARGE} ViT-H/14 at 518 px needs 30 GiB: lower it", "other"}),
            "problem", "ViT-H/14 at 518 px needs 30 GiB", "Lower it",
        ),
        (machine.devices(HERE, gpus=0.5, tpus=0), "problem", "asks for 0.5 GPUs", "gpus=0"),
        (machine.devices(HERE, gpus=0, tpus=4), "problem", "4 TPU chips", "tpus=0"),
        (
            machine.devices(HERE.model_copy(update={"gpu_driver": True}), gpus=1, tpus=0),
            "problem", "a driver is loaded", "CUDA build of torch",
        ),
        (
            [machine.disk(Path("/data"), needed_bytes=5 * 2**30, free_bytes=2**30)],
            "problem", "1.0 GiB free at /data", "Free 4.00 GiB",
        ),
        (
            [machine.disk(Path("/data"), needed_bytes=9 * 2**30, free_bytes=10 * 2**30)],
            "warning", "about 9.00 needed", "Free some space",
        ),
        (
            machine.versions({**VERSIONS, "torch": "2.9.1+cpu"}, python=(3, 12)),
            "problem", "torch 2.9.1+cpu is older than 2.10", 'pip install "torch>=2.10"',
        ),
        (
            machine.versions({**VERSIONS, "ray": ""}, python=(3, 11)),
            "problem", "ray is not installed", "pip install ray",
        ),
        (machine.versions(VERSIONS, python=(3, 10)), "problem", "Python 3.10", "3.11 or later"),
        (
            [folder.file_system(Path("/mnt/a/b"), "x / ext4\nserver:/ /mnt/a nfs4 rw")],
            "warning", "network file system (nfs4)", "--workdir",
        ),
        ([folder.writable(Path("/proc/nope"))], "problem", "/proc cannot be written", "--workdir"),
        (
            [weights.one("vit-b16", "in21", NOWHERE)],
            "problem", 'unknown weights "in21"', 'mean "in21k"',
        ),
        (
            [weights.one("vit-b16", "jft", NOWHERE)],
            "problem", "not public", "vitbench show vit-b16",
        ),
        ([weights.one("vit-b61", "in21k", NOWHERE)], "problem", "unknown system", 'mean "vit-b16"'),
    ],
)  # fmt: skip
def test_what_a_machine_lacks(checks: list[Check], status: str, found: str, cure: str) -> None:
    assert len(checks) == 1
    assert checks[0].status == status
    assert found in checks[0].found
    assert cure in checks[0].cure


def test_weights_that_are_here_are_told_with_their_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = baselines.system("vit-b16").weights[0]
    key = hashlib.sha256(source.url.encode()).hexdigest()[:16]
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = CachePaths(tmp_path / "runs" / "data")
    (place / f"{key}-ViT-B_16.npz.0a1b.partial").touch()  # of a download that was cut short
    assert weights.one("vit-b16", source.name, cache).status == "warning"
    (place / f"{key}-ViT-B_16.npz").touch()
    check = weights.one("vit-b16", source.name, cache)
    assert (check.status, check.found[-41:]) == ("ok", "(its digest is recorded on its first use)")
    digests.record("w", source.url, digests.Stated("1" * 64, "here"), cache)
    assert weights.one("vit-b16", source.name, cache).found.endswith("(sha256 111111111111...)")
    cache.weights_record.write_text("{")
    damaged = weights.one("vit-b16", source.name, cache)
    assert (damaged.status, "Remove it" in damaged.cure) == ("problem", True)


def test_a_machine_that_has_everything() -> None:
    checks = [
        machine.cores(HERE, num_threads=2),
        machine.memory(HERE, needed_gib=1, job="x", pieces=2),
        machine.memory(HERE.model_copy(update={"available_gib": math.inf}), needed_gib=9, job="x"),
        *machine.devices(HERE.model_copy(update={"num_gpus": 1}), gpus=1, tpus=0),
        machine.disk(Path("/"), needed_bytes=1, free_bytes=10),
        *machine.versions({**VERSIONS, "torch": "2.15.0+cu132"}, python=(3, 14)),
        folder.file_system(Path("/home/me"), "x / ext4\nx /hom nfs rw"),
    ]
    assert {check.status for check in checks} == {"ok"}


def test_a_taken_port_and_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert machine.port(number).status == "warning"
    assert machine.port(number).status == "ok"


def test_an_address_that_answers_and_one_that_does_not() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert before.cluster(address).status == "ok"
        assert before.cluster(f"ray://{address}").status == "ok"
    assert before.cluster(address).status == "problem"
    assert before.cluster("auto").status == "ok"
    for text in ("", "host", "host:port", "host:99999999"):
        assert before.cluster(text).status == "problem", text
