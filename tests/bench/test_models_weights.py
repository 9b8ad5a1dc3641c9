"""Weights in and out: every layout and back, damage, wrong systems, names that are paths."""

from __future__ import annotations

import functools
import json
import pickle

import numpy as np
import pytest
import torch

import baselines
from baselines.contents import looks_like
from bench.errors import CheckpointError, UserError
from bench.files import file_sha256
from bench.models import build, load_model, load_weights, save_weights
from bench.models.layouts import write
from bench.specs import WeightsSource

SYSTEMS = {
    "vit": ("vit-micro", {}),
    "vit-gap": ("vit-micro", {"pooling": "gap"}),
    "vit-pre-logits": ("vit-micro", {"representation_dim": 24}),
    "bit": ("bit-micro", {}),
    "hybrid": ("hybrid-micro", {}),
    "noisy-student": ("noisy-student-b7", {"width_factor": 0.25, "depth_factor": 0.5}),
}


def random_model(kind: str, seed: int = 1, **more):
    """A model whose every weight (and statistic) is random, head included."""
    name, overrides = SYSTEMS[kind]
    size = {"image_size_px": 64} if kind == "noisy-student" else {}
    model = build(name, num_classes=5, **{**overrides, **size, **more})
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return model


def same_bits(one, other) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        *((kind, "safetensors") for kind in SYSTEMS),
        *((kind, "npz") for kind in SYSTEMS if kind != "noisy-student"),
        *((kind, "timm") for kind in SYSTEMS if kind != "vit-pre-logits"),
    ],
)
def test_round_trips_are_bit_exact(tmp_path, kind, layout):
    model = random_model(kind)
    suffix = "npz" if layout == "npz" else "safetensors"
    path = save_weights(model, tmp_path / f"weights.{suffix}", layout=layout)
    again = random_model(kind, seed=2)
    load_weights(again, path)
    assert same_bits(model, again)
    second = save_weights(again, tmp_path / f"second.{suffix}", layout=layout)
    assert second.read_bytes() == path.read_bytes()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("kind", ["vit-pre-logits", "bit", "hybrid"])
def test_a_file_and_its_card_are_the_whole_model(tmp_path, kind):
    model = random_model(kind)
    path = save_weights(model, tmp_path / "mine.safetensors")
    again = load_model(path)
    assert same_bits(model, again)
    assert (again.system, again.image_size_px) == (model.system, model.image_size_px)
    card = json.loads((tmp_path / "mine.json").read_text())
    assert card["sha256"] == file_sha256(path)


@pytest.mark.parametrize("family", ["vit", "bit"])
def test_timm_implementation_is_timms_own(tmp_path, family):
    from timm.layers import StdConv2d
    from timm.models.resnetv2 import ResNetV2
    from timm.models.vision_transformer import VisionTransformer

    theirs, name, sizes = {
        "vit": (VisionTransformer(32, num_classes=7, depth=1), "vit-b16", {"depth": 1}),
        "bit": (
            ResNetV2(
                [1, 1],
                num_classes=7,
                stem_type="fixed",
                conv_layer=functools.partial(StdConv2d, eps=1e-8),
            ),
            "bit-r50x1",
            {"layers": (1, 1)},
        ),
    }[family]
    torch.save(theirs.eval().state_dict(), tmp_path / "timm.pth")
    model = build(name, num_classes=7, image_size_px=32, implementation="timm", **sizes).eval()
    load_weights(model, tmp_path / "timm.pth")
    x_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(model(x_BCHW), theirs(x_BCHW), atol=1e-6, rtol=1e-5)


def test_encoder_alone_for_transfer(tmp_path):
    source = random_model("vit-pre-logits")
    path = save_weights(source, tmp_path / "in21k.npz", layout="npz")
    model = build("vit-micro", num_classes=3, image_size_px=24)
    load_weights(model, path, head="drop")
    assert torch.equal(
        model.encoder.blocks[0].attn.qkv.weight, source.encoder.blocks[0].attn.qkv.weight
    )
    assert not model.head.weight.any()


def test_representation_layer_is_never_dropped_silently(tmp_path):
    path = save_weights(random_model("vit-pre-logits"), tmp_path / "rep.npz", layout="npz")
    with pytest.raises(CheckpointError, match="Build with representation_dim=24"):
        load_weights(build("vit-micro", num_classes=5), path)
    plain = save_weights(random_model("vit"), tmp_path / "plain.npz", layout="npz")
    with pytest.raises(CheckpointError, match="the model has a representation layer"):
        load_weights(random_model("vit-pre-logits"), plain)


def test_other_number_of_classes_names_array_and_both_shapes(tmp_path):
    path = save_weights(random_model("vit"), tmp_path / "five.npz", layout="npz")
    message = (
        r"head/kernel has shape \(\d+, 5\) in the file and \(\d+, 3\) in the model.*head=\"drop\""
    )
    with pytest.raises(CheckpointError, match=message):
        load_weights(build("vit-micro", num_classes=3), path)


@pytest.mark.parametrize("layout", ["npz", "safetensors", "timm"])
@pytest.mark.parametrize(
    ("kind", "overrides", "like"),
    [
        ("vit", {}, "ViT-micro/4 (vit-micro)"),
        ("bit", {}, "BiT-micro (bit-micro)"),
        ("hybrid", {}, "R-micro+ViT-micro/4 (hybrid-micro)"),
        ("vit", {"depth": 5}, "a vit system of another size (width"),
    ],
)  # fmt: skip
def test_wrong_checkpoint_says_what_it_looks_like(tmp_path, layout, kind, overrides, like):
    suffix = "npz" if layout == "npz" else "safetensors"
    path = save_weights(
        random_model(kind, **overrides), tmp_path / f"other.{suffix}", layout=layout
    )
    model = build("vit-s16", num_classes=5, image_size_px=32, depth=1)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path)
    assert f"The file looks like {like}" in str(caught.value)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


FAST = ("vit-micro", "vit-b16", "bit-micro", "bit-r50x1", "hybrid-micro", "hybrid-r50-vit-b16")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.ordinary])
        for name in baselines.systems()
        # It has the shapes of ViT-S/32: only the number of heads differs. Pixels have no weights.
        if name not in ("vit-b32-half", "raw-pixels")
    ],
)
def test_every_system_is_recognized_from_names_and_shapes(name):
    card = baselines.system(name)
    family = baselines.family_of(card)
    with torch.device("meta"):
        model = build(name, num_classes=5)
        files = [model.state_dict(), *(write(model, layout) for layout in family.layouts)]
    for arrays in files:
        shapes = {key: tuple(tensor.shape) for key, tensor in arrays.items()}
        assert looks_like(shapes) == f"The file looks like {card.title} ({name})"


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pth"])
def test_truncated_files_are_refused(tmp_path, suffix):
    model = random_model("vit")
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(model.state_dict(), path)
    else:
        save_weights(model, path, layout="npz" if suffix == "npz" else "safetensors")
    whole = path.read_bytes()
    for length in (0, 7, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a readable weights file"):
            load_weights(random_model("vit"), path)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_flipped_bit_is_noticed(tmp_path, suffix):
    model = random_model("vit")
    layout = "npz" if suffix == "npz" else "safetensors"
    path = save_weights(model, tmp_path / f"weights.{suffix}", layout=layout)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable weights file"):
        load_weights(random_model("vit"), path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_pickled_is_executed(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    harmful = np.array([Harmful()], dtype=object)
    np.savez(tmp_path / "object.npz", **{"embedding/kernel": harmful}, allow_pickle=True)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Harmful()))
    torch.save({"weight": Harmful()}, tmp_path / "torch.pth")
    for name in ("object.npz", "raw.pth", "torch.pth"):
        with pytest.raises(CheckpointError, match="not a readable weights file"):
            load_weights(build("vit-micro", num_classes=5), tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    model = random_model("vit")
    model.encoder.blocks[1].mlp.fc1.bias.data[3] = float("nan")
    path = save_weights(model, tmp_path / "nan.npz", layout="npz")
    with pytest.raises(CheckpointError, match="encoderblock_1/MlpBlock_3/Dense_0/bias holds NaN"):
        load_weights(random_model("vit"), path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf-hub:../../etc/passwd", "is not a hub name"),
        ("hf-hub:timm/..", "is not a hub name"),
        ("hf-hub:timm", "is not a hub name"),
        ("http://storage.googleapis.com/vit_models/x.npz", "is not an official address"),
        ("https://example.org/vit.npz", "is not an official address"),
        ("nowhere.npz", "there is no such weights file"),
    ],
)
def test_names_that_are_none(source, message):
    with pytest.raises(UserError, match=message):
        load_weights(build("vit-micro", num_classes=5), source)


def test_weights_that_are_not_public_say_so():
    source = baselines.system("vit-h14").weights[-1]
    with pytest.raises(UserError, match='weights "jft" are not public'):
        load_weights(build("vit-micro", num_classes=5), source)


def test_download_is_cached_and_checked(tmp_path, monkeypatch):
    """The network is replaced by a local file; cache, record and digests are real."""
    model = random_model("vit")
    original = save_weights(model, tmp_path / "official.npz", layout="npz")
    calls = []

    def download(url, dst, progress):
        calls.append(url)
        with open(dst, "wb") as file:
            file.write(original.read_bytes())

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    url = "https://storage.googleapis.com/vit_models/imagenet21k/..%2F..%2FViT-B_16.npz"
    cache, workdir = tmp_path / "cache", tmp_path / "runs"
    for _ in range(2):
        again = random_model("vit", seed=2)
        load_weights(again, url, cache_dir=cache, workdir=workdir)
        assert same_bits(model, again)
    assert calls == [url]
    (cached,) = cache.iterdir()
    assert cached.suffix == ".npz"
    # The owner has put another file at the address.
    other = random_model("vit", seed=4)
    first, original = original, save_weights(other, tmp_path / "new.npz", layout="npz")
    with pytest.raises(CheckpointError) as caught:
        load_weights(again, url, cache_dir=tmp_path / "elsewhere", workdir=workdir)
    for part in (url, file_sha256(first), file_sha256(original), str(workdir), "elsewhere"):
        assert part in str(caught.value)
    assert same_bits(model, again)
    load_weights(again, url, cache_dir=tmp_path / "elsewhere", workdir=tmp_path / "fresh")
    assert same_bits(other, again)
    known = WeightsSource(name="x", url=url, layout="npz", licence="", sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"0{64} in the card of the weights"):
        load_weights(again, known, cache_dir=cache, workdir=tmp_path / "unused")
    assert not (tmp_path / "unused").exists()


def test_unreachable_hub_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="could not be downloaded") as caught:
        load_weights(build("vit-micro", num_classes=5), "hf-hub:timm/vit_base_patch16_224.nowhere")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "a.npz", "layout": "nppz"}, 'Did you mean "npz"'),
        ({"path": "a.bin", "layout": "npz"}, "ends in .npz"),
    ],
)
def test_save_refuses_wrong_layouts(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        save_weights(random_model("vit"), tmp_path / arguments["path"], layout=arguments["layout"])
