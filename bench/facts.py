"""Numbers of the papers that several rooms need, each stated once. Imports nothing.

Sources: arXiv:2010.11929 ("ViT"), section 4.1, Tables 7 and 9; arXiv:1910.04867 ("VTAB");
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
VTAB_MEMBERS = {
    NATURAL: (
        "vtab-caltech101", "vtab-cifar100", "vtab-dtd", "vtab-flowers102", "vtab-pets",
        "vtab-svhn", "vtab-sun397",
    ),
    SPECIALIZED: ("vtab-camelyon", "vtab-eurosat", "vtab-resisc45", "vtab-retinopathy"),
    STRUCTURED: (
        "vtab-clevr-count", "vtab-clevr-dist", "vtab-dmlab", "vtab-kitti-dist",
        "vtab-dsprites-loc", "vtab-dsprites-ori", "vtab-smallnorb-azim", "vtab-smallnorb-elev",
    ),
}  # fmt: skip
"""Cards of the tasks in each group of VTAB."""
VTAB_OWN_READERS = (
    "clevr-count", "clevr-dist", "kitti-dist", "dsprites-loc", "dsprites-ori", "smallnorb-azim",
    "smallnorb-elev",
)  # fmt: skip
"""Readers of the owners' own files: as many images as the benchmark takes, drawn with seed 0."""
VTAB_GROUPS = {name: len(tasks) for name, tasks in VTAB_MEMBERS.items()}
"""Number of tasks in each group."""
VTAB_TASKS = sum(VTAB_GROUPS.values())
"""Number of tasks."""

# --- means that papers report -----------------------------------------------------------------

AVERAGES = {
    "Average-5": ("imagenet-1k", "cifar10", "cifar100", "oxford-pets", "oxford-flowers102"),
    "VTAB-1k": tuple(task for tasks in VTAB_MEMBERS.values() for task in tasks),
    **{f"VTAB-1k-{name}": tasks for name, tasks in VTAB_MEMBERS.items()},
}
"""Data sets behind a reported mean, by the name that `published.csv` has in `dataset_id`. Each is
the plain mean over its data sets; that of VTAB is over all tasks, not over the groups' means."""

MARGIN = 0.005
"""Largest difference that counts as the same result in practice: half a point of accuracy."""
