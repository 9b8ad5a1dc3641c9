"""BiT-HyperRule: which recipe and which image size a data set is fine-tuned with.

Source: arXiv:1912.11370, sections 2.2 and 3.3; google-research/big_transfer, `bit_hyperrule.py`.
The two differ, so both are named: the paper decays at 30, 60 and 90 % of the steps and crops 384 px
of 448 (480 of 512 with R152x4); the code has a warm-up, decays small sets at 40, 60 and 80 %, and
crops 480 of 512 px with every system.
"""

from __future__ import annotations

from typing import Literal

SMALL_EXAMPLES, MEDIUM_EXAMPLES = 20_000, 500_000
"""Training sets of fewer examples are small, or medium; the others are large."""

SMALL_IMAGE_PX = 96
"""Images of a smaller area than the square of this side are enlarged less."""


def hyperrule(
    num_examples: int,
    image_size_px: int,
    *,
    variant: Literal["paper", "code"] = "paper",
    system: str = "",
) -> tuple[str, str]:
    """Return the names of recipe and protocol for a training set.

    `image_size_px` is the side of its images (the root of their area); `system` the card's name,
    which counts for one system of the paper only.

    >>> hyperrule(50_000, 32)
    ('bit-hyperrule-medium', 'bit-small')
    >>> hyperrule(1020, 500, variant="code")
    ('bit-hyperrule-small-code', 'bit-large')
    """
    if num_examples < SMALL_EXAMPLES:
        size = "small"
    else:
        size = "medium" if num_examples < MEDIUM_EXAMPLES else "large"
    recipe = f"bit-hyperrule-{size}" + ("-code" if variant == "code" else "")
    if image_size_px < SMALL_IMAGE_PX:
        return recipe, "bit-small"
    larger = variant == "code" or system == "bit-r152x4"
    return recipe, "bit-large" if larger else "bit-384"
