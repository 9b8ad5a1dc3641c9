"""From a card to a torch module.

Source of the heads: arXiv:2010.11929, sections 3.1 and 3.2: an MLP with one tanh hidden layer in
pre-training, a single zero-initialized linear layer in transfer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

import baselines
from baselines.family import Sizes, arguments, positive
from baselines.initial import lecun_normal
from bench.errors import UserError
from bench.models import kernels
from bench.specs import Scalar, SystemCard, SystemUse


class Classifier(nn.Module):
    """An encoder, an optional representation layer (dense + tanh) and a linear head."""

    def __init__(
        self,
        encoder: nn.Module,
        *,
        system: SystemUse,
        image_size_px: int,
        encoder_dim: int,
        representation_dim: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_dim = representation_dim or encoder_dim
        self.pre_logits = nn.Linear(encoder_dim, representation_dim) if representation_dim else None
        self.head = nn.Linear(self.feature_dim, num_classes)
        self.system = system
        self.image_size_px = image_size_px
        self._choose_kernels()

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the representation z_BD that the head sees, of width `feature_dim`."""
        z_BD: Tensor = self.encoder(x_BCHW)
        return z_BD if self.pre_logits is None else torch.tanh(self.pre_logits(z_BD))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK of images x_BCHW in [-1, 1]."""
        logits_BK: Tensor = self.head(self.features(x_BCHW))
        return logits_BK

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # torch calls this whenever the model moves: the right kernels depend on where it is.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._choose_kernels()
        return self

    def _choose_kernels(self) -> None:
        kernels.put(self.encoder, kernels.default(self.head.weight.device.type))


def build(
    system: str | SystemCard | SystemUse,
    *,
    num_classes: int,
    image_size_px: int | None = None,
    generator: torch.Generator | None = None,
    pretraining_head: bool = False,
    dropout: float = 0.0,
    **overrides: Scalar | tuple[int, ...],
) -> Classifier:
    """Return a system as a module, its weights drawn from `generator`.

    Args:
        system: a card, its name, or the part of a card that stands in a job.
        num_classes: K, outputs of the head.
        image_size_px: side of the input; the card's own when left out.
        generator: a CPU generator; one of seed 0 when left out. The same seed gives the same bits.
        pretraining_head: put the paper's dense + tanh layer before the head (ViT and hybrid; BiT
            has a linear head always).
        dropout: rate after dense layers and position embeddings (ViT, hybrid), or on the features
            (CNN).
        overrides: any argument of the family (see `baselines/<family>.py`), such as `depth=2`; and
            `implementation="timm"` for timm's own choices instead of the authors'.

    Inside `with torch.device("meta")` nothing is allocated and nothing drawn.

    >>> model = build("vit-b16", num_classes=10, image_size_px=32, depth=1, width=64, num_heads=2)
    >>> model.features(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 64])
    """
    positive(num_classes=num_classes)
    if not 0 <= dropout < 1:
        raise UserError(f"dropout = {dropout} must lie in [0, 1)")
    card = baselines.system(system) if isinstance(system, str) else system
    if image_size_px is None:
        if isinstance(card, SystemUse):
            raise UserError("image_size_px is needed where a system comes without its card")
        image_size_px = card.image_size_px
    use = _override(card, overrides)
    sizes = baselines.sizes(use)
    sizes.check_image(image_size_px)
    with torch.device("meta"):
        model = Classifier(
            sizes.encoder(image_size_px=image_size_px, dropout=dropout, follows=use.follows),
            system=use,
            image_size_px=image_size_px,
            encoder_dim=sizes.feature_dim,
            representation_dim=sizes.pre_logits_dim(pretraining=pretraining_head),
            num_classes=num_classes,
        )
    if not dropout:
        _remove_dropout(model)
    device = torch.get_default_device()
    if device.type != "meta":
        model.to_empty(device="cpu")
        _initialize(model, sizes, generator or torch.Generator().manual_seed(0))
        model.to(device)
    return model


def _override(card: SystemCard | SystemUse, overrides: dict[str, Any]) -> SystemUse:
    args = dict(overrides)
    follows = args.pop("implementation", card.follows)
    if follows not in ("authors", "timm"):
        raise UserError(f'implementation = {follows!r} is not "authors" or "timm"')
    use = SystemUse(
        family=card.family,
        args={**card.args, **args},
        version=card.version,
        follows=cast(str, follows),
    )
    # The checked sizes, defaults included, so that a model always says all of what it is.
    return use.model_copy(update={"args": arguments(baselines.sizes(use))})


@torch.no_grad()
def _initialize(model: Classifier, sizes: Sizes, generator: torch.Generator) -> None:
    sizes.initialize(model.encoder, generator)
    if model.pre_logits is not None:
        lecun_normal(model.pre_logits.weight, generator)
        nn.init.zeros_(model.pre_logits.bias)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)


def _remove_dropout(model: nn.Module) -> None:
    for module in model.modules():
        for name, child in module.named_children():
            # Attention reads the rate of its `attn_drop`, so that one stays.
            if isinstance(child, nn.Dropout) and name != "attn_drop":
                setattr(module, name, nn.Identity())
