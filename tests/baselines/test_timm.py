"""Models of timm as systems: what every architecture does, which are refused, and whose files fit.

Images are small, so that 60 architectures take a minute; weights are random.
"""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import baselines
from baselines.contents import contents
from baselines.footprint import Numerics
from baselines.timm_models import _about, _head
from bench import jobs
from bench.errors import CheckpointError, SuiteError, UnknownName, UserError
from bench.jobs import JobContext
from bench.models import build, layouts, load_weights
from bench.plan import plan_with_catalogue, suites
from bench.plan.fitting import most_pieces
from bench.specs import JobResult, Recipe, SystemCard

SMALL_PX = 64

ARCHITECTURES = (
    "caformer_s18", "cait_xxs24_224", "coat_lite_tiny", "coatnet_pico_rw_224",
    "convit_tiny", "convnext_atto", "convnextv2_atto", "cs3darknet_s", "cspresnet50",
    "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "dla34",
    "edgenext_xx_small", "efficientformerv2_s0", "efficientnet_b0", "efficientnet_lite0",
    "efficientvit_b0", "efficientvit_m0", "fasternet_t0", "fastvit_t8",
    "gernet_s", "ghostnet_050", "gmlp_ti16_224", "hgnet_tiny", "hrnet_w18_small",
    "inception_next_atto", "lcnet_050", "levit_128s", "mambaout_femto", "mixer_s32_224",
    "mobilenetv3_small_050", "mobilenetv4_conv_small", "mobilevit_xxs", "nf_regnet_b0",
    "pit_ti_224", "poolformer_s12", "pvt_v2_b0", "regnety_002", "repghostnet_050", "repvgg_a0",
    "repvit_m0_9", "res2net50_26w_4s", "resnet10t", "resnet18", "resnetv2_50", "rexnet_100",
    "selecsls42b", "skresnet18", "swiftformer_xs", "swin_tiny_patch4_window7_224",
    "test_convnext", "test_efficientnet", "test_vit", "tf_efficientnet_lite0", "tiny_vit_5m_224",
    "visformer_tiny", "vit_tiny_patch16_224", "vit_tiny_r_s16_p8_224", "xcit_nano_12_p16_224",
)  # fmt: skip
REFUSED = {
    "crossvit_9_240": "Attempting to broadcast a dimension of length 27",
    "inception_v3": ".*Kernel size can't be greater than actual input",
    "efficientformer_l1": "Attempting to broadcast a dimension of length 49",
}
"""Architectures that take no images of 64 px, with what timm says."""


def small(name: str) -> tuple[SystemCard, Tensor]:
    images = torch.rand(2, 3, SMALL_PX, SMALL_PX, generator=torch.Generator().manual_seed(1))
    return baselines.system(f"timm:{name}"), images


def of_timm(name: str) -> nn.Module:
    from baselines import _timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return _timm.create(name, SMALL_PX, num_classes=5).eval()


@pytest.mark.ordinary
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_built_counted_trained_and_is_timms(name: str) -> None:
    card, x_BCHW = small(name)
    model, sizes = build(card, num_classes=5, image_size_px=SMALL_PX), baselines.sizes(card)
    z_BD = model.features(x_BCHW)
    assert z_BD.shape == (2, card.feature_dim)
    assert sizes.num_params(SMALL_PX) == sum(w.numel() for w in model.encoder.parameters())
    (z_BD * torch.linspace(-1, 1, card.feature_dim).sin()).sum().backward()
    reached = [weight.grad is not None for weight in model.encoder.parameters()]
    assert sum(reached) > 0.9 * len(reached)
    whole, layout = of_timm(name), baselines.FAMILIES["timm"].layout("timm")
    has_head = bool(_head(_about(name)))
    state = layouts.read(model.eval(), whole.state_dict(), layout, head=has_head)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert missing == ([] if has_head else ["head.weight", "head.bias"])
    with FlopCounterMode(display=False) as counter:  # which needs gradients for some models
        z_BD = model.features(x_BCHW[:1])
    assert counter.get_total_flops() == baselines.forward_flops(card, SMALL_PX)
    if has_head:
        with torch.no_grad():
            torch.testing.assert_close(model.head(z_BD), whole(x_BCHW[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_no_such_images_is_refused_with_the_reason(name: str) -> None:
    card, _ = small(name)
    with pytest.raises(
        UserError, match=rf"{name} of timm takes no images of 64 px: {REFUSED[name]}"
    ):
        build(card, num_classes=5, image_size_px=SMALL_PX)


def test_the_same_seed_draws_the_same_weights_and_nobody_elses() -> None:
    before = torch.random.get_rng_state()
    one, two, other = (
        build("timm:test_vit", num_classes=2, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    states = [model.encoder.state_dict() for model in (one, two, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_its_memory_is_that_of_our_own_models() -> None:
    """timm's EfficientNet-B0 and ours are one model: what is measured, and a closed form."""
    theirs = baselines.sizes(baselines.system("timm:tf_efficientnet_b0"))
    ours = baselines.sizes(baselines.made("b0", family="noisy-student", title="", args={}))
    for numerics in (Numerics(), Numerics(product=2, norm=2)):
        measured, said = (sizes.footprint(96, numerics) for sizes in (theirs, ours))
        assert measured.image == pytest.approx(said.image, rel=0.03)
        assert measured.widest == pytest.approx(said.widest, rel=0.2)
    assert theirs.num_params(96) == ours.num_params(96)
    assert theirs.forward_flops(96, padding="counted") == ours.forward_flops(96, padding="counted")


def test_attention_of_a_gpu_keeps_no_matrix_of_weights() -> None:
    sizes = baselines.sizes(baselines.system("timm:test_vit"))
    plain, fused, half = (
        sizes.footprint(160, numerics).image
        for numerics in (Numerics(), Numerics(fused=True), Numerics(product=2, fused=True))
    )
    assert half < fused < plain


def test_batches_of_batch_statistics_are_not_cut() -> None:
    recipe = Recipe(steps=1, batch_size=8, optimizer="adam", schedule="constant")
    cut = {
        name: most_pieces(baselines.use(baselines.system(f"timm:{name}")), recipe)
        for name in ("test_efficientnet", "test_vit")
    }
    assert cut["test_efficientnet"] == 1
    assert cut["test_vit"] > 1


# --- names ---------------------------------------------------------------------------------------


def test_an_unknown_name_is_one_line_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r'unknown model of timm "resnet5O"\. .*"resnet50"'):
        baselines.system("timm:resnet5O")
    with pytest.raises(UnknownName, match=r'"tim"\. Did you mean "timm"'):
        baselines.system("tim:resnet50")
    with pytest.raises(UserError, match='argument "model" is missing'):
        baselines.made("mine", family="timm", title="", args={})


def test_a_name_of_weights_is_that_of_the_architecture() -> None:
    named = baselines.use(baselines.system("timm:test_vit.r160_in1k"))
    assert named == baselines.use(baselines.system("timm:test_vit"))


SUITE = """
name = "theirs"
title = "Models of timm"
claim = "Any can join."

[system.mine]
family = "timm"
args = { model = "test_vit" }

[protocol.small]
image_size_px = 32
train_transform = "resize"
eval_transform = "resize"
splits = "held-out"

[recipe.one-step]
steps = 1
batch_size = 4
optimizer = "adam"
base_lr = 1e-3
schedule = "constant"

[[pretrain]]
systems = ["mine", "timm:test_efficientnet"]
upstream = "fractals"
num_examples = [16]
recipe = "one-step"
protocol = "small"

[[transfer]]
kind = "knn"
datasets = ["digits"]
protocol = "small"
neighbours = [1]
"""


def suite_file(folder: Path, old: str = "", new: str = "") -> Path:
    path = folder / "theirs.toml"
    path.write_text(SUITE.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("test_vit", "test_vitt", r"system\.mine\.args: unknown model of timm \"test_vitt\""),
        ("timm:test_e", "timm:tset_e", r"pretrain\[0\]\.systems\[1\]: unknown model of timm"),
        ('family = "timm"', 'family = "tim"', r"system\.mine\.family: unknown family \"tim\""),
        ("[system.mine]", '[system.mine]\nlike = "vit-b16"', "set exactly one of like"),
        ('{ model = "test_vit" }', "{}", r"system\.mine\.args: timm: argument \"model\""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        plan_with_catalogue(suites.load(str(suite_file(tmp_path, old, new))), {})


def test_a_second_plan_imports_neither_torch_nor_timm(tmp_path: Path) -> None:
    path = suite_file(tmp_path).as_posix()
    code = (
        "import sys; from bench.plan import plan_with_catalogue, suites\n"
        f"graph = plan_with_catalogue(suites.load({path!r}), {{}})\n"
        "print(len(graph.jobs), [name for name in ('torch', 'timm') if name in sys.modules])"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert said[1].stdout.split()[1:] == ["[]"]


# --- files ---------------------------------------------------------------------------------------


def renamed(whole: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model in their order, with the names of somebody else."""
    return OrderedDict(
        (f"their.layer{place}.{name.rpartition('.')[2]}", tensor)
        for place, (name, tensor) in enumerate(whole.state_dict().items())
    )


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_a_file_of_other_names_is_read_by_its_order(tmp_path: Path) -> None:
    card, x_BCHW = small("test_efficientnet")
    whole = of_timm("test_efficientnet")
    state = renamed(whole)
    found = contents(card, shapes_of(state))
    assert (found.layout, found.num_classes) == ("timm, by order", 5)
    path = tmp_path / "theirs.pth"
    torch.save(state, path)
    model = build(card, num_classes=5, image_size_px=SMALL_PX).eval()
    load_weights(model, path)
    with torch.no_grad():
        torch.testing.assert_close(model(x_BCHW), whole(x_BCHW))
    named = contents(card, shapes_of(dict(whole.state_dict())))
    assert (named.layout, named.num_classes) == ("timm", 5)


def test_an_order_that_says_too_little_is_refused(tmp_path: Path) -> None:
    """Sorted by name, offsets stand where scales were: all shapes agree, and the parts do not."""
    card, _ = small("test_efficientnet")
    state = renamed(of_timm("test_efficientnet"))
    swapped = {
        name.replace(".weight", ".x").replace(".bias", ".weight").replace(".x", ".bias"): tensor
        for name, tensor in state.items()
    }
    assert contents(card, shapes_of(swapped)).layout == "timm"  # whose names it does not have
    path = tmp_path / "swapped.pth"
    torch.save(swapped, path)
    with pytest.raises(CheckpointError, match="weights of another model"):
        load_weights(build(card, num_classes=5), path)


def test_positions_of_another_side_are_resized_as_timm_does(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    torch.save(of_timm("test_vit").state_dict(), path)
    model = build("timm:test_vit", num_classes=2, image_size_px=96)
    load_weights(model, path, head="drop")
    assert model.features(torch.zeros(1, 3, 96, 96)).shape == (1, 64)


@pytest.mark.ordinary
def test_a_file_read_by_its_order_is_evaluated(tmp_path: Path) -> None:
    from baselines import _timm

    whole = _timm.create("test_efficientnet", num_classes=10).eval()
    torch.save(renamed(whole), tmp_path / "theirs.pth")
    path = tmp_path / "evaluated.toml"
    path.write_text(EVALUATED, encoding="utf-8")
    graph = plan_with_catalogue(suites.load(str(path)), {})
    loaded, scored = graph.jobs
    assert "layout timm, by order, 10 classes" in loaded.note
    results: dict[str, JobResult] = {}
    for job in graph.jobs:
        folder = tmp_path / job.job_id
        folder.mkdir()
        needs = {key: (results[id_], tmp_path / id_) for key, id_ in job.spec.needs.items()}
        results[job.job_id] = jobs.run(
            JobContext(
                spec=job.spec, folder=folder, inputs=needs, file=job.file,
                dataset=graph.datasets[job.dataset] if job.dataset else None,
                cache_dir=tmp_path / "cache", attempt=1, report=lambda line: None,
                resources=job.resources,
            )
        )  # fmt: skip
    assert results[loaded.job_id].values["layout"] == "timm, by order"
    assert results[scored.job_id].metrics["eval_top1"].n > 0


EVALUATED = """
name = "evaluated"
title = "A file of timm"
claim = "Its classifier is ours."
limit_steps = 1

[protocol.small]
image_size_px = 32
train_transform = "resize"
eval_transform = "resize"
splits = "held-out"

[[weights]]
systems = ["timm:test_efficientnet"]
file = "theirs.pth"
trained_on = ["digits"]

[[transfer]]
kind = "evaluate"
datasets = ["digits"]
protocol = "small"
"""
