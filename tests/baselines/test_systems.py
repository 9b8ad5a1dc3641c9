"""Cards: names, closed forms against torch's counters, pinned parameter counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import baselines
from bench.errors import SuiteError, UnknownName, UserError
from bench.models import build
from bench.specs import SystemUse

FAST = ("vit-micro", "vit-b16", "bit-micro", "bit-r50x1", "hybrid-micro", "hybrid-r50-vit-b16")
NAMES = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.ordinary])
    for name in baselines.systems()
]


def second_size(name: str) -> int:
    """Another input side: odd for CNNs and hybrids, where padding then matters."""
    card = baselines.system(name)
    return card.patch_px * 5 if card.family == "vit" else card.patch_px * 3 + 5


@pytest.mark.parametrize("name", NAMES)
def test_closed_forms_equal_torchs_counts(name):
    card = baselines.system(name)
    for image_size_px in (card.image_size_px, second_size(name)):
        with torch.device("meta"):
            model = build(name, num_classes=1000, image_size_px=image_size_px)
            with FlopCounterMode(display=False) as counter:
                z_BD = model.features(torch.zeros(1, 3, image_size_px, image_size_px))
        num_params = sum(weight.numel() for weight in model.encoder.parameters())
        assert z_BD.shape == (1, card.feature_dim)
        assert baselines.forward_flops(card, image_size_px) == counter.get_total_flops()
        assert baselines.sizes(card).num_params(image_size_px) == num_params
        if image_size_px == card.image_size_px:
            assert card.num_params == num_params


@pytest.mark.parametrize(
    ("name", "num_params"),
    [
        ("vit-ti16", 5_717_416),
        ("vit-s32", 22_878_952),
        ("vit-s16", 22_050_664),
        ("vit-b32", 88_224_232),
        ("vit-b16", 86_567_656),
        ("vit-l32", 306_535_400),
        ("vit-l16", 304_326_632),
        ("vit-h14", 632_045_800),
        ("bit-r50x1", 25_549_352),
        ("bit-r50x2", 97_988_712),
        ("bit-r50x3", 217_319_080),
        ("bit-r101x1", 44_541_480),
        ("bit-r101x3", 387_934_888),
        ("bit-r152x1", 60_185_128),
        ("bit-r152x2", 236_335_208),
        ("bit-r152x4", 936_533_224),
        ("bit-r200x3", 568_633_000),
        ("hybrid-r26-vit-s32", 36_431_912),
        ("hybrid-r50-vit-b32", 110_945_832),
        ("hybrid-r50-vit-b16", 98_659_112),
        ("hybrid-r50-vit-l32", 328_994_856),
        ("hybrid-r50-vit-l16", 316_483_624),
        ("noisy-student-b7", 66_347_960),
        ("noisy-student-l2", 480_309_308),
    ],
)
def test_parameters_with_1000_classes(name, num_params):
    card = baselines.system(name)
    assert card.num_params + 1000 * card.feature_dim + 1000 == num_params


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("vit-b16", "vit-b16"),
        ("ViT-B/16", "vit-b16"),
        ("VIT_b_16", "vit-b16"),
        ("B/16", "vit-b16"),
        ("B/32", "vit-b32"),
        ("b/32", "vit-b32-half"),
        ("ViT-b/32", "vit-b32-half"),
        ("H/14", "vit-h14"),
        ("ResNet50x1", "bit-r50x1"),
        ("R50x1", "bit-r50x1"),
        ("BiT-R152x4", "bit-r152x4"),
        ("BiT-L R152x4", "bit-r152x4"),
        ("Noisy Student EfficientNet-L2", "noisy-student-l2"),
        ("R50x1+ViT-B/16", "hybrid-r50-vit-b16"),
        ("R50+ViT-B/16", "hybrid-r50-vit-b16"),
        ("R50+B/16", "hybrid-r50-vit-b16"),
        ("R26+S/32", "hybrid-r26-vit-s32"),
    ],
)
def test_names_of_papers_find_the_card(spelling, name):
    assert baselines.system(spelling).name == name


def test_unknown_system_names_the_nearest():
    with pytest.raises(UnknownName, match='Did you mean "vit-b16"'):
        baselines.system("vitb61")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("vit-b16", {"wdith": 64}, 'Did you mean "width"'),
        ("vit-b16", {"width": 100}, "not a multiple of num_heads 12"),
        ("vit-b16", {"depth": 0}, "depth = 0 must be above zero"),
        ("vit-b16", {"depth": "12"}, "is not a whole number"),
        ("vit-b16", {"pooling": "max"}, 'is not "token" or "gap"'),
        ("vit-b16", {"implementation": "keras"}, 'is not "authors" or "timm"'),
        ("bit-r50x1", {"width_factor": 0.3}, "multiple of 8"),
        ("bit-r50x1", {"layers": (3, 4, 6, 3, 1)}, "need as many widths"),
        ("bit-r50x1", {"layers": ()}, "must be above zero"),
    ],
)
def test_impossible_sizes_are_told_in_one_line(name, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        build(name, num_classes=10, **overrides)
    assert "\n" not in str(caught.value)


def test_an_image_must_hold_a_patch():
    with pytest.raises(UserError, match="smaller than a patch of 14 px"):
        baselines.forward_flops(baselines.system("vit-h14"), 13)


def test_skipped_padding_counts_taps_inside_the_image():
    """A 3x3 convolution of stride 1 on 4x4 pixels has 10 x 10 taps inside, of 12 x 12."""
    from baselines.counting import conv

    assert conv(4, 1, 1, kernel=3) == (2 * 144, 4)
    assert conv(4, 1, 1, kernel=3, padding="skipped") == (2 * 100, 4)
    # SAME at stride 2 pads one side only: outputs start at pixels 0 and 2, the last tap is outside.
    assert conv(4, 1, 1, kernel=3, stride=2, same=True, padding="skipped") == (2 * 25, 2)


def test_use_builds_the_same_system_without_the_card():
    card = baselines.system("hybrid-micro")
    use = SystemUse.model_validate_json(baselines.use(card).model_dump_json())
    model = build(use, num_classes=3, image_size_px=card.image_size_px)
    assert model.system == use
    with pytest.raises(UserError, match="image_size_px is needed"):
        build(use, num_classes=3)


def test_wrong_recipe_names_its_key(monkeypatch, tmp_path):
    (tmp_path / "recipes.toml").write_text("[mine]\nsteps = 0\nbatch_size = 1\n")
    monkeypatch.setattr(baselines, "files", lambda package: tmp_path)
    baselines.recipes.cache_clear()
    try:
        with pytest.raises(SuiteError, match=r"recipes.toml: mine.steps"):
            baselines.recipes()
    finally:
        baselines.recipes.cache_clear()


def test_importing_baselines_needs_no_torch():
    code = "import baselines, sys; baselines.systems(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
