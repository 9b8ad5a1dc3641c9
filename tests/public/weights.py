"""Weights in the owners' layouts where a download would put them: true names and shapes.

The values are random, so that the digests are not those of the owners, who publish none.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

import baselines
from bench import models
from bench.models.fetch import cached

NUM_CLASSES = {"in21k": 21_843, "in1k": 1000}
"""Outputs of the owners' classifiers, by the name of the weights."""


def write(system: str, name: str, checkpoints: Path) -> Path:
    """Write the weights `name` of a system into torch.hub's folder of checkpoints."""
    source = next(entry for entry in baselines.system(system).weights if entry.name == name)
    path = cached(source.url, checkpoints)
    if path.exists():
        return path
    width = re.search(r"representation_dim=(\d+)", source.note)
    model = models.build(
        system,
        num_classes=NUM_CLASSES[name],
        image_size_px=224,
        generator=torch.Generator().manual_seed(0),
        **({"representation_dim": int(width[1])} if width else {}),
    )
    with torch.no_grad():
        model.head.weight.normal_(std=0.01, generator=torch.Generator().manual_seed(1))
    path.parent.mkdir(parents=True, exist_ok=True)
    return models.save_weights(model, path, layout=source.layout)
