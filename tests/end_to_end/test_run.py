"""A whole suite, disturbed and undisturbed: same tables, nothing done twice, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.store import Store
from tests.signals import heed_everything

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("ray")]

Run = Callable[..., subprocess.CompletedProcess[str]]

NUM_JOBS = 2 * (2 + 2 + 1 + 2 + 2)
"""Of each system: pre-training by two seeds, candidates, the choice, and two transfers."""


def tables(workdir: Path) -> dict[str, bytes]:
    """Return the deterministic files of a report: all tables and figures but the timings."""
    root = workdir / "reports" / "tiny"
    found = {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("tables", "figures")
        for path in sorted((root / folder).iterdir())
    }
    assert "tables/comparison.md" in found
    return found


def done(workdir: Path) -> dict[str, float]:
    """Return the done jobs and when each was done."""
    return {path.parent.name: path.stat().st_mtime for path in workdir.glob("jobs/*/result.json")}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Path:
    """The tiny suite with its figures."""
    path = tmp_path_factory.mktemp("undisturbed") / "tiny.toml"
    path.write_text(tiny, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(drawn: Path, vitbench: Run) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The tiny suite, run once in one process."""
    workdir = drawn.parent / "runs"
    finished = vitbench("run", drawn, "--local", "--workdir", workdir)
    assert finished.returncode == 0, finished.stderr
    return workdir, finished


def test_a_run_ends_with_the_table_and_the_paths(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    workdir, finished = undisturbed
    assert "Fine-tuned" in finished.stdout
    assert "ViT-micro/4" in finished.stdout
    assert "index.html" in finished.stdout
    assert finished.stderr == ""
    assert len(done(workdir)) == NUM_JOBS
    assert not list(workdir.rglob("*.tmp"))


def test_a_second_run_does_nothing_and_imports_nothing_heavy(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]], drawn: Path
) -> None:
    import sys

    workdir, _ = undisturbed
    before = done(workdir)
    code = (
        f"import sys; sys.argv = ['vitbench', 'run', {str(drawn)!r}, '--workdir', "
        f"{str(workdir)!r}]\n"
        "from bench.cli import main\n"
        "main_error = None\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'timm', 'ray', 'mlflow', 'pandas', 'seaborn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "140"},
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert f"{NUM_JOBS} reused (done before), nothing to do" in second.stdout
    assert done(workdir) == before


def test_tables_from_mlflow_and_from_folders_agree(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
    drawn: Path,
    vitbench: Run,
    tmp_path: Path,
) -> None:
    workdir, _ = undisturbed
    words = ["report", drawn, "--workdir", workdir, "--from", "mlflow"]
    made = vitbench(*words, "--format", "md,csv", "--out", tmp_path / "out")
    assert made.returncode == 0, made.stderr
    for name in ("comparison.md", "pairs.md", "comparison.long.csv"):
        found = (tmp_path / "out" / "tables" / name).read_bytes()
        assert found == (workdir / "reports" / "tiny" / "tables" / name).read_bytes()
    assert not list((tmp_path / "out").rglob("*.tex"))


def test_workers_killed_on_ray_change_nothing(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
    drawn: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """Two workers of a real Ray are killed while they train; the tables are the same bytes."""
    workdir = tmp_path / "runs"
    process = subprocess.Popen(
        command("run", drawn, "--workdir", workdir),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed: set[int] = set()
    while process.poll() is None and len(killed) < 2:
        for worker in _workers(process.pid) - killed:
            if len(killed) < 2 and len(done(workdir)) > 3 * len(killed):
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
        time.sleep(0.05)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert len(killed) == 2
    assert tables(workdir) == tables(undisturbed[0])


def test_a_killed_driver_is_taken_up_where_it_was(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
    drawn: Path,
    command: Callable[..., list[str]],
    vitbench: Run,
    tmp_path: Path,
) -> None:
    workdir = tmp_path / "runs"
    process = subprocess.Popen(
        command("run", drawn, "--workdir", workdir),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while len(done(workdir)) < 5 and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, "the suite ended before it could be killed"
    process.kill()
    process.wait()
    again = vitbench("run", drawn, "--workdir", workdir)
    before = {job for job in done(workdir) if _attempts(workdir, job) == 1}
    assert again.returncode == 0, again.stdout + again.stderr
    assert "reused (done before)" in again.stdout
    assert tables(workdir) == tables(undisturbed[0])
    assert len(before) >= NUM_JOBS - 3  # at most the running jobs were begun again
    assert not list(workdir.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),  # the driver takes all three alike
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_says_how_to_go_on_and_leaves_nothing_running(
    suite_file: Path, command: Callable[..., list[str]], tmp_path: Path, number: int, code: int
) -> None:
    workdir = tmp_path / "runs"
    suite_file.write_text(suite_file.read_text().replace("steps = 30", "steps = 3000"))
    process = subprocess.Popen(
        command("run", suite_file, "--workdir", workdir),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background ignores Ctrl-C for all of them.
        preexec_fn=heed_everything,
    )  # fmt: skip
    while not list(workdir.glob("jobs/*/progress.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    started = _below(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.strip() == "vitbench: interrupted; run the same command again to continue"
    for _ in range(50):
        if not _left(started):
            break
        time.sleep(0.1)
    assert not _left(started)


def test_a_job_that_fails_marks_its_cells_and_the_rest_is_done(
    suite_file: Path, vitbench: Run, tmp_path: Path
) -> None:
    text = suite_file.read_text()
    text = text.replace(
        "[recipe.finetune]",
        '[recipe.wild]\nsteps = 30\nbatch_size = 16\noptimizer = "sgd"\nbase_lr = 99.0\n'
        "weight_decay = 1e6\n"
        'schedule = "constant"\n\n[recipe.finetune]',
    )
    both, one = 'systems = ["vit-micro", "bit-micro"]', 'systems = ["bit-micro"]'
    text = text.replace(both, one, 1)  # of the pre-training, not of the pair
    text = text.replace(
        "[[transfer]]",
        '[[pretrain]]\nsystems = ["vit-micro"]\nupstream = "shapes"\nnum_examples = [32]\n'
        'recipe = "wild"\nprotocol = "pretrain-micro"\n\n[[transfer]]',
        1,
    )
    suite_file.write_text(text)
    words = ["run", suite_file, "--workdir", tmp_path / "runs", "--local", "--seeds", "1"]
    finished = vitbench(*words)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
    assert "failed     pretrain vit-micro shapes/32 seed 0:" in finished.stdout
    table = (tmp_path / "runs/reports/tiny/tables/comparison.md").read_text()
    assert "BiT-micro" in table
    assert "the loss became nan at step" in table
    outcomes = Store(tmp_path / "runs")
    assert len(done(tmp_path / "runs")) == 1 + 2 + 1 + 1 + 1
    assert outcomes.paths.jobs.is_dir()


def test_only_some_kinds_then_the_rest(suite_file: Path, vitbench: Run, tmp_path: Path) -> None:
    words = ["run", suite_file, "--workdir", tmp_path / "runs", "--local", "--seeds", "1"]
    assert vitbench(*words, "--only", "pretrain").returncode == 0
    assert len(done(tmp_path / "runs")) == 2
    assert vitbench(*words, "--only", "pretrain,fewshot").returncode == 0
    assert len(done(tmp_path / "runs")) == 4


def _processes() -> list[tuple[int, int, str]]:
    """Return process id, parent and command line of everything that runs."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [(int(row[0]), int(row[1]), row[2]) for row in rows if len(row) == 3]


def _below(driver: int) -> set[int]:
    """Return the processes that a driver started, at any depth."""
    parents = {pid: parent for pid, parent, _ in _processes()}

    def is_below(pid: int) -> bool:
        while pid > 1 and pid != driver:
            pid = parents.get(pid, 0)
        return pid == driver

    return {pid for pid in parents if pid != driver and is_below(pid)}


def _left(started: set[int]) -> set[int]:
    """Return the processes that still run."""
    return {pid for pid in started if Path(f"/proc/{pid}").exists()}


def _workers(driver: int) -> set[int]:
    """Return the Ray workers below a driver that are training."""
    training = ("ray::pretrain", "ray::choose", "ray::finetune")
    return {pid for pid, _, args in _processes() if args.startswith(training)} & _below(driver)


def _attempts(workdir: Path, job_id: str) -> int:
    return len(list((workdir / "jobs" / job_id / "attempts").iterdir()))
