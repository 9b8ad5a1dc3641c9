"""Protocols by name: how images are prepared for training and for scoring, and at which size.

A protocol that comes to mean something else gets a new version or a new name. Each says where it is
taken from. They are kept next to the recipes, because what is published is compared with both.
"""

from __future__ import annotations

from bench.specs import Protocol


def _micro(pretrain_px: int, transfer_px: int) -> tuple[Protocol, ...]:
    """Return the protocols of micro systems for pictures of their own: transfer at one size."""
    return (
        Protocol(
            name=f"pretrain-micro-{pretrain_px}",
            image_size_px=pretrain_px,
            train_transform="shift-flip",
            eval_transform="resize",
            source="as pretrain-micro",
        ),
        Protocol(
            name=f"finetune-micro-{transfer_px}",
            image_size_px=transfer_px,
            train_transform="shift",
            eval_transform="resize",
            source="as finetune-micro",
        ),
        _frozen_micro(transfer_px),
    )


def _frozen_micro(size_px: int) -> Protocol:
    return Protocol(
        name=f"frozen-micro-{size_px}",
        image_size_px=size_px,
        train_transform="resize",
        eval_transform="resize",
        source="frozen features at the size of fine-tuning, so that both see the same",
    )


PROTOCOLS = {
    item.name: item
    for item in (
        Protocol(
            name="pretrain-micro",
            image_size_px=12,
            train_transform="shift-flip",
            eval_transform="resize",
            source="miniature of arXiv:2010.11929, section 4.1: shifts in place of crops, "
            "which would remove most of a tiny image",
        ),
        Protocol(
            name="finetune-micro",
            image_size_px=16,
            train_transform="shift",
            eval_transform="resize",
            source="miniature of arXiv:2010.11929, section 4.1: higher resolution than in "
            "pre-training; no flips, because a flipped digit is another sign",
        ),
        Protocol(
            name="fewshot-micro",
            image_size_px=12,
            train_transform="resize",
            eval_transform="resize",
            source="miniature of arXiv:2010.11929, section 4.1: frozen features of plain images",
        ),
        *(
            protocol
            for small_px, size_px in ((24, 32), (48, 64))
            for protocol in _micro(small_px, size_px)
        ),
        _frozen_micro(16),
        Protocol(
            name="vtab-micro",
            image_size_px=16,
            train_transform="resize",
            eval_transform="resize",
            splits="vtab-1k",
            source="miniature of vtab-384: no augmentation, which would change what some tasks ask",
        ),
        Protocol(
            name="vit-pretrain",
            version=2,
            image_size_px=224,
            train_transform="vit-train",
            eval_transform="resize",
            source="arXiv:2010.11929, section 4.1 and Table 3",
        ),
        Protocol(
            name="vit-finetune",
            version=2,
            image_size_px=384,
            train_transform="vit-train",
            eval_transform="resize",
            source="arXiv:2010.11929, Table 4; crop and plain resize as in the authors' code "
            "(google-research/vision_transformer, input_pipeline.py)",
        ),
        Protocol(
            name="vit-finetune-512",
            version=2,
            image_size_px=512,
            train_transform="vit-train",
            eval_transform="resize",
            source="arXiv:2010.11929, section 4.1: ViT-L/16 on ImageNet in Table 2",
        ),
        Protocol(
            name="vit-finetune-518",
            version=2,
            image_size_px=518,
            train_transform="vit-train",
            eval_transform="resize",
            source="arXiv:2010.11929, section 4.1: ViT-H/14 on ImageNet in Table 2",
        ),
        Protocol(
            name="vit-finetune-antialias",
            version=2,
            image_size_px=384,
            train_transform="vit-train",
            eval_transform="resize-antialias",
            source="as vit-finetune, but test images shrink with antialiasing, as Pillow and "
            "torchvision do; the authors' code does not",
        ),
        Protocol(
            name="vit-fewshot",
            image_size_px=224,
            train_transform="fewshot",
            eval_transform="fewshot",
            fewshot_pool=65_000,
            source="google-research/big_vision, configs/common_fewshot.py: of ImageNet, the only "
            "one of its sets that has as many, train[:65000]",
        ),
        Protocol(
            name="bit-small",
            image_size_px=128,
            train_transform="bit-train",
            eval_transform="resize",
            source="BiT-HyperRule for images of less than 96 x 96 pixels: resize to 160, crop 128 "
            "(arXiv:1912.11370, section 3.3)",
        ),
        Protocol(
            name="bit-large",
            image_size_px=480,
            train_transform="bit-train",
            eval_transform="resize",
            source="BiT-HyperRule for images of 96 x 96 pixels and more: resize to 512, crop 480 "
            "(arXiv:1912.11370, section 3.3: R152x4; the authors' code: every system)",
        ),
        Protocol(
            name="bit-384",
            image_size_px=384,
            train_transform="bit-train",
            eval_transform="resize",
            source="BiT-HyperRule for images of 96 x 96 pixels and more: resize to 448, crop 384 "
            "(arXiv:1912.11370, section 3.3: all systems but R152x4)",
        ),
        Protocol(
            name="vtab-384",
            version=2,
            image_size_px=384,
            train_transform="resize-legacy",
            eval_transform="resize-legacy",
            splits="vtab-1k",
            source="arXiv:2010.11929, appendix B.1.1; google-research/task_adaptation, whose "
            "resize is TensorFlow 1's",
        ),
    )
}

PREPARATIONS = {
    "resize": "resize, two taps",
    "resize-antialias": "resize, antialiased",
    "resize-legacy": "resize, TensorFlow 1's",
    "fewshot": "resize to 8/7 of the side, two taps, then its centre",
    "vit-train": "Inception crop, two taps, flip",
    "bit-train": "resize to a larger square, two taps, random crop, flip",
    "shift": "resize, two taps, moved by up to an eighth",
    "shift-flip": "resize, two taps, moved by up to an eighth, flip",
}
"""What the presets of protocols do to an image, in words: the resize rule with them. Two taps are
TensorFlow 2's bilinear rule, without antialiasing (`bench/data/taps.py`)."""
