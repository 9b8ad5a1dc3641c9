"""How jobs fit a device: the fewest pieces, evaluation batches, refusals, and what was learned."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

import baselines
from bench import environment
from bench.data.parts import largest_part
from bench.memory import of_job
from bench.paths import WorkPaths
from bench.plan import learned
from bench.plan.fitting import RESERVE, Place, expected_gib, factor_key, fit
from bench.specs import EVALUATION_BATCH, Cost, DataUse, JobSpec, Protocol, Recipe, Resources


def job(
    name: str = "vit-l16", *, size_px: int = 384, device: Any = "cuda", **changes: Any
) -> JobSpec:
    recipe = Recipe(
        **{"steps": 10, "batch_size": 512, "optimizer": "sgd", "base_lr": 0.03,
           "schedule": "cosine", **changes}
    )  # fmt: skip
    protocol = baselines_protocol(size_px)
    return JobSpec(
        kind="finetune", kind_version=1, system=baselines.use(baselines.system(name)),
        data=DataUse(digest="x", num_classes=1000, train_split="train", eval_split="test"),
        protocol=protocol, recipe=recipe, seed=0, device=device, needs={"checkpoint": "0" * 16},
    )  # fmt: skip


def baselines_protocol(size_px: int) -> Protocol:
    from bench.data import catalog

    some = next(iter(catalog.protocols().values()))
    return some.model_copy(update={"image_size_px": size_px})


def on(gib: float, **factors: float) -> Place:
    return Place({"cuda": gib, "cpu": gib}, dict(factors))


@pytest.mark.parametrize("gib", [24.0, 40.0, 80.0, 141.0, 1000.0])
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.1}, {"batch_size": 500}, {"batch_size": 7}])
def test_the_fewest_pieces_that_fit(gib: float, changes: dict[str, Any]) -> None:
    spec = job(**changes)
    trained, _ = of_job(spec)
    assert trained is not None
    assert spec.recipe is not None
    found, batch_size = fit(spec, on(gib)), spec.recipe.batch_size
    limit_gib = gib * (1 - RESERVE)
    assert found.memory_gib <= limit_gib
    assert trained.gib(largest_part(batch_size, found.pieces)) <= limit_gib
    if found.pieces > 1:
        assert trained.gib(largest_part(batch_size, found.pieces - 1)) > limit_gib


def test_pieces_are_not_only_powers_of_two() -> None:
    pieces = {fit(job(), on(gib)).pieces for gib in range(24, 160, 8)}
    assert any(number & (number - 1) for number in pieces)
    assert fit(job(), on(80), workers=4).pieces < fit(job(), on(80)).pieces


def test_the_largest_piece_keeps_an_image_with_its_mirror() -> None:
    assert [largest_part(8, parts) for parts in (1, 2, 3, 4, 8)] == [8, 4, 4, 2, 1]
    assert largest_part(7, 1) == 7
    assert largest_part(7, 7) == 1


def test_a_micro_job_stays_whole() -> None:
    found = fit(job("vit-micro", size_px=12, device="cpu", batch_size=64), on(2))
    assert (found.pieces, found.evaluation_batch) == (1, EVALUATION_BATCH)


def test_fewer_images_are_scored_at_once_where_they_must() -> None:
    found = fit(job("bit-r152x4", size_px=480), on(40))
    assert 0 < found.evaluation_batch < EVALUATION_BATCH


def test_what_does_not_fit_with_one_image_is_refused() -> None:
    found = fit(job("vit-h14", size_px=518, optimizer="adam"), on(8))
    assert "at 518 px needs " in found.too_large
    assert "there are 8.0" in found.too_large
    assert "device_memory_gib" in found.too_large
    assert fit(job("vit-h14", size_px=518, optimizer="adam"), on(24)).too_large == ""


def test_a_batch_that_is_normalized_together_is_not_cut() -> None:
    spec = job("noisy-student-b7", size_px=600, batch_size=64)
    assert "the least that can be computed at once" in fit(spec, on(80)).too_large
    assert fit(spec, on(400)).pieces == 1


def test_a_kind_of_device_that_is_not_known_fits_everything() -> None:
    assert fit(job(), Place({})).pieces == 1


def cost(gib: float) -> Cost:
    return Cost(
        device="x", device_kind="cuda", wall_s=1, core_s=1, examples=1, images_per_s=1,
        peak_memory_gib=gib,
    )  # fmt: skip


def test_what_a_job_held_corrects_the_next_plan(tmp_path: Path) -> None:
    cache, spec = WorkPaths(tmp_path).cache, job()
    before = fit(spec, on(80))
    used = Resources(pieces=before.pieces)
    said_gib = expected_gib(spec, used)
    learned.note(spec, used, cost(1.5 * said_gib), cache)
    learned.note(spec, used, cost(1.1 * said_gib), cache)  # the largest counts
    assert learned.read(cache) == {factor_key(spec): 1.5}
    after = fit(spec, Place({"cuda": 80}, learned.read(cache)))
    assert after.pieces > before.pieces
    trained, _ = of_job(spec)
    assert trained is not None
    assert 1.5 * trained.gib(largest_part(512, after.pieces)) <= 80 * (1 - RESERVE)
    other = job("bit-r50x1")
    assert fit(other, Place({"cuda": 80}, learned.read(cache))) == fit(other, on(80))


def test_small_jobs_and_nonsense_teach_nothing(tmp_path: Path) -> None:
    cache = WorkPaths(tmp_path).cache
    micro = job("vit-micro", size_px=12, device="cpu", batch_size=64)
    learned.note(micro, Resources(), cost(3.0), cache)
    assert learned.read(cache) == {}
    learned.note(job(), Resources(), cost(1e6), cache)
    assert list(learned.read(cache).values()) == [learned.RANGE[1]]
    cache.memory_record.write_text("{")
    assert learned.read(cache) == {}


def test_memory_of_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a GPU is asked of the driver's own tool; the smallest of several counts."""
    assert (environment.device_memory_gib("cpu") or 0) > 0.5
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in *memory.total*) echo 81559; echo 40960;; esac\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    environment.device_memory_gib.cache_clear()
    assert environment.device_memory_gib("cuda") == 40.0
    tool.unlink()
    environment.device_memory_gib.cache_clear()
    assert environment.device_memory_gib("cuda") is None
    environment.device_memory_gib.cache_clear()
