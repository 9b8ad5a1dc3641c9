"""Several command lines on one work folder: each job once, nothing lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import tracking
from bench.store import Store

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("ray")]

Start = Callable[..., "subprocess.Popen[str]"]
SETTINGS = ("--seeds", "1", "--set", "pretrain[0].num_examples=[32]")


@pytest.fixture
def start(command: Callable[..., list[str]], suite_file: Path, tmp_path: Path) -> Iterator[Start]:
    """Start `vitbench run` of the tiny suite on the test's work folder, without waiting for it."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command("run", suite_file, "--workdir", tmp_path / "runs", *SETTINGS, *words),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "COLUMNS": "140", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, while a process runs."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def attempts(workdir: Path) -> Counter[str]:
    """Return how often each job was begun."""
    return Counter(path.parent.parent.name for path in workdir.glob("jobs/*/attempts/*"))


def runs_in_mlflow(workdir: Path) -> tuple[list[str], list[str]]:
    """Return the ids of the jobs that runs show, and how the command lines' own runs ended."""
    client = tracking.connect(workdir)
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    jobs = [run.data.tags["vitbench.job_id"] for run in found if "mlflow.parentRunId" in
            run.data.tags]  # fmt: skip
    parents = [run.info.status for run in found if run.data.tags["vitbench.role"] == "suite"]
    return sorted(jobs), sorted(parents)


@pytest.mark.parametrize("words", [(), ("--local",)], ids=["ray", "local"])
def test_two_at_once_on_a_fresh_folder_do_each_job_once(
    start: Start, tmp_path: Path, words: tuple[str, ...]
) -> None:
    both = [start(*words), start(*words)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        assert err == ""
        assert "Fine-tuned" in out
    workdir = tmp_path / "runs"
    done = sorted(path.parent.name for path in workdir.glob("jobs/*/result.json"))
    assert len(done) == 2 * (1 + 2 + 1 + 1 + 1)
    assert attempts(workdir) == dict.fromkeys(done, 1)
    assert not list(workdir.glob("jobs/*/failure.json"))
    assert runs_in_mlflow(workdir) == (done, ["FINISHED"] * 2)
    assert not list(workdir.rglob("*.tmp"))


def test_the_job_of_a_killed_one_is_taken_over_by_one_that_waited(
    start: Start, tmp_path: Path
) -> None:
    """The second does what else there is, waits in sight, and goes on from the checkpoint."""
    workdir, words = tmp_path / "runs", ("--local", "--set", "recipe.pretrain.steps=6000")
    first = start(*words)
    until(lambda: list(workdir.glob("jobs/*/checkpoints/*.json")), first)
    (job,) = (path.parent.parent for path in workdir.glob("jobs/*/checkpoints"))
    second = start(*words, "--set", "recipe.pretrain.steps=6000")
    lines: list[str] = []
    assert second.stdout is not None
    for line in second.stdout:
        lines.append(line)
        if line.startswith("waiting"):
            break
    assert re.fullmatch(
        rf"waiting pretrain \S+ shapes/32 seed 0: being worked on by \S+, process {first.pid}, "
        r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\n", lines[-1]
    ), lines  # fmt: skip
    os.kill(first.pid, signal.SIGKILL)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, out + err
    assert err == ""
    result = Store(workdir).result(job.name)
    assert result is not None
    assert result.attempt == 2
    steps = [(line["step"], line["attempt"]) for line in Store(workdir).progress(job.name)]
    assert {attempt for _, attempt in steps} == {1, 2}  # begun by the first, ended by the second
    assert sorted(attempts(workdir).values())[-2:] == [1, 2]
    assert not list(workdir.glob("jobs/*/failure.json"))
    done = sorted(path.parent.name for path in workdir.glob("jobs/*/result.json"))
    assert runs_in_mlflow(workdir) == (done, ["FINISHED", "RUNNING"])
    with contextlib.suppress(FileNotFoundError):
        (workdir / "mirrored" / "tiny.jsonl").unlink()
    assert start(*words).wait() == 0
    assert runs_in_mlflow(workdir) == (done, ["FINISHED", "FINISHED", "KILLED"])
