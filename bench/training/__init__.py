"""Training and scoring a model: one loop, its objectives and optimizer, checkpoints that survive.

loop.py          training, for pre-training and fine-tuning alike
scoring.py       hits, classes, scores and features of frozen weights
objectives.py    what is minimized
arithmetic.py    what float32, tf32, bfloat16 and float16 mean; same bits again
optimizer.py     how a single update is made
checkpoint.py    checkpoints, and files of weights
memory.py        exhausted memory; what the C library keeps of freed memory
fastest.py       which kernels are fastest here, measured once, checked, remembered
devices.py       what differs between a CPU, a GPU and a TPU, but for arithmetic
"""

from bench.training.checkpoint import Checkpoints, read_tensors, replace_file, write_tensors
from bench.training.loop import BatchSource, Training, train
from bench.training.objectives import MaskedPatches
from bench.training.scoring import classify, evaluate, extract_features, scores

__all__ = [
    "BatchSource",
    "Checkpoints",
    "MaskedPatches",
    "Training",
    "classify",
    "evaluate",
    "extract_features",
    "read_tensors",
    "replace_file",
    "scores",
    "train",
    "write_tensors",
]
