"""A weights file of one's own in a suite: what a plan knows of it, and what it refuses."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import baselines
from baselines.contents import contents
from bench import digests, models
from bench.data.sources import files
from bench.errors import SuiteError
from bench.files import file_sha256
from bench.paths import CachePaths
from bench.plan import plan_with_catalogue, suites
from bench.plan.spec import JobGraph
from bench.plan.weights_files import look
from bench.specs import PlannedJob, WeightsSource

from .blocks import HEAD, KNN

LAYOUTS = ("npz", "timm", "safetensors", "pth")
SYSTEMS = ("vit-micro", "bit-micro", "hybrid-micro")


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Files of toy size."""


def made(system: str = "vit-micro", *, num_classes: int = 5, **extra: Any) -> models.Classifier:
    generator = torch.Generator().manual_seed(3)
    model = models.build(system, num_classes=num_classes, generator=generator, **extra)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def saved(model: models.Classifier, folder: Path, layout: str) -> Path:
    """Write a model into a file `mine` of a layout; `pth` is torch's of a plain state dict."""
    if layout == "pth":
        path = folder / "mine.pth"
        torch.save(model.state_dict(), path)
        return path
    ending = "npz" if layout == "npz" else "safetensors"
    return models.save_weights(model, folder / f"mine.{ending}", layout=layout)


def block(file: str, system: str = "vit-micro", **keys: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f'\n[[weights]]\nsystems = ["{system}"]\nfile = "{file}"\n{lines}'


def planned(folder: Path, *blocks: str, cache: CachePaths | None = None) -> JobGraph:
    path = folder / "mine.toml"
    path.write_text(HEAD + "".join(blocks), encoding="utf-8")
    return plan_with_catalogue(suites.load(str(path)), {}, file="mine.toml", cache=cache)


def start(graph: JobGraph) -> PlannedJob:
    (job,) = (job for job in graph.jobs if job.spec.kind == "weights")
    return job


# --- what is known of a file ----------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_names_and_shapes_are_those_that_reading_the_file_gives(
    tmp_path: Path, system: str, layout: str
) -> None:
    from bench.models.weights import read_arrays

    path = saved(made(system), tmp_path, layout)
    arrays = read_arrays(path)
    found = look(path)
    assert found.shapes == {name: tuple(array.shape) for name, array in arrays.items()}
    assert found.sha256 == file_sha256(path)
    held = contents(baselines.system(system), found.shapes)
    assert (held.num_classes, held.layout) == (5, "safetensors" if layout == "pth" else layout)


@pytest.mark.parametrize("wrapped", ["state_dict", "model"])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files_may_be_wrapped_old_and_of_parameters(
    tmp_path: Path, wrapped: str, legacy: bool
) -> None:
    model, path = made(), tmp_path / "mine.bin"
    state = {name: torch.nn.Parameter(t, t.is_floating_point()) for name, t in
             model.state_dict().items()}  # fmt: skip
    content = {wrapped: state, "epoch": 3, "rates": [0.1], "optimizer": {"step": torch.ones(2)}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert look(path).shapes == {name: tuple(t.shape) for name, t in model.state_dict().items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_file_is_a_start_of_its_digest_layout_and_classes(
    tmp_path: Path, system: str, layout: str
) -> None:
    path = saved(made(system), tmp_path, layout)
    job = start(planned(tmp_path, block(path.name, system), KNN))
    sha256 = file_sha256(path)
    size_px = baselines.system(system).image_size_px
    assert job.spec.params == {"file_sha256": sha256, "num_classes": 5, "image_size_px": size_px}
    assert job.file == str(path)
    assert job.labels.recipe == f"{path.name} (unverified)"
    said = "safetensors" if layout == "pth" else layout
    title = baselines.system(system).title
    assert job.note == (
        f"{title} starts from the file {path.name} (layout {said}, 5 classes, SHA-256 "
        f"{sha256[:12]}...), unverified: not known to be anybody's release; trained on: not stated"
    )
    assert (job.labels.upstream, job.labels.upstream_examples) == ("", 0)
    assert job.pretrain_exaflops == 0


def test_the_job_is_of_the_bytes_and_of_nothing_that_is_said_of_them(tmp_path: Path) -> None:
    path = saved(made(), tmp_path, "npz")
    first = start(planned(tmp_path, block("mine.npz"), KNN))
    said = {"name": '"run 7"', "trained_on": '["imagenet-21k", "imagenet-1k"]', "exaflops": "2.5"}
    named = start(planned(tmp_path, block("mine.npz", **said), KNN))
    assert named.job_id == first.job_id
    assert named.labels.recipe == "run 7 (unverified)"
    assert (named.labels.upstream, named.labels.upstream_examples) == ("imagenet-21k", 14_197_122)
    assert named.note.endswith("; trained on: ImageNet-21k, then ImageNet")
    assert named.pretrain_exaflops == 2.5
    (tmp_path / "other").mkdir()
    moved = path.rename(tmp_path / "other" / "theirs.npz")
    assert start(planned(tmp_path, block("other/theirs.npz"), KNN)).job_id == first.job_id
    saved(made(num_classes=6), moved.parent, "npz")
    assert start(planned(tmp_path, block("other/mine.npz"), KNN)).job_id != first.job_id


def test_what_follows_has_the_compute_that_is_stated(tmp_path: Path) -> None:
    saved(made(), tmp_path, "npz")
    graph = planned(tmp_path, block("mine.npz", exaflops="2.5"), KNN)
    assert {job.pretrain_exaflops for job in graph.jobs} == {2.5}
    assert [job.spec.kind for job in graph.jobs] == ["weights", "knn"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_without_a_classifier_is_fine_until_one_is_asked_for(
    tmp_path: Path, layout: str
) -> None:
    from bench.models.weights import read_arrays

    path = saved(made(), tmp_path, layout)
    rest = {name: t.contiguous() for name, t in read_arrays(path).items() if "head" not in name}
    path.with_suffix(".json").unlink(missing_ok=True)
    if layout == "npz":
        np.savez(path, **{name: t.numpy() for name, t in rest.items()})
    elif layout == "pth":
        torch.save(rest, path)
    else:
        save_file(rest, path)
    job = start(planned(tmp_path, block(path.name), KNN))
    assert "num_classes" not in job.spec.params
    assert ", no classifier, " in job.note
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, block(path.name), EVALUATE)
    assert str(caught.value) == (
        "mine.toml: transfer[0].datasets[0]: the file that vit-micro starts from has no "
        "classifier. Name in `of` the data set that an earlier fine-tuning block trained it on"
    )


EVALUATE = """
[[transfer]]
kind = "evaluate"
datasets = ["digits"]
protocol = "finetune-micro"
"""


def test_its_classifier_is_scored_on_data_of_its_classes_alone(tmp_path: Path) -> None:
    saved(made(num_classes=10), tmp_path, "npz")
    graph = planned(tmp_path, block("mine.npz"), EVALUATE)
    assert [job.spec.kind for job in graph.jobs] == ["weights", "evaluate"]
    saved(made(num_classes=5), tmp_path, "npz")
    with pytest.raises(SuiteError, match="digits has 10 classes, but the classifier of vit-m"):
        planned(tmp_path, block("mine.npz"), EVALUATE)


def test_a_layer_before_the_head_is_found(tmp_path: Path) -> None:
    path = saved(made(representation_dim=7), tmp_path, "npz")
    found = contents(baselines.system("vit-micro"), look(path).shapes)
    assert (found.representation_dim, found.num_classes) == (7, 5)


def test_a_digest_is_computed_once_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(made(), tmp_path, "npz")
    os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(files, "SETTLED_S", -1)
    hashed: list[str] = []
    real = files._hash
    monkeypatch.setattr(files, "_hash", lambda name: hashed.append(name) or real(name))
    for _ in range(3):
        look(path)
    assert hashed == [str(path)]


# --- whose it is ----------------------------------------------------------------------------


def test_a_file_is_called_a_release_by_its_digest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(made(), tmp_path, "npz")
    url = "https://storage.googleapis.com/vit_models/toy.npz"
    trained_on = baselines.system("vit-b16").weights[0].trained_on
    card = baselines.system("vit-micro")

    def with_source(sha256: str) -> None:
        source = WeightsSource(
            name="in21k", url=url, trained_on=trained_on, licence="", sha256=sha256
        )
        changed = card.model_copy(update={"weights": (source,)})
        monkeypatch.setitem(baselines.systems(), card.name, changed)

    with_source("1" * 64)
    assert start(planned(tmp_path, block("mine.npz"), KNN)).labels.recipe == "mine.npz (unverified)"
    with_source(file_sha256(path))
    job = start(planned(tmp_path, block("mine.npz"), KNN))
    assert (job.labels.recipe, job.labels.upstream) == ("in21k", "imagenet-21k")
    assert "the release in21k, by its digest; trained on: ImageNet-21k" in job.note
    with_source("")  # nobody publishes one, and this work folder downloaded it once
    cache = CachePaths(tmp_path / "data")
    assert "unverified" in start(planned(tmp_path, block("mine.npz"), KNN, cache=cache)).note
    digests.record("in21k", url, digests.Stated(file_sha256(path), "here"), cache)
    again = start(planned(tmp_path, block("mine.npz"), KNN, cache=cache))
    assert again.labels.recipe == "in21k"
    assert again.job_id == job.job_id
    other = block("mine.npz", trained_on='["imagenet-1k"]')
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, other, KNN, cache=cache)
    assert str(caught.value) == (
        "mine.toml: weights[0].trained_on: the file is the release in21k, trained on ImageNet-21k. "
        "Leave trained_on out"
    )


# --- what is refused ------------------------------------------------------------------------


class _Code:
    """Would make a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _damaged(folder: Path) -> None:
    path = saved(made(), folder, "npz")
    path.write_bytes(path.read_bytes()[:-100])


def _objects(folder: Path) -> None:
    np.savez(folder / "mine.npz", head=np.array([{}], dtype=object))


def _cut(folder: Path) -> None:
    path = saved(made(), folder, "safetensors")
    path.write_bytes(path.read_bytes()[:-4])


def _pickled(folder: Path, *, legacy: bool = False) -> None:
    content = {"head.weight": torch.ones(2), "extra": _Code(folder / "executed")}
    torch.save(content, folder / "mine.pth", _use_new_zipfile_serialization=not legacy)


def _text(folder: Path) -> None:
    (folder / "mine.pth").write_text("xyz")


REFUSED = [
    (lambda folder: None, "mine.npz", "DIR/mine.npz: no such file. A relative path starts at the "
     "suite file"),
    (lambda folder: (folder / "mine.npz").mkdir(), "mine.npz", "DIR/mine.npz: is a folder. Name "
     "the file of weights in it"),
    (lambda folder: (folder / "mine.h5").touch(), "mine.h5", "DIR/mine.h5: not a file of weights "
     "by its name. Files end in .npz, .safetensors, .pth, .pt, .bin"),
    (_damaged, "mine.npz", "DIR/mine.npz: not a readable weights file (File is not a zip file). "
     "Get the file again; it may be cut short or damaged"),
    (_objects, "mine.npz", "DIR/mine.npz: not a readable weights file (array head has type object, "
     "which is not numeric). Get the file again; it may be cut short or damaged"),
    (_cut, "mine.safetensors", "DIR/mine.safetensors: not a readable weights file (it is not as "
     "long as its header says). Get the file again; it may be cut short or damaged"),
    (_pickled, "mine.pth", "DIR/mine.pth: holds a posix.mkdir, and code in a file is not executed. "
     "Save the tensors alone: torch.save(model.state_dict(), FILE)"),
    (lambda folder: _pickled(folder, legacy=True), "mine.pth", "DIR/mine.pth: holds a posix.mkdir, "
     "and code in a file is not executed. Save the tensors alone: torch.save(model.state_dict(), "
     "FILE)"),
    (_text, "mine.pth", "DIR/mine.pth: not a readable weights file (invalid load key, 'x'.). "
     "Get the file again; it may be cut short or damaged"),
    (lambda folder: save_file({"a.b": torch.ones(2)}, folder / "mine.safetensors"),
     "mine.safetensors", "DIR/mine.safetensors: the file holds the weights of another system than "
     "vit-micro. The file looks like none of the known systems"),
    (lambda folder: saved(made("bit-micro"), folder, "npz"), "mine.npz", "DIR/mine.npz: the file "
     "holds the weights of another system than vit-micro. The file looks like BiT-micro "
     "(bit-micro)"),
    (lambda folder: saved(made(depth=3), folder, "timm"), "mine.safetensors",
     "DIR/mine.safetensors: the file holds the weights of another system than vit-micro. The file "
     "looks like a vit system of another size (width 64, depth 3, mlp_dim 128, patch_px 4)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_one_line_says_what_is_wrong_and_nothing_is_executed(
    tmp_path: Path, make: Any, name: str, words: str
) -> None:
    make(tmp_path)
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, block(name), KNN)
    said = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in said
    assert said == f"mine.toml: weights[0].file: {words.replace('DIR', str(tmp_path))}"
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    saved(made(), tmp_path, "npz").chmod(0)
    with pytest.raises(SuiteError, match=r"mine\.npz: cannot be read \(Permission denied\)"):
        planned(tmp_path, block("mine.npz"), KNN)


BLOCKS = [
    ('systems = ["vit-micro"]',
     "weights[0]: set exactly one of weights (a name) and file (a path)"),
    ('systems = ["vit-b16"]\nweights = "in21k"\nfile = "a.npz"',
     "weights[0]: set exactly one of weights (a name) and file (a path)"),
    ('systems = ["vit-micro", "bit-micro"]\nfile = "a.npz"',
     "weights[0]: a file holds the weights of one system: write a table for each"),
    ('systems = ["vit-b16"]\nweights = "in21k"\nexaflops = 3.0',
     "weights[0]: name, trained_on and exaflops say what a file of your own is"),
    ('systems = ["vit-micro"]\nfile = "mine.npz"\nexaflops = 0.0',
     "weights[0].exaflops: input should be greater than 0, not 0.0"),
    ('systems = ["vit-micro"]\nfile = "mine.npz"\ntrained_on = ["imagnet-1k"]',
     'weights[0].trained_on[0]: unknown data set "imagnet-1k". Did you mean'),
    ('systems = ["vit-micro"]\nfile = "a\\u0000b"', "weights[0].file: holds the control character"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "words"), BLOCKS, ids=[words for _, words in BLOCKS])
def test_a_block_that_contradicts_itself_is_told(tmp_path: Path, lines: str, words: str) -> None:
    saved(made(), tmp_path, "npz")
    with pytest.raises(SuiteError, match=re.escape(words)):
        planned(tmp_path, f"\n[[weights]]\n{lines}\n", KNN)


PAIR = '\n[[pair]]\nsystems = ["vit-micro", "bit-micro"]\nmatch = "{}"\nmax_ratio = 9.0\n'


def test_compute_that_is_not_stated_is_never_equal(tmp_path: Path) -> None:
    for system in ("vit-micro", "bit-micro"):
        saved(made(system), tmp_path, "npz").rename(tmp_path / f"{system}.npz")
    vit, bit = block("vit-micro.npz"), block("bit-micro.npz", "bit-micro")
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, vit, bit, KNN, PAIR.format("exaflops"))
    assert str(caught.value) == (
        'mine.toml: pair[0].systems[0]: "vit-micro" starts from weights, whose pre-training '
        'compute is not known. Use match = "params", "forward_gflops" or "none"; or state the '
        "exaflops of a file"
    )
    assert planned(tmp_path, vit, bit, KNN, PAIR.format("params")).suite.pair
    vit, bit = block("vit-micro.npz", exaflops="1.0"), block(
        "bit-micro.npz", "bit-micro", exaflops="1.1"
    )  # fmt: skip
    assert planned(tmp_path, vit, bit, KNN, PAIR.format("exaflops")).suite.pair
    with pytest.raises(SuiteError, match=r"pre-training compute differs by 11\.00x"):
        planned(tmp_path, vit, bit.replace("1.1", "11.0"), KNN, PAIR.format("exaflops"))
