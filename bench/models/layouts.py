"""The layouts of other people's weights: which array of theirs is which tensor of ours.

Sources: google-research/vision_transformer (`checkpoint.py`, `models_vit.py`, `models_resnet.py`;
released and AugReg files use the names of before Flax linen, newer ones those of linen),
google-research/big_transfer (`bit_pytorch/models.py`), and timm. Convolutions are HWIO in the
authors' files and OIHW here; dense kernels are transposed; query, key and value have a head axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bench.errors import CheckpointError
from bench.models.build import Classifier
from bench.models.identify import looks_like
from bench.models.state import POSITIONS, fit_positions

Layout = Literal["npz", "timm"]
Kind = Literal["same", "conv", "dense", "dense_hwio", "dense_oihw", "heads", "heads_bias", "merge"]

_QKV = ("query", "key", "value")


class Rule(NamedTuple):
    """One array of theirs: its tensor here, and how the axes differ."""

    theirs: str
    ours: str
    kind: Kind = "same"
    part: int = 0
    """Third of the packed query, key and value."""


def rules(model: Classifier, layout: Layout) -> list[Rule]:
    """Return a rule for every array that `layout` has for this model."""
    family = model.system.family
    kind, place = (model.system.args.get(key) for key in ("posemb", "posemb_at"))
    if kind or place:  # both are left out at their defaults
        raise CheckpointError(
            f'layout "{layout}" has no place for these position embeddings '
            f"({', '.join(str(word) for word in (kind, place) if word)})",
            hint='Use layout "safetensors"',
        )
    if layout == "timm":
        return _timm(model)
    if family == "bit":
        return [*_bit_encoder(model), *_linear("resnet/head/conv2d", "head", "dense_hwio")]
    if family in ("vit", "hybrid"):
        before = _linear("pre_logits", "pre_logits", "dense") if model.pre_logits else ()
        return [*_vit_encoder(model), *before, *_linear("head", "head", "dense")]
    raise CheckpointError(
        f"there is no official .npz layout of the {family} family",
        hint='Use layout "timm" or "safetensors"',
    )


def write(model: Classifier, layout: Layout) -> dict[str, Tensor]:
    """Return the weights of `model` by the names and with the axes of `layout`."""
    state = model.state_dict()
    heads = _num_heads(model)
    return {
        rule.theirs: _to_theirs(rule, state[rule.ours], heads).contiguous()
        for rule in rules(model, layout)
    }


def read(
    model: Classifier, arrays: Mapping[str, Tensor], layout: Layout, *, head: bool
) -> dict[str, Tensor]:
    """Return a state dict for `model` from arrays in `layout`.

    Position embeddings of another grid are interpolated. Without `head`, representation layer and
    head are left out. Raises CheckpointError, naming the array and both shapes.
    """
    if layout == "npz":
        arrays = canonical(arrays)
    state, heads = model.state_dict(), _num_heads(model)
    found: dict[str, Tensor] = {}
    thirds: dict[str, list[Tensor]] = {}
    wanted = [rule for rule in rules(model, layout) if head or rule.ours.startswith("encoder.")]
    _check_names(model, wanted, arrays, head=head)
    for rule in wanted:
        array = arrays[rule.theirs]
        if rule.ours == POSITIONS:
            array = fit_positions(model, array)
        expected = _to_theirs(rule, state[rule.ours], heads).shape
        if rule.kind == "same" and rule.ours != POSITIONS and array.numel() == expected.numel():
            array = array.reshape(expected)  # norms of hybrids are stored as (1, 1, 1, C)
        if array.shape != expected:
            raise CheckpointError(
                f"{rule.theirs} has shape {tuple(arrays[rule.theirs].shape)} in the file and "
                f"{tuple(expected)} in the model",
                hint=_hint(arrays, rule, head),
            )
        tensor = _to_ours(rule, array).to(state[rule.ours].dtype)
        if rule.kind in ("heads", "heads_bias"):
            thirds.setdefault(rule.ours, []).append(tensor)  # rules come in the order q, k, v
        else:
            found[rule.ours] = tensor
    return found | {ours: torch.cat(tensors) for ours, tensors in thirds.items()}


def canonical(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return arrays under the names of released files, whichever version wrote them.

    Strips a leading `opt/target/` or `params/`; turns the names of linen (`LayerNorm_1`, ...) into
    those of before; drops the running numbers that some BiT files carry.
    """
    names = {name: re.sub(r"^(opt/target/|params/)", "", name) for name in arrays}
    linen = any("/MultiHeadDotProductAttention_0/" in name for name in names.values())
    renamed = {}
    for old, new in names.items():
        if linen:
            new = re.sub(r"(?<=encoderblock_)(\d+)/LayerNorm_1/", r"\1/LayerNorm_2/", new)
            new = new.replace(
                "/MultiHeadDotProductAttention_0/", "/MultiHeadDotProductAttention_1/"
            )
            new = new.replace("/MlpBlock_0/", "/MlpBlock_3/")
        renamed[re.sub(r"/standardized_conv2d_\d+/", "/standardized_conv2d/", new)] = arrays[old]
    return renamed


def _timm(model: Classifier) -> list[Rule]:
    if model.pre_logits is not None:
        raise CheckpointError(
            "timm's layout has no place for a representation layer",
            hint='Use layout "npz" or "safetensors"',
        )
    name = {"bit": "head.fc", "noisy-student": "classifier"}.get(model.system.family, "head")
    kind: Kind = "dense_oihw" if model.system.family == "bit" else "same"
    encoder = [key for key in model.state_dict() if key.startswith("encoder.")]
    return [
        *(Rule(key.removeprefix("encoder."), key) for key in encoder),
        Rule(f"{name}.weight", "head.weight", kind),
        Rule(f"{name}.bias", "head.bias"),
    ]


def _linear(theirs: str, ours: str, kind: Kind) -> Iterator[Rule]:
    yield Rule(f"{theirs}/kernel", f"{ours}.weight", kind)
    yield Rule(f"{theirs}/bias", f"{ours}.bias")


def _norm(theirs: str, ours: str, names: tuple[str, str] = ("scale", "bias")) -> Iterator[Rule]:
    yield Rule(f"{theirs}/{names[0]}", f"{ours}.weight")
    yield Rule(f"{theirs}/{names[1]}", f"{ours}.bias")


def _vit_encoder(model: Classifier) -> Iterator[Rule]:
    encoder = model.encoder
    if model.system.family == "hybrid":
        yield from _hybrid_backbone(model)
    yield from _linear("embedding", "encoder.patch_embed.proj", "conv")
    if model.system.args["pooling"] == "token":
        yield Rule("cls", "encoder.cls_token")
    yield Rule("Transformer/posembed_input/pos_embedding", POSITIONS)
    for index in range(int(model.system.args["depth"])):  # type: ignore[arg-type]
        theirs, ours = f"Transformer/encoderblock_{index}", f"encoder.blocks.{index}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        yield from _norm(f"{theirs}/LayerNorm_0", f"{ours}.norm1")
        for part, name in enumerate(_QKV):
            yield Rule(f"{attention}/{name}/kernel", f"{ours}.attn.qkv.weight", "heads", part)
            yield Rule(f"{attention}/{name}/bias", f"{ours}.attn.qkv.bias", "heads_bias", part)
        yield Rule(f"{attention}/out/kernel", f"{ours}.attn.proj.weight", "merge")
        yield Rule(f"{attention}/out/bias", f"{ours}.attn.proj.bias")
        yield from _norm(f"{theirs}/LayerNorm_2", f"{ours}.norm2")
        for layer in (0, 1):
            yield from _linear(
                f"{theirs}/MlpBlock_3/Dense_{layer}", f"{ours}.mlp.fc{layer + 1}", "dense"
            )
    # timm norms after pooling under another name; the numbers are the same.
    last = "fc_norm" if hasattr(encoder.fc_norm, "weight") else "norm"
    yield from _norm("Transformer/encoder_norm", f"encoder.{last}")


def _hybrid_backbone(model: Classifier) -> Iterator[Rule]:
    ours = "encoder.patch_embed.backbone"
    yield Rule("conv_root/kernel", f"{ours}.stem.conv.weight", "conv")
    yield from _norm("gn_root", f"{ours}.stem.norm")
    for stage, index, block in _blocks(model):
        theirs, here = f"block{stage + 1}/unit{index + 1}", f"{ours}.{block}"
        for number in (1, 2, 3):
            yield Rule(f"{theirs}/conv{number}/kernel", f"{here}.conv{number}.weight", "conv")
            yield from _norm(f"{theirs}/gn{number}", f"{here}.norm{number}")
        if index == 0:
            yield Rule(f"{theirs}/conv_proj/kernel", f"{here}.downsample.conv.weight", "conv")
            yield from _norm(f"{theirs}/gn_proj", f"{here}.downsample.norm")


def _bit_encoder(model: Classifier) -> Iterator[Rule]:
    scale = ("gamma", "beta")
    conv = "standardized_conv2d/kernel"
    yield Rule(f"resnet/root_block/{conv}", "encoder.stem.conv.weight", "conv")
    for stage, index, block in _blocks(model):
        theirs, here = f"resnet/block{stage + 1}/unit{index + 1:02d}", f"encoder.{block}"
        for number, letter in enumerate("abc", 1):
            yield Rule(f"{theirs}/{letter}/{conv}", f"{here}.conv{number}.weight", "conv")
            yield from _norm(f"{theirs}/{letter}/group_norm", f"{here}.norm{number}", scale)
        if index == 0:
            yield Rule(f"{theirs}/a/proj/{conv}", f"{here}.downsample.conv.weight", "conv")
    yield from _norm("resnet/group_norm", "encoder.norm", scale)


def _blocks(model: Classifier) -> Iterator[tuple[int, int, str]]:
    layers: Sequence[int] = model.system.args["layers"]  # type: ignore[assignment]
    for stage, num_blocks in enumerate(layers):
        for index in range(num_blocks):
            yield stage, index, f"stages.{stage}.blocks.{index}"


def _num_heads(model: Classifier) -> int:
    return int(model.system.args.get("num_heads", 1))  # type: ignore[arg-type]


def _to_theirs(rule: Rule, tensor: Tensor, num_heads: int) -> Tensor:
    match rule.kind:
        case "conv":
            return tensor.permute(2, 3, 1, 0)
        case "dense":
            return tensor.T
        case "dense_hwio":
            return tensor.T[None, None]
        case "dense_oihw":
            return tensor[:, :, None, None]
        case "heads":
            third = tensor.chunk(3)[rule.part]
            return third.T.reshape(third.shape[1], num_heads, -1)
        case "heads_bias":
            return tensor.chunk(3)[rule.part].reshape(num_heads, -1)
        case "merge":
            return tensor.T.reshape(num_heads, -1, tensor.shape[0])
    return tensor


def _to_ours(rule: Rule, array: Tensor) -> Tensor:
    match rule.kind:
        case "conv":
            return array.permute(3, 2, 0, 1)
        case "dense":
            return array.T
        case "dense_hwio":
            return array[0, 0].T
        case "dense_oihw":
            return array[:, :, 0, 0]
        case "heads":
            return array.flatten(1).T
        case "heads_bias":
            return array.flatten()
        case "merge":
            return array.flatten(0, 1).T
    return array


def _check_names(
    model: Classifier, wanted: Sequence[Rule], arrays: Mapping[str, Tensor], *, head: bool
) -> None:
    missing = [rule.theirs for rule in wanted if rule.theirs not in arrays]
    known = {rule.theirs for rule in wanted}
    extra = [name for name in arrays if name not in known]
    if head and model.pre_logits is None and "pre_logits/kernel" in arrays:
        width = arrays["pre_logits/kernel"].shape[-1]
        raise CheckpointError(
            f"the file has a representation layer (pre_logits, width {width}) and the model none",
            hint=f'Build with representation_dim={width}, or load with head="drop"',
        )
    if head and model.pre_logits is not None and "pre_logits/kernel" in missing:
        raise CheckpointError(
            "the model has a representation layer and the file none (pre_logits/kernel)",
            hint='Build without representation_dim, or load with head="drop"',
        )
    if not head:
        extra = [name for name in extra if not re.search(r"(^|/)(head|pre_logits)\b", name)]
        extra = [name for name in extra if not name.startswith(("head.", "classifier."))]
    if missing or extra:
        words = [
            f"{word} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for word, names in (("no", missing), ("unexpected", extra))
            if names
        ]
        raise CheckpointError(
            f"weights of another model: {'; '.join(words)}", hint=looks_like(_shapes(arrays))
        )


def _hint(arrays: Mapping[str, Tensor], rule: Rule, head: bool) -> str:
    if head and not rule.ours.startswith("encoder."):
        return 'Build with the file\'s num_classes, or load with head="drop"'
    return looks_like(_shapes(arrays))


def _shapes(arrays: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
