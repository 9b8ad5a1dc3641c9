"""What a job holds in the memory of one device, in closed form. Runs nothing.

    states        weights, gradients, optimizer states and averages, in float32
    shared        what autocast and weight standardization keep once for a pass
    saved         on a CPU, the copy of weights and optimizer states that checkpoints are written of
    each image    what the backward pass needs of it, its logits, its pixels, and the widest layer

A batch is trained on in pieces, one after another: states do not depend on their number, the rest
does. What a family keeps is said in `baselines/<family>.py` and checked against autograd. What
allocators and libraries add is not in it: `bench/plan/fitting.py` leaves room for them.

>>> vit, recipe = baselines.system("ViT-B/16"), baselines.recipe("vit-finetune-imagenet")
>>> found = training(vit, recipe, image_size_px=384, num_classes=1000, device="cuda")
>>> round(found.gib(512)), found.most_images(80)
(173, 234)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import baselines
from baselines.family import Sizes
from baselines.footprint import FLOAT, Footprint, Numerics
from bench.specs import DeviceKind, JobSpec, Precision, Recipe, SystemCard, SystemUse

System = SystemCard | SystemUse
GIB = 2**30

NUM_COLOURS = 512
"""Outputs for each corrupted patch in masked patch prediction."""


@dataclass(frozen=True)
class Memory:
    """Memory of one device in a kind of work, by what holds it."""

    weights_gib: float
    """Weights, in float32."""
    gradients_gib: float
    """Gradients, in float32; 0 where nothing is trained."""
    optimizer_gib: float
    """Moments of the optimizer and averages of the weights, in float32."""
    shared_gib: float
    """Cast and standardized weights, kept once for each pass."""
    image_gib: float
    """What each image of a pass adds."""
    saved_gib: float = 0.0
    """On a CPU, the copy that a checkpoint is written from; an accelerator's is the host's."""

    @property
    def fixed_gib(self) -> float:
        """What is held whatever the number of images."""
        states_gib = self.weights_gib + self.gradients_gib + self.optimizer_gib
        return states_gib + self.shared_gib + self.saved_gib

    def sharded(self, workers: int) -> Memory:
        """Return the memory of one of some workers that each keep a shard of the states."""
        return replace(
            self,
            weights_gib=self.weights_gib / workers,
            gradients_gib=self.gradients_gib / workers,
            optimizer_gib=self.optimizer_gib / workers,
        )

    def gib(self, num_images: int) -> float:
        """Return the memory of a pass over some images."""
        return self.fixed_gib + num_images * self.image_gib

    def most_images(self, limit_gib: float) -> int:
        """Return the most images of a pass within a limit; 0 where not one fits."""
        return max(0, int((limit_gib - self.fixed_gib) / self.image_gib))


def training(
    system: System,
    recipe: Recipe,
    *,
    image_size_px: int,
    num_classes: int,
    device: DeviceKind,
    pretraining: bool = False,
) -> Memory:
    """Return the memory of training steps; the images of a pass are those of one piece.

    `pretraining` asks for the head that the authors pre-train with. Raises UserError for an
    impossible image size.
    """
    sizes = baselines.sizes(system)
    numerics = numerics_of(recipe.precision, device, dropout=recipe.dropout > 0)
    kept = _footprint(sizes, image_size_px, numerics)
    weights = FLOAT * _num_params(
        sizes, image_size_px, num_outputs=num_classes, pretraining=pretraining
    )
    moments = 2 if recipe.optimizer == "adam" else 1
    averages = 0 if recipe.polyak is None else 1
    logits = _num_logits(sizes, recipe, image_size_px, num_classes)
    image = kept.trained + logits * _logit_bytes(recipe, numerics)
    return Memory(
        weights_gib=weights / GIB,
        gradients_gib=weights / GIB,
        optimizer_gib=(moments + averages) * weights / GIB,
        shared_gib=kept.shared / GIB,
        image_gib=(image + _input_bytes(recipe, image_size_px, device)) / GIB,
        saved_gib=(1 + moments + averages) * weights / GIB if device == "cpu" else 0.0,
    )


def inference(
    system: System,
    *,
    image_size_px: int,
    num_classes: int,
    device: DeviceKind,
    precision: Precision = "float32",
    trained: bool = False,
) -> Memory:
    """Return the memory of passes that keep nothing; `trained`: gradients are still there."""
    sizes = baselines.sizes(system)
    kept = _footprint(sizes, image_size_px, numerics_of(precision, device))
    weights_gib = FLOAT * _num_params(sizes, image_size_px, num_outputs=num_classes) / GIB
    pixels = 3 * FLOAT * image_size_px**2
    return Memory(
        weights_gib=weights_gib,
        gradients_gib=weights_gib if trained else 0.0,
        optimizer_gib=0.0,
        shared_gib=kept.shared / GIB,
        # Images are read as float32 before they are brought to the range of the model.
        image_gib=(kept.widest + 2 * pixels + FLOAT * num_classes) / GIB,
    )


def of_job(spec: JobSpec) -> tuple[Memory | None, Memory | None]:
    """Return the memory of a job's training, and of its passes without; None where it has none."""
    size_px, classes = spec.image_size_px, spec.num_classes
    if size_px is None or spec.data is None:
        return None, None
    trained = None
    if spec.recipe is not None:
        trained = training(
            spec.system, spec.recipe, image_size_px=size_px, num_classes=classes or 0,
            device=spec.device, pretraining="checkpoint" not in spec.needs,
        )  # fmt: skip
    return trained, inference(
        spec.system, image_size_px=size_px, num_classes=classes or 0, device=spec.device,
        trained=trained is not None,
    )  # fmt: skip


def numerics_of(precision: Precision, device: DeviceKind, *, dropout: bool = False) -> Numerics:
    """Return how a precision is computed on a device, as far as memory depends on it."""
    half = precision in ("bfloat16", "float16")
    return Numerics(
        product=2 if half else FLOAT,
        norm=2 if half and device == "cpu" else FLOAT,
        fused=device != "cpu",
        dropout=dropout,
    )


def _num_params(
    sizes: Sizes, image_size_px: int, *, num_outputs: int, pretraining: bool = False
) -> int:
    """Return the parameters of the encoder and of all layers behind it."""
    hidden = sizes.pre_logits_dim(pretraining=pretraining)
    behind = (sizes.feature_dim + 1) * hidden + ((hidden or sizes.feature_dim) + 1) * num_outputs
    return _encoder_params(sizes, image_size_px) + behind


@functools.lru_cache
def _encoder_params(sizes: Sizes, image_size_px: int) -> int:
    return sizes.num_params(image_size_px)


@functools.lru_cache
def _footprint(sizes: Sizes, image_size_px: int, numerics: Numerics) -> Footprint:
    """Return a footprint: the jobs of a suite have few different ones."""
    sizes.check_image(image_size_px)
    return sizes.footprint(image_size_px, numerics)


def _num_logits(sizes: Sizes, recipe: Recipe, image_size_px: int, num_classes: int) -> int:
    """Return the outputs for an image: of its classes, or of the colours of half its patches."""
    if recipe.objective == "classification":
        return num_classes
    side = image_size_px // sizes.stride_px
    return NUM_COLOURS * side * side // 2


def _logit_bytes(recipe: Recipe, numerics: Numerics) -> int:
    """Return the bytes of a logit: as the head gives it, its gradient, and what the loss keeps.

    Softmax keeps log-probabilities. The sigmoid's targets are made as 64-bit numbers first, and its
    losses are one for each class. With mixup there are two losses of the same logits.
    """
    of_loss = FLOAT if recipe.loss == "softmax" else 4 * FLOAT
    own = FLOAT + numerics.product * int(numerics.casts)
    return 2 * own + of_loss * (2 if recipe.mixup else 1)


def _input_bytes(recipe: Recipe, image_size_px: int, device: DeviceKind) -> int:
    """Return the bytes of an image's pixels, in float32.

    The piece in hand; on an accelerator the next one, and what it is made of; with mixup the other
    image, both shares and their sum.
    """
    copies = (1 if device == "cpu" else 3) + (3 if recipe.mixup else 0)
    return copies * 3 * FLOAT * image_size_px**2
