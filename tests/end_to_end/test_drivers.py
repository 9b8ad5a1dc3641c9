"""Several command lines on one work folder: each job once, nothing lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import tracking
from bench.store import Store

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("ray")]

Start = Callable[..., "subprocess.Popen[str]"]
SETTINGS = ("--seeds", "1")


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
    parents = [run for run in found if run.data.tags["vitbench.role"] == "suite"]
    jobs = [run.data.tags["vitbench.job_id"] for run in found if run not in parents]
    return sorted(jobs), sorted(run.info.status for run in parents)


def test_two_at_once_on_a_fresh_folder_do_each_job_once(start: Start, tmp_path: Path) -> None:
    both = [start("--only", "pretrain,fewshot") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        assert err == ""
        assert "5-shot" in out
    workdir = tmp_path / "runs"
    done = sorted(path.parent.name for path in workdir.glob("jobs/*/result.json"))
    assert len(done) == 2 * (1 + 1)
    assert attempts(workdir) == dict.fromkeys(done, 1)
    assert not list(workdir.glob("jobs/*/failure.json"))
    assert runs_in_mlflow(workdir) == (done, ["FAILED"] * 2)  # other kinds were left out
    assert not list(workdir.rglob("*.tmp"))


def test_the_job_of_a_killed_one_is_taken_over_by_one_that_waited(
    start: Start, tmp_path: Path
) -> None:
    """The second does what else there is, and waits in sight however long the first takes."""
    workdir, words = tmp_path / "runs", ("--local", "--only", "pretrain")
    first = start(*words, "--set", "recipe.pretrain.steps=600")
    store = Store(workdir)
    until(lambda: any(store.progress(path.name) for path in workdir.glob("jobs/*")), first)
    first.send_signal(signal.SIGSTOP)  # it hangs, and lives
    (held,) = workdir.glob("jobs/*")
    second = start(*words, "--set", "recipe.pretrain.steps=600")
    until(lambda: list(workdir.glob("jobs/*/result.json")), second)
    assert not (held / "result.json").exists()
    time.sleep(3)
    assert second.poll() is None
    first.kill()
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, out + err
    assert err == ""
    (told,) = (line for line in out.splitlines() if line.startswith("waiting"))
    assert re.fullmatch(
        rf"waiting pretrain \S+ shapes/32 seed 0: being worked on by \S+, process {first.pid}, "
        r"since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", told
    )  # fmt: skip
    result = store.result(held.name)
    assert result is not None
    assert result.attempt == 2
    assert sorted(attempts(workdir).values()) == [1, 2]
    assert not list(workdir.glob("jobs/*/failure.json"))
    done = sorted(path.parent.name for path in workdir.glob("jobs/*/result.json"))
    assert len(done) == 2
    assert runs_in_mlflow(workdir)[0] == done


# --- a cluster ------------------------------------------------------------------------------

NODE = """
mount -t tmpfs none "$1" && mkdir "$1/jobs" && hostname node-7 &&
exec "$2" start --address "$3" --num-cpus 1 --block
"""
"""A node of a cluster that has a folder of its own where the driver has the work folder."""


WAIT = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
while not ray.cluster_resources().get("CPU"): time.sleep(0.1)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a Ray cluster of a head without cores and a node, with a token; return its address."""
    if subprocess.run(["unshare", "-mu", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a node with a folder of its own needs the right to mount")
    (tmp_path / "runs").mkdir()
    (tmp_path / "token").write_text("0f" * 32, encoding="utf-8")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # what a local Ray of this process set
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ray = str(Path(sys.executable).with_name("ray"))
    head = [ray, "start", "--head", "--node-ip-address", "127.0.0.1", "--num-cpus", "0", "--block"]
    head += ["--port", address.partition(":")[2], "--include-dashboard", "false"]
    node = ["unshare", "-mu", "bash", "-c", NODE, "node", str(tmp_path / "runs"), ray, address]
    guarded = {**os.environ, "RAY_AUTH_MODE": "token"}
    started = []
    try:
        for words in (head, node):
            started.append(
                subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, env=guarded)
            )  # fmt: skip
        subprocess.run([sys.executable, "-c", WAIT, address], capture_output=True, check=True,
                       timeout=120, env=guarded)  # fmt: skip
        yield address
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)


AT_ONCE = (
    "from bench.schedule import loop; loop.PAUSES_S = (0.0, 0.1)\n"
    "from bench.cli import main; main()"
)
"""The command line, beginning a failed job again without a pause."""


@pytest.mark.slow
def test_a_cluster_with_another_token_is_told(
    cluster: str, suite_file: Path, tmp_path: Path
) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", AT_ONCE, "run", suite_file, "--workdir", tmp_path / "runs",
         *SETTINGS, "--address", cluster],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "RAY_AUTH_TOKEN": "1e" * 32},
    )  # fmt: skip
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert finished.stderr.endswith(
        f"\nvitbench: --address {cluster}: the Ray cluster there does not take this user's token. "
        "Set RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head\n"
    )


@pytest.mark.slow
def test_nodes_that_do_not_share_the_work_folder_are_told(
    cluster: str, suite_file: Path, tmp_path: Path
) -> None:
    """A real cluster: its node does the job, and the driver finds nothing."""
    words = ["run", suite_file, "--workdir", tmp_path / "runs", *SETTINGS, "--address", cluster]
    words += ["--set", "pretrain[0].systems=['vit-micro']", "--set", "pair=[]"]
    finished = subprocess.run(
        [sys.executable, "-c", AT_ONCE, *map(str, words)], capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "COLUMNS": "140"},
    )  # fmt: skip
    assert finished.returncode == 1, finished.stdout + finished.stderr
    (job,) = (path.parent.name for path in (tmp_path / "runs").glob("jobs/*/error.txt"))
    expected = (
        f"pretrain vit-micro shapes/32 seed 0: node-7 says that job {job} is done, and "
        f"{tmp_path}/runs/jobs/{job} on {socket.gethostname()} has no record of it: they do not "
        "share the folder. Give --workdir a folder that every node of the cluster shares"
    )
    assert f"failed  {expected}" in finished.stdout
    assert not list((tmp_path / "runs").glob("jobs/*/result.json"))
