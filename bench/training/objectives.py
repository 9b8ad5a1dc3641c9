"""What a training run minimizes: the loss of a class, or of the colours of masked patches.

Classification follows arXiv:2010.11929, section 4.1, with mixup as in the authors' BiT code.

Masked patch prediction follows section 4.6 and appendix B.1.2: half of the patch embeddings of an
image are corrupted: 80 % of them become a learned [mask] embedding, 10 % that of another patch, and
10 % stay. For each of them the mean colour of the patch, three bits a channel (512 classes), is
predicted from its representation. Not printed, and our reading: exactly half of the patches of
every image, rounded, at least one; another patch is one of the same image; the target is the image
that the encoder sees, after augmentation; the loss is the mean over corrupted patches, and the
predictor is one linear layer.

Draws are a function of (seed, step) and of an image's place in its batch, made on the host, so that
every device sees the same, and every piece of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import baselines
from bench.data import loader
from bench.errors import JobError
from bench.models import Classifier
from bench.specs import Recipe
from bench.training.optimizer import loss_of

NUM_COLOURS = 512
"""Classes of a patch: three bits for the mean of red, green and blue each."""

CORRUPTED, MASKED, REPLACED = 0.5, 0.8, 0.1
"""Share of patches that are corrupted; of these, masked, and replaced by another patch."""

_MIXUP_STREAM = 1
_MASK_STREAM = 2
"""Tell the draws of a seed and step from each other."""

Forward = Callable[..., Tensor]


class Place(NamedTuple):
    """Which images of which batch are looked at."""

    step: int
    """The batch."""
    rows_B: np.ndarray
    """Their places in it (int64), as `Part.rows` has them."""
    batch_size: int
    """Images of the whole batch."""


class Objective(Protocol):
    """The loss of one step."""

    def loss(self, forward: Forward, x_BCHW: Tensor, labels_B: Tensor, place: Place) -> Tensor:
        """Return the mean loss of these images; `forward` runs the model in the recipe's precision.

        Means over the parts of a batch, weighted by their images, add up to that of the batch.
        """
        ...


def of(model: nn.Module, recipe: Recipe, *, seed: int) -> Objective:
    """Return the objective that the recipe names; raise JobError where the model has none such."""
    if recipe.objective == "classification":
        return Classification(recipe, seed=seed)
    if not isinstance(model, MaskedPatches):
        raise JobError(
            "masked patch prediction needs a model that predicts patches",
            hint="Wrap the model in bench.objectives.MaskedPatches",
        )
    return MaskedPatchPrediction(model, seed=seed)


# --- classes ----------------------------------------------------------------------------------


class Classification:
    """Cross-entropy over classes, of images mixed in pairs where the recipe has mixup."""

    def __init__(self, recipe: Recipe, *, seed: int) -> None:
        self._recipe = recipe
        self._seed = seed

    def loss(self, forward: Forward, x_BCHW: Tensor, labels_B: Tensor, place: Place) -> Tensor:
        """Return the mean loss of these images; each is mixed with its mirror in the batch."""
        recipe = self._recipe
        if not recipe.mixup:
            return self._of(forward(x_BCHW), labels_B)
        share = mixup_share(recipe.mixup, seed=self._seed, step=place.step)
        logits_BK = forward(share * x_BCHW + (1 - share) * x_BCHW.flip(0))
        own, other = (self._of(logits_BK, labels) for labels in (labels_B, labels_B.flip(0)))
        return share * own + (1 - share) * other

    def _of(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        smoothing = self._recipe.label_smoothing
        return loss_of(logits_BK, labels_B, loss=self._recipe.loss, label_smoothing=smoothing)


def mixup_share(alpha: float, *, seed: int, step: int) -> float:
    """Return the share of the batch itself in its mixture: beta(alpha, alpha) of (seed, step).

    The rest comes from the batch in reversed order, as in the authors' code (big_transfer, JAX).
    """
    return float(np.random.default_rng((seed, step, _MIXUP_STREAM)).beta(alpha, alpha))


# --- masked patches ---------------------------------------------------------------------------


class Corruption(NamedTuple):
    """Which patches of a batch are corrupted, and how; indices count patches in raster order."""

    where_BM: np.ndarray
    """Corrupted patches of each image, int64."""
    source_BM: np.ndarray
    """Patch whose embedding is put there: another, or the same where it stays; int64."""
    masked_BM: np.ndarray
    """Whether the [mask] embedding is put there instead, bool."""


def corruption(batch_size: int, num_patches: int, *, seed: int, step: int) -> Corruption:
    """Draw the corruption of a batch from (seed, step); an image has at least two patches."""
    rng = np.random.default_rng((seed, step, _MASK_STREAM))
    num_corrupted = max(1, round(CORRUPTED * num_patches))
    order_BN = rng.random((batch_size, num_patches)).argsort(axis=1)
    where_BM = order_BN[:, :num_corrupted]
    kind_BM = rng.random(where_BM.shape)
    other_BM = (where_BM + rng.integers(1, num_patches, size=where_BM.shape)) % num_patches
    replaced_BM = (kind_BM >= MASKED) & (kind_BM < MASKED + REPLACED)
    return Corruption(where_BM, np.where(replaced_BM, other_BM, where_BM), kind_BM < MASKED)


def patch_colours(x_BCHW: Tensor, patch_px: int) -> Tensor:
    """Return the class colours_BN (int64) of every patch: 64 red + 8 green + blue.

    Each is the mean of the patch's pixels, in [-1, 1], on eight equal steps. Pixels that no whole
    patch covers are left out.
    """
    mean_BCHW = functional.avg_pool2d(x_BCHW.float(), patch_px)
    bits_BCHW = ((mean_BCHW + 1) * 4).floor().clamp(0, 7).long()
    return (bits_BCHW[:, 0] * 64 + bits_BCHW[:, 1] * 8 + bits_BCHW[:, 2]).flatten(1)


class MaskedPatches(nn.Module):
    """A ViT encoder that predicts the colours of corrupted patches.

    Its encoder's weights are named as those of a classifier; `mask_embedding` and `patch_head` are
    dropped in transfer.
    """

    def __init__(self, model: Classifier, *, generator: torch.Generator) -> None:
        """Take over the encoder of `model`; raise JobError unless it is a ViT with two patches."""
        super().__init__()
        family = baselines.family_of(model.system)
        if not family.has_patches:
            raise JobError(
                f"masked patch prediction is for ViTs, not for the {family.name} family",
                hint="Choose a system with patches of pixels, or another recipe",
            )
        encoder = model.encoder
        self.patch_px: int = encoder.patch_embed.patch_size[0]  # type: ignore[union-attr, index, assignment]
        self.num_patches: int = encoder.patch_embed.num_patches  # type: ignore[union-attr, assignment]
        if self.num_patches < 2:
            raise JobError(
                f"an image of {model.image_size_px} px is a single patch: nothing to predict it "
                "from",
                hint="Choose a larger image size",
            )
        width = int(encoder.embed_dim)  # type: ignore[arg-type]
        device = next(encoder.parameters()).device
        self.encoder = encoder
        self.mask_embedding = nn.Parameter(torch.empty(1, 1, width))
        nn.init.normal_(self.mask_embedding, std=0.02, generator=generator)
        self.patch_head = nn.Linear(width, NUM_COLOURS)
        nn.init.zeros_(self.patch_head.weight)
        nn.init.zeros_(self.patch_head.bias)
        self.to(device)

    def forward(
        self, x_BCHW: Tensor, where_BM: Tensor, source_BM: Tensor, masked_BM: Tensor
    ) -> Tensor:
        """Return logits_BMC of the colours of the corrupted patches."""
        encoder = self.encoder
        patches_BND: Tensor = encoder.patch_embed(x_BCHW)  # type: ignore[operator]
        width = patches_BND.shape[2]
        sources_BMD = patches_BND.gather(1, _rows(source_BM, width))
        mask_BMD = self.mask_embedding.to(sources_BMD.dtype).expand_as(sources_BMD)
        put_BMD = torch.where(masked_BM[:, :, None], mask_BMD, sources_BMD)
        patches_BND = patches_BND.scatter(1, _rows(where_BM, width), put_BMD)
        tokens_BTD: Tensor = encoder.encode(patches_BND)  # type: ignore[operator]
        ours_BND = tokens_BTD[:, tokens_BTD.shape[1] - self.num_patches :]
        logits_BMC: Tensor = self.patch_head(ours_BND.gather(1, _rows(where_BM, width)))
        return logits_BMC


class MaskedPatchPrediction:
    """Cross-entropy over the 512 mean colours of corrupted patches; labels are not used."""

    def __init__(self, model: MaskedPatches, *, seed: int) -> None:
        self._patch_px = model.patch_px
        self._num_patches = model.num_patches
        self._seed = seed

    def loss(self, forward: Forward, x_BCHW: Tensor, labels_B: Tensor, place: Place) -> Tensor:
        """Return the mean loss over the corrupted patches of these images."""
        del labels_B
        step, rows_B, num = place
        drawn = corruption(num, self._num_patches, seed=self._seed, step=step)
        where_BM, source_BM, masked_BM = (
            loader.to_device(values[rows_B], x_BCHW.device) for values in drawn
        )
        logits_BMC = forward(x_BCHW, where_BM, source_BM, masked_BM)
        colours_BM = patch_colours(x_BCHW, self._patch_px).gather(1, where_BM)
        return functional.cross_entropy(logits_BMC.flatten(0, 1).float(), colours_BM.flatten())


def _rows(indices_BM: Tensor, width: int) -> Tensor:
    """Return the indices repeated over the width, as gather and scatter want them."""
    return indices_BM[:, :, None].expand(-1, -1, width)
