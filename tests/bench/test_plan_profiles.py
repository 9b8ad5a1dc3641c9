"""[[profile]]: one job for each system and input size, alone or next to other blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

import baselines
from bench import environment
from bench.data import catalog
from bench.errors import SuiteError
from bench.plan import plan
from bench.plan import suites as suites
from bench.plan.spec import JobGraph

HEAD = """
name = "fast"
title = "Speed"
claim = "Smaller images are faster."

[system.deep]
like = "vit-micro"
args = { depth = 4 }
"""
PROFILE = """
[[profile]]
systems = ["bit-micro", "deep"]
image_sizes_px = [8, 16]
batch_sizes = [4, 1]
steps = 2
repeats = 3
"""
PRETRAIN = """
[[pretrain]]
systems = ["vit-micro"]
upstream = "fractals"
num_examples = [64]
recipe = "vit-micro-pretrain"
protocol = "pretrain-micro"
"""
FEWSHOT = """
[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1]
"""


def planned(folder: Path, *blocks: str, settings: tuple[str, ...] = ()) -> JobGraph:
    path = folder / "fast.toml"
    path.write_text(HEAD + "".join(blocks), encoding="utf-8")
    return plan(
        suites.load(str(path), settings=settings),
        datasets=catalog.datasets(),
        protocols=catalog.protocols(),
    )


def test_there_is_a_job_for_each_system_and_size_and_it_needs_nothing(tmp_path: Path) -> None:
    graph = planned(tmp_path, PROFILE)
    assert [job.name for job in graph.jobs] == [
        "profile bit-micro at 8 px", "profile bit-micro at 16 px",
        "profile deep at 8 px", "profile deep at 16 px",
    ]  # fmt: skip
    for job in graph.jobs:
        assert job.spec.kind == job.labels.stage == "profile"
        assert not job.spec.needs
        assert not job.refused
        assert (job.dataset, job.spec.data, job.spec.protocol) == ("", None, None)
        assert job.spec.image_size_px in (8, 16)
        assert dict(job.spec.params) == {
            "image_size_px": job.spec.image_size_px, "num_classes": 1000, "batch_sizes": (1, 4),
            "precision": "float32", "steps": 2, "repeats": 3, "machine": environment.machine("cpu"),
        }  # fmt: skip


def test_the_planned_work_is_that_of_all_timings(tmp_path: Path) -> None:
    job = planned(tmp_path, PROFILE).jobs[0]
    forward = baselines.forward_flops(job.spec.system, 8)
    # A warm-up and three times two batches of 1 and of 4 images, forward and (x 3) trained.
    assert job.exaflops == pytest.approx(forward * 7 * 5 * 4 / 1e18)
    assert job.train_examples == job.num_steps == 0


def test_seeds_and_order_of_batches_change_no_speed(tmp_path: Path) -> None:
    ids = [job.job_id for job in planned(tmp_path, PROFILE).jobs]
    for setting in ("seeds=[3,4]", "profile[0].batch_sizes=[1,4]", "title='x'"):
        assert [j.job_id for j in planned(tmp_path, PROFILE, settings=(setting,)).jobs] == ids
    for setting in (
        "profile[0].steps=3", "profile[0].repeats=2", "profile[0].precision='bfloat16'",
        "profile[0].memory_gib=0.5", "profile[0].batch_sizes=[1]", "num_threads=2",
    ):  # fmt: skip
        other = [j.job_id for j in planned(tmp_path, PROFILE, settings=(setting,)).jobs]
        assert not set(other) & set(ids), setting


def test_speeds_belong_to_the_machine_that_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [job.job_id for job in planned(tmp_path, PROFILE).jobs]
    monkeypatch.setattr(environment, "machine", lambda device: "another processor, 3 cores")
    assert not set(ids) & {job.job_id for job in planned(tmp_path, PROFILE).jobs}


def test_profiles_stand_beside_other_blocks(tmp_path: Path) -> None:
    graph = planned(tmp_path, PRETRAIN, FEWSHOT, PROFILE)
    assert [job.labels.stage for job in graph.jobs] == ["pretrain", "fewshot"] + ["profile"] * 4


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("systems=['vit-mirco']", 'profile[0].systems[0]: unknown system "vit-mirco". Did you'),
        ("image_sizes_px=[]", "profile[0].image_sizes_px: must not be empty"),
        ("image_sizes_px=[0]", "image_sizes_px must lie between 1 and 4,096"),
        ("image_sizes_px=[8,8]", "image_sizes_px must be distinct"),
        ("image_sizes_px=[16,2]", "profile[0].image_sizes_px[1]: image size 2 px is smaller than"),
        ("batch_sizes=[1000000]", "batch_sizes must lie between 1 and 16,384"),
        ("batch_sizes=['many']", "profile[0].batch_sizes[0]: "),
        ("precision='float16'", "profile[0].precision: float16 is arithmetic of GPUs, and"),
        ("repeats=0", "profile[0].repeats: input should be greater than 0"),
        ("memory_gib=-1", "profile[0].memory_gib: input should be greater than 0"),
        ("memory=1", 'profile[0].memory: unknown key. Did you mean "memory_gib"?'),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, settings: str, expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, PROFILE, settings=(f"profile[0].{settings}",))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((), "at least one [[pretrain]], [[weights]] or [[profile]] table"),
        ((FEWSHOT, PROFILE), "a [[transfer]] needs a [[pretrain]] or [[weights]] table"),
        ((PRETRAIN, PROFILE), "a suite that pre-trains needs at least one [[transfer]] table"),
    ],
    ids=["nothing", "no start", "no transfer"],
)
def test_blocks_that_lack_others(tmp_path: Path, blocks: tuple[str, ...], expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, *blocks)
    assert expected in str(caught.value)


def test_a_scale_may_have_nothing_but_profiles(tmp_path: Path) -> None:
    blocks = [block.replace("]]\n", ']]\nscale = "public"\n') for block in (PRETRAIN, FEWSHOT)]
    blocks.append(PROFILE.replace("]]\n", ']]\nscale = "smoke"\n'))
    graph = planned(tmp_path, *blocks, settings=("scale='smoke'",))
    assert {job.labels.stage for job in graph.jobs} == {"profile"}
    with pytest.raises(SuiteError, match=r"no \[\[transfer\]\] table belongs to scale"):
        planned(tmp_path, blocks[0], blocks[2], FEWSHOT.replace("]]\n", ']]\nscale = "smoke"\n'),
                settings=("scale='public'",))  # fmt: skip


# --- parts of a GPU -------------------------------------------------------------------------

WEIGHTS = """
[[weights]]
systems = ["vit-b16"]
weights = "in21k"

[[transfer]]
kind = "fewshot"
datasets = ["cifar100"]
protocol = "vit-fewshot"
shots = [1]
"""


@pytest.mark.parametrize(
    ("blocks", "kind"), [((PRETRAIN, FEWSHOT), "pretrain"), ((PROFILE,), "profile")]
)
def test_a_part_of_a_gpu_is_refused_where_jobs_take_its_memory(
    tmp_path: Path, blocks: tuple[str, ...], kind: str
) -> None:
    with pytest.raises(SuiteError, match=f"gpus: 0.5 shares a GPU .* a {kind} job needs one alone"):
        planned(tmp_path, *blocks, settings=("gpus=0.5",))


def test_jobs_that_only_evaluate_may_share_a_gpu(tmp_path: Path) -> None:
    shared = planned(tmp_path, WEIGHTS, settings=("gpus=0.25",))
    assert [job.resources.gpus for job in shared.jobs] == [0, 0.25]
    alone = planned(tmp_path, WEIGHTS, settings=("gpus=1",))
    assert [job.job_id for job in shared.jobs] == [job.job_id for job in alone.jobs]
