"""Checkpoints under kills, damage, foreign owners and full disks."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from bench.errors import CheckpointError
from bench.files import clear_stale, file_sha256
from bench.training import Checkpoints, checkpoint

FORK = multiprocessing.get_context("fork")


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((16, 16), float(value)), "step": torch.tensor(value)}


def save(checkpoints: Checkpoints, step: int, state: dict[str, torch.Tensor]) -> None:
    """Save, and wait until it is written."""
    checkpoints.save(step, state, {})
    checkpoints.wait()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def saved(tmp_path: Path, warnings: list[str]) -> Checkpoints:
    """Checkpoints of steps 10, 20 and 30 (of which two are kept)."""
    found = Checkpoints(tmp_path / "checkpoints", "job-a", warn=warnings.append)
    for step in (10, 20, 30):
        found.save(step, tensors(step), {"num_images": step * 4})
    found.wait()
    return found


def newest_step(checkpoints: Checkpoints) -> int | None:
    found = checkpoints.newest()
    return None if found is None else found[0]


def test_nothing_there(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", "job-a").newest() is None


def test_the_newest_comes_back_whole(saved: Checkpoints) -> None:
    found = saved.newest()
    assert found is not None
    step, loaded, meta = found
    assert (step, meta) == (30, {"num_images": 120})
    assert set(loaded) == {"weight", "step"}
    torch.testing.assert_close(loaded["weight"], torch.full((16, 16), 30.0), rtol=0, atol=0)
    assert loaded["step"].shape == ()


def test_two_are_kept(saved: Checkpoints) -> None:
    names = sorted(path.name for path in saved.folder.iterdir())
    assert names == [
        f"step-{step:09d}.{ending}" for step in (20, 30) for ending in ("json", "safetensors")
    ]


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("ending", ["safetensors", "json"])
@pytest.mark.parametrize("damage", [flip_bit, truncate, empty, remove])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    saved: Checkpoints, warnings: list[str], damage: Callable[[Path], None], ending: str
) -> None:
    damage(saved.folder / f"step-000000030.{ending}")
    assert newest_step(saved) == 20
    if not (damage is remove and ending == "json"):  # without a sidecar it was never finished
        assert len(warnings) == 1
        assert "step-000000030" in warnings[0]


def test_nothing_is_used_when_all_are_damaged(saved: Checkpoints, warnings: list[str]) -> None:
    for path in saved.folder.glob("*.safetensors"):
        flip_bit(path)
    assert saved.newest() is None
    assert len(warnings) == 2


def test_going_on_after_damage_drops_the_damaged_future(saved: Checkpoints) -> None:
    flip_bit(saved.folder / "step-000000030.safetensors")
    save(saved, 25, tensors(25))
    assert sorted(path.stem for path in saved.folder.glob("*.json")) == [
        "step-000000020",
        "step-000000025",
    ]
    assert newest_step(saved) == 25


def test_another_jobs_checkpoint_is_refused(
    saved: Checkpoints, tmp_path: Path, warnings: list[str]
) -> None:
    other = Checkpoints(tmp_path / "other", "job-b")
    save(other, 40, tensors(40))
    for path in other.folder.iterdir():
        path.rename(saved.folder / path.name)
    assert newest_step(saved) == 30
    assert "job-b" in warnings[0]


def test_a_sidecar_over_other_tensors_is_refused(saved: Checkpoints) -> None:
    (saved.folder / "step-000000020.safetensors").replace(
        saved.folder / "step-000000030.safetensors"
    )
    assert newest_step(saved) is None


def test_layers_that_share_a_weight_and_odd_layouts_are_stored(tmp_path: Path) -> None:
    shared = torch.randn(3, 4)
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    path = tmp_path / "weights.safetensors"
    sha256 = checkpoint.write_tensors(path, {"a": shared, "b": shared, "t": shared.T, "i": image})
    loaded = checkpoint.read_tensors(path, sha256=sha256)
    for name, expected in {"a": shared, "b": shared, "t": shared.T, "i": image}.items():
        torch.testing.assert_close(loaded[name], expected, rtol=0, atol=0)


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    one = {"a": torch.arange(4.0), "b": torch.arange(3)}
    first = checkpoint.write_tensors(tmp_path / "1", one)
    second = checkpoint.write_tensors(tmp_path / "2", dict(reversed(one.items())))
    assert first == second == file_sha256(tmp_path / "1")


# --- by the clock ---------------------------------------------------------------------------


def test_due_by_the_clock(tmp_path: Path) -> None:
    assert not Checkpoints(tmp_path / "a", "job", interval_s=1e9).due()
    assert Checkpoints(tmp_path / "b", "job", interval_s=0).due()


def test_large_copies_have_room_before_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(checkpoint, "LARGE_BYTES", 100)
    checkpoints = Checkpoints(tmp_path, "job", interval_s=20)
    state = {"large": torch.arange(40.0), "half": torch.ones(3, 4, dtype=torch.bfloat16)}
    now_s[0] = 9.0
    checkpoints.expect(lambda: pytest.fail("not half of the interval is over"))
    now_s[0] = 11.0
    checkpoints.expect(lambda: state)
    checkpoints.expect(lambda: pytest.fail("there is room already"))
    checkpoints._copy._thread.join()
    room = dict(checkpoints._copy._buffers)
    save(checkpoints, 1, state)
    assert all(checkpoints._copy._buffers[name] is room[name] for name in state)
    found = checkpoints.newest()
    assert found is not None
    for name, tensor in state.items():
        torch.testing.assert_close(found[1][name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("copying_s", "writing_s", "interval_s"),
    [(0.0, 0.1, 20), (0.5, 0.5, 100), (0.0, 5.0, 300), (2.0, 200.0, 300), (4.0, 0.0, 400)],
    ids=["least", "share of the time", "work lost", "writing is not waited for", "copying is"],
)
def test_intervals_are_bounded_by_lost_work_and_by_cost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    copying_s: float,
    writing_s: float,
    interval_s: float,
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now_s[0])
    checkpoints = Checkpoints(tmp_path, "job", interval_s=20)

    def passing(seconds: float, real: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            now_s[0] += seconds
            return real(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(checkpoint._Copy, "take", passing(copying_s, checkpoint._Copy.take))
    monkeypatch.setattr(checkpoint, "write_tensors", passing(writing_s, checkpoint.write_tensors))
    save(checkpoints, 1, tensors(1))
    now_s[0] = copying_s + interval_s - 1
    assert not checkpoints.due()
    now_s[0] += 2
    assert checkpoints.due()


# --- behind the training --------------------------------------------------------------------


def test_what_is_written_is_the_state_when_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on while the thread has not yet begun to write."""
    go_on = threading.Event()
    real = checkpoint.write_tensors

    def held(path: Path, state: Mapping[str, torch.Tensor]) -> str:
        go_on.wait(20)
        return real(path, state)

    monkeypatch.setattr(checkpoint, "write_tensors", held)
    checkpoints = Checkpoints(tmp_path, "job", interval_s=1e-9)
    state = tensors(1)
    checkpoints.save(1, state, {})
    state["weight"].fill_(2)
    assert not checkpoints.due()  # one copy at a time
    go_on.set()
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    torch.testing.assert_close(found[1]["weight"], tensors(1)["weight"], rtol=0, atol=0)


def test_the_copy_changes_no_byte(tmp_path: Path) -> None:
    weight = torch.randn(2, 3, 4, 5)
    state = {
        "a": weight.contiguous(memory_format=torch.channels_last), "b": weight, "t": weight.mT,
        "n": torch.tensor(3), "p": torch.nn.Parameter(weight), "l": torch.arange(9.0)[:4],
    }  # fmt: skip
    expected = checkpoint.write_tensors(tmp_path / "plain", state)
    checkpoints = Checkpoints(tmp_path / "saved", "job")
    for step in (1, 2):  # into new buffers, and into those of before
        save(checkpoints, step, state)
        sidecar = json.loads((tmp_path / "saved" / f"step-00000000{step}.json").read_text())
        assert sidecar["sha256"] == expected


def test_a_write_that_failed_is_told_at_the_next_step(saved: Checkpoints) -> None:
    with largest_file(100_000):
        saved.save(40, {"weight": torch.zeros(1024, 1024)}, {})
        saved._join()
    with pytest.raises(CheckpointError, match="disk is full"):
        saved.due()
    assert not saved.due()  # told once
    assert newest_step(saved) == 30


# --- interrupted and impossible writes ------------------------------------------------------


def save_and_die(checkpoints: Checkpoints, call: str, count: int) -> None:
    """Save step 40, and end at once where `call` is made for the `count`-th time."""
    calls = 0

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return wrapper

    owner = checkpoint if call == "save_file" else os
    setattr(owner, call, dying(getattr(owner, call)))  # in this process alone
    save(checkpoints, 40, tensors(40))


@pytest.mark.parametrize("call", ["save_file", "fsync", "replace"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_killed_while_saving(saved: Checkpoints, call: str, count: int) -> None:
    """Ended at each moment of a save, there is always a whole checkpoint to go on from."""
    process = FORK.Process(target=save_and_die, args=(saved, call, count))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    assert newest_step(saved) in ({40} if process.exitcode == 0 else {30, 40})
    clear_stale(saved.folder)  # as who claims the job next does
    save(saved, 50, tensors(50))
    assert not list(saved.folder.glob("*.tmp"))
    assert newest_step(saved) == 50


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint(saved: Checkpoints) -> None:
    big = {"weight": torch.zeros(1024, 1024)}
    with (
        largest_file(100_000),
        pytest.raises(CheckpointError, match=r"disk is full.*needs 4\.0 MiB"),
    ):
        save(saved, 40, big)
    assert not list(saved.folder.glob("*.tmp"))
    assert newest_step(saved) == 30


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(Checkpoints(tmp_path / "file" / "checkpoints", "job"), 1, tensors(1))


def test_the_sidecar_is_plain_json(saved: Checkpoints) -> None:
    sidecar = json.loads((saved.folder / "step-000000030.json").read_text())
    assert set(sidecar) == {"identity", "step", "sha256", "meta"}
    assert sidecar["identity"] == "job-a"
