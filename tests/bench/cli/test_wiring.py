"""Data that are prepared before anything runs: wrong ones leave nothing, and take nothing away."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.cli.wiring import prepare_data
from bench.data import catalog
from bench.data.cards.generated import formula_card
from bench.data.packs import build
from bench.errors import DataError
from bench.plan.spec import JobGraph
from bench.specs import PlannedJob
from bench.store import Store

FORK = multiprocessing.get_context("fork")
DRAWN = formula_card("drawn", num_classes=3, images_per_class=20, image_size_px=8)


@pytest.fixture
def wrong(
    make_job: Callable[..., PlannedJob],
    make_graph: Callable[..., JobGraph],
    tmp_path: Path,
) -> JobGraph:
    """A suite that reads images it draws, and files of which one is damaged."""
    for index in range(8):
        file = tmp_path / "set" / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 32), index).save(file)
    file.write_bytes(file.read_bytes()[:200])
    block = {"reader": "image_folder", "path": str(tmp_path / "set"), "image_size_px": 8}
    cards = {"drawn": DRAWN, "mine": catalog.resolve("mine", block, base_dir=tmp_path)}
    jobs = tuple(
        make_job(name, seed=seed).model_copy(update={"dataset": name})
        for seed, name in enumerate(cards)
    )
    return make_graph(jobs).model_copy(update={"datasets": cards})


def test_wrong_data_leave_no_work_folder(wrong: JobGraph, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"7\.png"):
        prepare_data(wrong, wrong.jobs, Store(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_wrong_data_leave_a_folder_that_was_there(wrong: JobGraph, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(DataError):
        prepare_data(wrong, wrong.jobs, Store(tmp_path / "runs"))
    assert (tmp_path / "runs").is_dir()


def pack(workdir: Path, card: Any) -> None:
    build.packed(card, cache_dir=Store(workdir).paths.cache.folder)


def half_pack(workdir: Path, card: Any) -> None:
    def stop(done: int, total: int) -> None:
        raise SystemExit

    build.packed(card, cache_dir=Store(workdir).paths.cache.folder, on_progress=stop)


def work(workdir: Path, job: PlannedJob) -> None:
    with Store(workdir).claim(job.spec):
        pass


@pytest.mark.parametrize("what", [pack, half_pack, work])
def test_wrong_data_take_nothing_of_another_driver_away(
    wrong: JobGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: Callable[[Path, Any], None],
) -> None:
    """It begins in the fresh folder while the wrong data are read."""
    check = build._check_counts

    def meanwhile(*words: Any) -> None:
        monkeypatch.undo()
        thing = wrong.jobs[0] if what is work else DRAWN
        other = FORK.Process(target=what, args=(tmp_path / "runs", thing))
        other.start()
        other.join()
        check(*words)

    monkeypatch.setattr(build, "_check_counts", meanwhile)
    with pytest.raises(DataError):
        prepare_data(wrong, wrong.jobs, Store(tmp_path / "runs"))
    paths = Store(tmp_path / "runs").paths
    made = {
        pack: paths.cache.packed(DRAWN.digest),
        half_pack: paths.cache.partial(DRAWN.digest),
        work: paths.job(wrong.jobs[0].job_id).spec,
    }
    assert made[what].exists()
