"""Numbers of the papers that several rooms need, each stated once. Imports nothing.

Sources: arXiv:2010.11929 ("ViT"), section 4.1 and appendix D.4; arXiv:1910.04867 ("VTAB");
arXiv:1409.0575 (ImageNet). Where a number was not looked up but recalled, its line says so.
"""

from __future__ import annotations

# --- upstream data ----------------------------------------------------------------------------

IMAGENET_TRAIN = 1_281_167
"""Training images of ImageNet (ILSVRC 2012)."""
IMAGENET_VAL = 50_000
"""Validation images of ImageNet, which papers report on."""
IMAGENET_21K_IMAGES = 14_197_122
"""Images of ImageNet-21k, fall 2011 release (recalled)."""
JFT_IMAGES = 303_000_000
"""Images of JFT-300M, as the ViT paper counts them."""

UPSTREAM_IMAGES = {"imagenet-1k": 1.3e6, "imagenet-21k": 14e6, "jft-300m": 303e6}
"""Images of the ViT paper's upstream data sets, rounded as its section 4.1 states them."""

# --- downstream data --------------------------------------------------------------------------

TRAIN_EXAMPLES = {
    "imagenet-1k": IMAGENET_TRAIN,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "oxford-pets": 3680,
    "oxford-flowers102": 2040,
}
"""Training images of the ViT paper's downstream data sets (and BiT's), by card."""

FEWSHOT_L2 = 1024.0
"""Weight of the squared norm in the paper's few-shot regression (big_vision, fewshot_lsr.py)."""

# --- VTAB-1k ----------------------------------------------------------------------------------

VTAB_TRAIN, VTAB_VAL = 800, 200
"""Examples that VTAB-1k trains on while it chooses, and chooses on."""
VTAB_EXAMPLES = VTAB_TRAIN + VTAB_VAL
"""Examples that VTAB-1k trains on in the end."""

VTAB_SPLITS = {"train800": VTAB_TRAIN, "val200": VTAB_VAL, "train800val200": VTAB_EXAMPLES}
"""Splits that every set of 1,000 training images has, stored or not, with their sizes."""

NATURAL, SPECIALIZED, STRUCTURED = "natural", "specialized", "structured"
VTAB_GROUPS = {NATURAL: 7, SPECIALIZED: 4, STRUCTURED: 8}
"""Tasks in each group of VTAB."""
VTAB_TASKS = sum(VTAB_GROUPS.values())
"""Tasks of VTAB; the paper's mean is the plain one over all of them."""
