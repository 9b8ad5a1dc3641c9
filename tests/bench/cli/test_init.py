"""`vitbench init`: what it says of pictures, and that the suite it writes plans at once."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baselines.own_rule import own_rule
from bench.cli.wiring import graph_of
from bench.init import draft

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pictures(
    root: Path, *, classes: int = 3, num: int = 20, size: tuple[int, int] = (20, 20), seed: int = 0
) -> Path:
    """Noise in class folders; width and height."""
    rng = np.random.default_rng(seed)
    for label in range(classes):
        folder = root / f"class {label}"
        folder.mkdir(parents=True)
        for index in range(num):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return root


def lines(out: str) -> dict[str, str]:
    return {line.split(maxsplit=1)[0]: line for line in out.splitlines() if line.strip()}


def test_what_lies_there_is_said_and_a_suite_is_written_that_plans(
    run: Run, tmp_path: Path
) -> None:
    pictures(tmp_path / "My shapes", size=(40, 30))
    code, out, err = run("init", "My shapes")
    assert (code, err) == (0, "")
    said = lines(out)
    assert said["my-shapes:"] == "my-shapes: 60 pictures in 3 classes (layout image_folder)"
    assert said["classes"] == "classes  class 0, class 1, class 2"
    assert said["train"] == "train    48: 16 of each class"
    assert said["test"] == (
        "test     12: 4 of each class (of each class 0.2 drawn for test with seed 0)"
    )
    assert said["sizes"] == "sizes    40 x 30 px; seen as squares of 32 px"
    assert said["notes"].startswith("notes    none")
    assert said["next"].startswith("next     vitbench run my-shapes.toml")
    with Image.open("my-shapes.png") as sheet:
        assert sheet.size == (150 + 10 * 66, 3 * 66)
    graph = graph_of("my-shapes.toml", None, None, None)
    kinds = {job.spec.kind for job in graph.jobs}
    assert kinds == {"pretrain", "weights", "finetune", "select", "probe", "knn", "fewshot"}
    assert {job.spec.image_size_px for job in graph.jobs if job.spec.kind == "knn"} == {32}
    text = Path("my-shapes.toml").read_text()
    assert all(f"# {line}" in text for line in out.splitlines()[:5])
    block = tomllib.loads(text)["dataset"]["my-shapes"]
    assert block == {"reader": "image_folder", "path": "My shapes", "image_size_px": 32}


@pytest.mark.parametrize(
    ("side", "seen", "system"),
    [(8, 16, "vit-micro"), (28, 32, "vit-micro"), (50, 32, "vit-micro"), (55, 64, "vit-micro8")],
)
def test_systems_and_protocols_fit_the_sizes(
    run: Run, tmp_path: Path, side: int, seen: int, system: str
) -> None:
    pictures(tmp_path / "p", num=5, size=(side, 2 * side))
    assert run("init", "p")[0] == 0
    graph = graph_of("p.toml", None, None, None)
    finetuned = [job for job in graph.jobs if job.spec.kind == "finetune"]
    assert {job.spec.image_size_px for job in finetuned} == {seen}
    assert system in {job.labels.system for job in finetuned}
    assert not any(job.refused for job in graph.jobs)


@pytest.mark.parametrize(("side", "system"), [(96, "vit-s16"), (224, "vit-s16"), (384, "vit-b32")])
@pytest.mark.parametrize("has_gpu", [False, True])
def test_released_weights_see_pictures_as_they_are(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    side: int,
    system: str,
    has_gpu: bool,
) -> None:
    """Both of ImageNet-21k, of nearly equal work; without a GPU nothing is fine-tuned."""
    from bench import environment

    real = environment.device_memory_gib
    monkeypatch.setattr(
        environment,
        "device_memory_gib",
        lambda device: (80.0 if has_gpu else None) if device == "cuda" else real(device),
    )
    pictures(tmp_path / "p", size=(40, 30))
    code, _, _ = run("init", "p", "--size-px", side)
    assert code == 0
    graph = graph_of("p.toml", None, None, None)
    assert graph.suite.dataset["p"].image_size_px is None  # type: ignore[attr-defined]
    assert {job.labels.system for job in graph.jobs} == {system, "bit-r50x1", "raw-pixels"}
    assert {job.spec.image_size_px for job in graph.jobs if job.spec.kind == "probe"} == {side}
    assert graph.suite.gpus == (1 if has_gpu else 0)
    assert any(job.spec.kind == "finetune" for job in graph.jobs) == has_gpu


def test_few_pictures_are_not_fine_tuned(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "few", classes=30, num=3)
    code, out, _ = run("init", "few")
    assert code == 0
    assert "too few pictures to hold some out and fine-tune: k-NN and few-shot alone" in out
    kinds = {job.spec.kind for job in graph_of("few.toml", None, None, None).jobs}
    assert kinds == {"pretrain", "weights", "knn", "fewshot"}


def test_damaged_files_are_named_and_left_out(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "p")
    bad = tmp_path / "p" / "class 1" / "003.png"
    bad.write_bytes(bad.read_bytes()[:60])
    code, out, _ = run("init", "p")
    assert code == 0
    assert str(bad) in lines(out)["damaged"]
    assert "skip_damaged = true  # 1 file does not decode\n" in Path("p.toml").read_text()
    assert graph_of("p.toml", None, None, None).datasets["p"].splits["train"].num_examples == 47


def test_copies_and_shared_pictures_are_notes(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "train", size=(40, 40))
    pictures(tmp_path / "p" / "Test", num=4, size=(40, 40), seed=1)
    shared = tmp_path / "p" / "train" / "class 0" / "000.png"
    (tmp_path / "p" / "Test" / "class 0" / "zzz.png").write_bytes(shared.read_bytes())
    with Image.open(shared.with_name("001.png")) as image:
        large = image.resize((200, 200), Image.Resampling.BICUBIC)
    large.save(tmp_path / "p" / "Test" / "class 0" / "again.jpg", quality=95)
    code, out, _ = run("init", "p")
    assert code == 0
    assert "test: 1 image is also in train (Test/class 0/zzz.png is train/class 0/000" in out
    assert (
        "test: 1 image is nearly one of train (Test/class 0/again.jpg is nearly train/class" in out
    )


def test_names_that_are_taken_or_are_no_names(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "digits", num=5)
    pictures(tmp_path / 'we"ird: [x]', num=5)
    assert "next     vitbench run my-digits.toml" in run("init", "digits")[1]
    code, out, _ = run("init", 'we"ird: [x]', "--out", "a b.toml", "--workdir", "some where")
    assert code == 0
    assert "next     vitbench run 'a b.toml' --workdir 'some where'" in out
    assert graph_of("a b.toml", None, None, None).suite.name == "we-ird-x"


def test_a_csv_and_files_outside_the_suites_folder(run: Run, tmp_path: Path) -> None:
    root = pictures(tmp_path / "pics", num=8)
    rows = [f"{p.relative_to(root)},{p.parent.name}" for p in sorted(root.rglob("*.png"))]
    (root / "all.csv").write_text("\n".join(["path,label", *rows]))
    (tmp_path / "sub").mkdir()
    code, out, _ = run("init", "pics/all.csv", "--out", "sub/mine.toml")
    assert code == 0
    assert "all: 24 pictures in 3 classes (layout csv)" in out
    block = tomllib.loads(Path("sub/mine.toml").read_text())["dataset"]["all"]
    assert block["path"] == str(root / "all.csv")
    assert graph_of("sub/mine.toml", None, None, None).datasets["all"].num_classes == 3


def test_nothing_is_written_over_and_nothing_half(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "p", num=5)
    (tmp_path / "empty").mkdir()
    Path("there.toml").write_text("mine")
    for words, cause in [
        (["p", "--out", "there.toml"], "there.toml is there already. Remove it, or give"),
        (["p", "--out", "x.txt"], "--out x.txt: a suite file ends in .toml"),
        (["p", "--out", "no/x.toml"], "--out no/x.toml: there is no folder no"),
        (["p", "--size-px", "48"], "--size-px 48: not one of 16, 32, 64, 96, 160, 224, 384"),
        (["nothing"], "nothing: no such file or folder. Check the path"),
        (["empty"], "empty: no layout of pictures that is known. Expected FOLDER/CLASS/IMAGE"),
        (["p.zip"], "p.zip: an archive. Unpack it, then name the folder"),
    ]:
        (tmp_path / "p.zip").touch()
        code, out, err = run("init", *words)
        assert (code, out) == (2, "")
        assert cause in err
    assert Path("there.toml").read_text() == "mine"
    assert not list(tmp_path.glob("p.*ml"))
    assert not list(tmp_path.glob("*.png"))


def test_time_shortens_fine_tuning(run: Run, tmp_path: Path) -> None:
    pictures(tmp_path / "p", num=700, size=(8, 8))
    assert run("init", "p", "--minutes", "1", "--out", "short.toml")[0] == 0
    assert run("init", "p", "--minutes", "600", "--out", "long.toml")[0] == 0
    steps = {
        name: tomllib.loads(Path(f"{name}.toml").read_text())["recipe"]["p-finetune"]["steps"]
        for name in ("short", "long")
    }
    assert steps == {"short": 500, "long": 30 * 1680 // 32}
    assert "1,575 were too long for the time there is" in Path("short.toml").read_text()


def test_the_rule() -> None:
    """Passes, bounds and held-out shares, written out."""
    assert [own_rule(num, 10).steps for num in (100, 800, 1_600, 5_000)] == [500, 750, 1_500, 2_000]
    assert [own_rule(num, 10).held_out for num in (100, 1_000, 2_500)] == [0.25, 0.2, 0.1]
    assert own_rule(4_000, 100).held_out == 0.25  # ten of each class
    assert own_rule(20, 2).batch_size == 20
    assert draft.SHORTER[0] == 2_000
