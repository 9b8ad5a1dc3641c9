"""Systems as torch modules with one contract, and their weights in and out.

Every model has `features(x_BCHW) -> z_BD` (the representation that few-shot probes see), `head`
(the last linear layer, zero at the start) and `forward(x_BCHW) -> logits_BK = head(features(x))`.
Images are float32 in [-1, 1], RGB.
"""

from __future__ import annotations

from bench.models.build import Classifier, build
from bench.models.state import encoder_state, interpolate_positions, load_encoder
from bench.models.weights import load_model, load_weights, save_weights

__all__ = [
    "Classifier",
    "build",
    "encoder_state",
    "interpolate_positions",
    "load_encoder",
    "load_model",
    "load_weights",
    "save_weights",
]
