"""A suite whose processes are told to end: work is saved, and no job fails of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.files import file_sha256
from bench.store import Store
from tests.signals import heed_everything

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("ray")]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def lengthy(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of one training run of some seconds, whose first failure is its last."""
    text = tiny.replace("steps = 30", "steps = 400").replace("seeds = [0, 1]", "seeds = [0]")
    text = text.replace('systems = ["vit-micro", "bit-micro"]', 'systems = ["vit-micro"]', 1)
    text = text.replace('name = "tiny"', 'name = "tiny"\nmax_attempts = 1')
    path = tmp_path_factory.mktemp("lengthy") / "tiny.toml"
    path.write_text(text.partition("[[pair]]")[0] + "[report]\nfigures = []\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(lengthy: Path, vitbench: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the weights that the run ends with."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "runs"
    finished = vitbench("run", lengthy, "--local", "--workdir", workdir, "--only", "pretrain")
    assert finished.returncode == 0, finished.stderr
    return weights(workdir)


def weights(workdir: Path) -> str:
    (path,) = workdir.glob("jobs/*/model.safetensors")
    return file_sha256(path)


def start(words: list[str], takes: Callable[[], None] = heed_everything) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*words, "--only", "pretrain"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "140"},
        preexec_fn=takes,
    )  # fmt: skip


def ignore_interrupts() -> None:
    """Take signals as a script's command in the background: Ctrl-C is not for it."""
    heed_everything()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_in(workdir: Path, process: subprocess.Popen[str]) -> tuple[str, int]:
    """Wait until the run has come a tenth of its way; return its job and its process."""
    store = Store(workdir)
    while process.poll() is None:
        for path in workdir.glob("jobs/*/progress.jsonl"):
            job_id = path.parent.name
            holder = store.holder(job_id)
            if holder is not None and len(store.progress(job_id)) >= 2:
                return job_id, holder.pid
        time.sleep(0.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(
    ("where", "number", "code"),
    [
        ("--local", signal.SIGTERM, 143),
        ("on Ray, in the background", signal.SIGTERM, 143),  # the driver takes all three alike
        pytest.param("--local", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("--local", signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_command_that_is_told_to_end_saves_its_work(
    lengthy: Path,
    undisturbed: str,
    command: Callable[..., list[str]],
    vitbench: Run,
    tmp_path: Path,
    where: str,
    number: int,
    code: int,
) -> None:
    workdir = tmp_path / "runs"
    words = command("run", lengthy, "--workdir", workdir)
    in_background = where != "--local"
    process = start(words, ignore_interrupts) if in_background else start([*words, "--local"])
    job_id, _ = training_in(workdir, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert err.strip() == "vitbench: interrupted; run the same command again to continue"
    store = Store(workdir)
    assert store.preempted(job_id)
    assert store.num_saved_steps(job_id) >= 40
    again = vitbench("run", lengthy, "--local", "--workdir", workdir, "--only", "pretrain")
    assert again.returncode == 0, again.stderr
    assert weights(workdir) == undisturbed


def test_a_worker_of_ray_that_is_told_to_end_fails_nothing(
    lengthy: Path, undisturbed: str, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    workdir = tmp_path / "runs"
    process = start(command("run", lengthy, "--workdir", workdir))
    job_id, pid = training_in(workdir, process)
    assert pid != process.pid
    os.kill(pid, signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert "preempted, continues from step " in out
    assert len(list(Store(workdir).paths.job(job_id).attempts.iterdir())) == 2
    assert weights(workdir) == undisturbed
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_group_whose_command_is_told_to_end_saves_its_step(
    lengthy: Path, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    workdir = tmp_path / "runs"
    words = ["run", lengthy, "--workdir", workdir, "--set", "recipe.pretrain.steps=3000"]
    words += ["--set", "workers=2", "--set", "num_threads=1"]
    process = start(command(*words))
    job_id, _ = training_in(workdir, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert err.strip() == "vitbench: interrupted; run the same command again to continue"
    store = Store(workdir)
    assert store.preempted(job_id)
    assert store.num_saved_steps(job_id) >= 300
