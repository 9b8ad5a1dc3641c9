"""Where pre-trained weights can be obtained: official addresses, file layouts, licences.

Sources: the READMEs of google-research/vision_transformer and google-research/big_transfer, and the
AugReg index. No digest of these files is known to be published, and their names carry none: a work
folder records them on first use (`bench/digests.py`). Weights trained on JFT-300M were never
published; that is said, not left out.
"""

from __future__ import annotations

from bench.specs import Training, WeightsSource

_IMAGENET = Training(dataset="imagenet-1k")
_IMAGENET_21K = Training(dataset="imagenet-21k")

_VIT = "https://storage.googleapis.com/vit_models"
_BIT = "https://storage.googleapis.com/bit_models"

_AUGREG = {
    "Ti_16": "lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
    "S_32": "lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
    "S_16": "lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
    "B_32": "lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0",
    "B_16": "lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0",
    "L_16": "lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1",
    "R26_S_32": "lr_0.001-aug_medium2-wd_0.03-do_0.0-sd_0.0",
    "R50_L_32": "lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0",
}

JFT = WeightsSource(
    name="jft",
    url="",
    trained_on=(Training(dataset="jft-300m"),),
    licence="not released",
    note="not public: the paper's JFT-300M weights and data were never released",
)
"""The weights behind the paper's main tables."""


def original(file: str, *, representation_dim: int) -> WeightsSource:
    """Return the ViT paper's ImageNet-21k weights, such as `ViT-B_16`."""
    return WeightsSource(
        name="in21k",
        url=f"{_VIT}/imagenet21k/{file}.npz",
        layout="npz",
        trained_on=(_IMAGENET_21K,),
        licence="Apache-2.0",
        note=f"21,843 classes; has a representation layer (representation_dim="
        f'{representation_dim}): build with it, or load with head="drop"',
    )


def fine_tuned(file: str) -> WeightsSource:
    """Return the ViT paper's weights fine-tuned on ImageNet at 384 px."""
    return WeightsSource(
        name="in21k-in1k",
        url=f"{_VIT}/imagenet21k+imagenet2012/{file}.npz",
        layout="npz",
        trained_on=(_IMAGENET_21K, Training(dataset="imagenet-1k", image_size_px=384)),
        licence="Apache-2.0",
        note="1,000 classes",
    )


def augreg(name: str) -> WeightsSource:
    """Return AugReg's ImageNet-21k weights that its authors recommend, such as `B_16`."""
    return WeightsSource(
        name="augreg-in21k",
        url=f"{_VIT}/augreg/{name}-i21k-300ep-{_AUGREG[name]}.npz",
        layout="npz",
        trained_on=(_IMAGENET_21K,),
        release="AugReg's",
        licence="Apache-2.0",
        note="21,843 classes; arXiv:2106.10270",
    )


def bit(name: str) -> tuple[WeightsSource, ...]:
    """Return the public weights of a BiT ResNet, such as `R50x1`."""
    files = (
        ("in1k", f"BiT-S-{name}", (_IMAGENET,), "BiT-S; 1,000 classes"),
        ("in21k", f"BiT-M-{name}", (_IMAGENET_21K,), "BiT-M; 21,843 classes"),
        (
            "in21k-in1k",
            f"BiT-M-{name}-ILSVRC2012",
            (_IMAGENET_21K, _IMAGENET),
            "1,000 classes",
        ),
    )
    return tuple(
        WeightsSource(
            name=short,
            url=f"{_BIT}/{file}.npz",
            layout="npz",
            trained_on=trained_on,
            licence="Apache-2.0",
            note=note,
        )
        for short, file, trained_on, note in files
    )
