"""The command: what it prints, how it ends, and that wrong words are reported in one line."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import digests
from bench.cli.wiring import graph_of
from bench.paths import WorkPaths
from bench.specs import JobResult
from bench.store import Store

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "quikstart"], 'unknown suite "quikstart". Did you mean "quickstart"?'),
        (["run", "quickstart", "--only", "fewshots"], '--only: unknown "fewshots". Did you mean'),
        (["run", "quickstart", "--seeds", "9"], "--seeds 9: the suite has 3 seeds"),
        (["run", "quickstart", "--limit-steps", "0"], "--limit-steps 0: must be at least 1"),
        (["run", "quickstart", "--set", "seeds"], "--set: seeds: not of the form key=value"),
        (["plan", "nowhere/x.toml"], "nowhere/x.toml: no such file"),
        (
            ["run", "quickstart", "--limt-steps", "2"],
            "vitbench: run: no such option --limt-steps. Did you mean --limit-steps? (vitbench run "
            "--help)\n",
        ),
        (["run", "quickstart", "-q"], "vitbench: run: no such option -q (vitbench run --help)\n"),
        (["--debug", "--verson"], "vitbench: no such option --verson. Did you mean --version? ("),
        (["run"], "vitbench: run: SUITE is missing (vitbench run --help)\n"),
        (["explain"], "vitbench: explain: JOB|CELL is missing (vitbench explain --help)"),
        (["data", "prepare"], "vitbench: data prepare: NAME is missing (vitbench data prepare --h"),
        (["rum", "quickstart"], "vitbench: no such command 'rum'. Did you mean 'run'? (vitbench -"),
        (["data", "prep"], "vitbench: data: no such command 'prep'. Did you mean 'prepare'? ("),
        (["plan", "quickstart", "run"], "vitbench: plan: got unexpected extra argument(s) (run) ("),
        (
            ["run", "quickstart", "--seeds"],
            "vitbench: run: option '--seeds' requires an argument (",
        ),
        (["run", "x", "--seeds", "two"], "vitbench: run: --seeds: input should be a valid integer"),
        (["ls", "systms"], "vitbench: ls: THINGS: 'systms' is not one of 'systems', 'families', "),
        (["report", "quickstart", "--format", "pdf"], '--format: unknown "pdf"'),
        (["report", "quickstart"], "nothing was run in"),
        (["report", "quickstart", "--set", "report.tables=['pair']"], 'Did you mean "pairs"?'),
        (
            ["show", "vit-b61"],
            'unknown system, data set or suite "vit-b61". Did you mean "vit-b16"?',
        ),
        (["show", "../../etc/passwd"], "unknown system, data set or suite"),
        (["show", "nowhere.toml"], "nowhere.toml: no such file"),
        (["plan", "/usr"], "/usr: is a folder. Name the .toml file of the suite"),
        (["ls", "systems", "--family", "hybird"], 'unknown "hybird". Did you mean "hybrid"?'),
        (["ls", "suites", "--family", "vit"], "chooses among systems. vitbench ls systems --fam"),
        (["ls", "datasets", "--public"], "ls datasets: --public chooses among systems"),
        (["run", "quickstart", "--workdir", "/proc/nope"], "work folder: /proc cannot be written"),
        (["run", "quickstart", "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1"),
        (
            ["run", "quickstart", "--address", "nowhere"],
            '"nowhere" is not an address. Write HOST:PORT',
        ),
        (["run", "quickstart", "--set", "tpus=4"], "asks for 4 TPU chips; there are 0"),
        (["run", "quickstart", "--set", "gpus=99"], "Set gpus = 1 and workers = 99"),
        (["run", "quickstart", "--set", "workers=7"], "does not divide among 7 workers"),
        (["plan", "quickstart", "--set", "tpus=1", "--set", "workers=2"], "batch on TPUs"),
        (["run", "quickstart", "--set", "num_threads=256"], "each job asks for 256 threads"),
        (["doctor", "quikstart"], 'unknown suite "quikstart". Did you mean "quickstart"?'),
        (["report", "quickstart", "--check"], "nothing was run in"),
        (["report", "quickstart", "--import", "x.toml"], "--import x.toml: no such file"),
        (["compare", "/nowhere/a", "/nowhere/b"], "/nowhere/a: neither a work folder nor a"),
        (["bundle", "quickstart"], "quickstart: nothing was run in"),
        (["verify", "/nowhere/a.zip"], "/nowhere/a.zip: no such file"),
        (["verify", "pyproject.toml"], "damaged or unsafe bundle: File is not a zip file"),
        (["ui", "--workdir", "/nowhere/runs"], "--workdir /nowhere/runs: no such folder"),
        (["data", "show", "cifar01"], 'unknown data set "cifar01". Did you mean "cifar10"?'),
        (["data", "prepare", "jft-300m"], "jft-300m: JFT-300M is not public: internal to Google"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_told_in_one_line(
    run: Run, words: list[str], expected: str, tmp_path: Path
) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert expected in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [[], ["data"]])
def test_no_word_at_all_is_answered_with_help(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
    assert "verify" in err
    assert run(*words, "--help") == (0, err, "")


def test_a_plan_shows_jobs_compute_time_and_pairs(run: Run) -> None:
    code, out, _ = run("plan", "quickstart")
    assert code == 0
    assert "108 jobs, 0 done" in out
    assert "pair: vit-micro 1.00x, bit-micro 0.93x, hybrid-micro 0.95x" in out
    code, out, _ = run("plan", "quickstart", "--json")
    plan = json.loads(out)
    assert len(plan["jobs"]) == 108
    assert {"job_id", "exaflops", "estimated_s", "memory_gib", "pieces", "needs"} <= set(
        plan["jobs"][0]
    )


def test_status_counts_what_is_missing(run: Run) -> None:
    code, out, _ = run("status", "quickstart")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("pretrain")] == ["27"]


def test_status_tells_what_runs_now_and_how_far_it_is(run: Run, tmp_path: Path) -> None:
    graph = graph_of("quickstart", None, None, None)
    store = Store(tmp_path / "runs")
    store.create()
    works, fails, *_ = graph.jobs
    store.record_failure(JobResult(job_id=fails.job_id, status="failed", error="it broke"))
    with store.claim(works.spec) as claim:
        claim.report({"step": 10, "loss": 1.0})
        code, out, _ = run("status", "quickstart")
        assert code == 0
        assert f"running {works.name}: step 10 of {works.num_steps:,}, by " in out
        assert f"process {os.getpid()}, since " in " ".join(out.split())
        assert f"failed  {fails.name}: it broke" in out
        rows = json.loads(run("status", "quickstart", "--json")[1])["jobs"]
    assert [(row["status"], row["steps_done"]) for row in rows[:3]] == [
        ("running", 10), ("failed", 0), ("missing", 0),
    ]  # fmt: skip
    assert rows[1]["reason"] == "it broke"
    assert len(rows) == 108
    limited = json.loads(run("status", "quickstart", "--json", "--limit-steps", "2")[1])["jobs"]
    assert {row["job_id"] for row in limited}.isdisjoint(row["job_id"] for row in rows)
    assert "running" not in run("status", "quickstart")[1]


@pytest.mark.parametrize("things", ["systems", "datasets", "suites", "recipes"])
def test_everything_is_listed_as_table_and_json(run: Run, things: str) -> None:
    code, table, _ = run("ls", things)
    assert code == 0
    rows = json.loads(run("ls", things, "--json")[1])
    assert len(rows) >= 1
    assert rows[0]["name"] in table


def test_suites_and_data_sets_are_shown_by_their_names(run: Run) -> None:
    code, out, err = run("show", "vtab")
    assert code == 0, err
    assert "scale public\n  expected               Table 9, ViT-L/16, ImageNet-21k" in out
    assert "  systems                vit-l16, vit-b16, bit-r50x1\n" in out
    assert "  pairs                  vit-micro against bit-micro against hybrid-micro\n" in out
    facts = json.loads(run("show", "vtab", "--json")[1])
    assert facts["scale smoke"]["seeds"] == [0]
    assert facts["tables"] == ["comparison", "table_9", "pairs", "cost"]
    code, out, err = run("show", "digits")
    assert code == 0, err
    assert "    num examples         1297\n" in out
    assert out.endswith("packed                   not yet\n")
    assert run("data", "prepare", "digits")[0] == 0
    assert json.loads(run("show", "digits", "--json")[1])["packed"]["num_classes"] == 10


def test_systems_are_filtered(run: Run) -> None:
    rows = json.loads(run("ls", "systems", "--family", "hybrid", "--public", "--json")[1])
    assert {row["family"] for row in rows} == {"hybrid"}
    assert "hybrid-r50-vit-b16" in {row["name"] for row in rows}
    assert "hybrid-r50-vit-l16" not in {row["name"] for row in rows}  # its weights are JFT's


def test_a_system_is_shown_with_its_costs_and_weights(run: Run, tmp_path: Path) -> None:
    facts = json.loads(run("show", "ViT-B/16", "--json")[1])
    assert facts["num_params"] == 85_798_656
    assert facts["gflops"]["224 px"]["forward"] == pytest.approx(35.126, abs=1e-3)
    weights = {source["name"]: source for source in facts["weights"]}
    assert weights["jft"]["recorded_sha256"] == weights["in21k"]["recorded_sha256"] == ""
    cache = WorkPaths(tmp_path / "runs").cache
    digests.record("w", weights["in21k"]["url"], digests.Stated("1" * 64, "here"), cache)
    assert f"sha256 {'1' * 64} (as used here)" in run("show", "ViT-B/16")[1]
    code, out, _ = run("show", "R50x1")
    assert code == 0
    assert "not public" in out


def test_the_papers_tables_are_printed_and_written(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("report", "paper", "--out", tmp_path / "paper", "--format", "md")
    assert code == 0
    assert "ViT paper, Table 6: pre-training compute" in out
    names = {path.name for path in (tmp_path / "paper").iterdir()}
    assert {"paper-table-1.md", "paper-table-6-compute.md", "paper-table-9.md"} <= names
    golden = Path(__file__).parents[2] / "golden" / "paper" / "paper-table-6-compute.md"
    assert (tmp_path / "paper" / golden.name).read_text() == golden.read_text()


def test_data_sets_are_prepared_listed_and_verified(run: Run, tmp_path: Path) -> None:
    assert "nothing is packed in" in run("data", "ls")[1]
    code, out, _ = run("data", "prepare", "digits")
    assert code == 0
    assert "1297" in out
    assert run("data", "ls")[1].startswith("digits")
    assert run("data", "verify", "digits")[:2] == (0, "digits: sound\n")
    packed = next((tmp_path / "runs" / "data").glob("*/*images*"))
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    code, out, _ = run("data", "verify", "digits")
    assert code == 1
    assert "1 problems" in out


def test_counts_of_many_classes_are_told_as_a_range(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntitle = "Mine"\nclaim = "Mine."\n[dataset.shapes]\nreader = "formula"\n'
        "num_classes = 40\nimages_per_class = 3\nimage_size_px = 8\n"
        '[[profile]]\nsystems = ["vit-micro"]\nimage_sizes_px = [8]\nbatch_sizes = [1]\n',
        encoding="utf-8",
    )
    code, out, err = run("data", "prepare", "shapes", "--suite", path)
    assert code == 0, err
    assert "    per class            3 each\n" in out


def test_an_error_of_our_own_is_one_line_unless_debug(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("bench.cli.listing.show_status", broken)
    code, _, err = run("status", "quickstart")
    assert code == 1
    assert err.strip() == "vitbench: ZeroDivisionError: boom (vitbench --debug shows more)"
    with pytest.raises(ZeroDivisionError):
        run("--debug", "status", "quickstart")


def test_a_port_that_is_taken_is_said_at_once(run: Run, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = run("ui", "--workdir", tmp_path, "--port", port)
    assert code == 1
    assert f"port {port} of this machine is taken" in err
    assert f"vitbench ui --port {port + 1}" in err
    assert err.count("\n") == 1
