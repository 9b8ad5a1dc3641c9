"""Tensors in and out of the layouts of other people's weights.

The family says which array of theirs is which tensor of ours (`baselines/arrays.py`). Sources:
google-research/vision_transformer (`checkpoint.py`, `models_vit.py`, `models_resnet.py`; released
and AugReg files use the names of before Flax linen, newer ones those of linen),
google-research/big_transfer (`bit_pytorch/models.py`), and timm. Convolutions are HWIO in the
authors' files and OIHW here; dense kernels are transposed; query, key and value have a head axis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from baselines.arrays import Layout, Rule
from baselines.contents import looks_like
from bench.errors import CheckpointError
from bench.models.build import Classifier
from bench.models.state import POSITIONS, fit_encoder, fit_positions


def write(model: Classifier, layout: Layout) -> dict[str, Tensor]:
    """Return the weights of `model` by the names and with the axes of `layout`."""
    state = model.state_dict()
    return {
        rule.theirs: _to_theirs(rule, state[rule.ours]).contiguous()
        for rule in layout.rules(model.system.args, state)
    }


def read(
    model: Classifier, arrays: Mapping[str, Tensor], layout: Layout, *, head: bool
) -> dict[str, Tensor]:
    """Return a state dict for `model` from arrays in `layout`.

    Position embeddings of another grid are interpolated. Without `head`, representation layer and
    head are left out. Raises CheckpointError, naming the array and both shapes.
    """
    names = layout.renamed(model.system.args, _shapes(arrays))
    arrays = {name: arrays[theirs] for theirs, name in names.items()}
    state = model.state_dict()
    rules = list(layout.rules(model.system.args, state))
    wanted = [rule for rule in rules if head or rule.ours.startswith("encoder.")]
    _check_names(model, rules, wanted, arrays, head=head)
    resized = fit_encoder(
        model, {rule.ours: arrays[rule.theirs] for rule in wanted if rule.axes == "same"}
    )
    found: dict[str, Tensor] = {}
    thirds: dict[str, list[Tensor]] = {}
    for rule in wanted:
        array = resized.get(rule.ours, arrays[rule.theirs])
        if rule.ours == POSITIONS:
            array = fit_positions(model, array)
        expected = _to_theirs(rule, state[rule.ours]).shape
        if rule.axes == "same" and rule.ours != POSITIONS and array.numel() == expected.numel():
            array = array.reshape(expected)  # norms of hybrids are stored as (1, 1, 1, C)
        if array.shape != expected:
            raise CheckpointError(
                f"{rule.theirs} has shape {tuple(arrays[rule.theirs].shape)} in the file and "
                f"{tuple(expected)} in the model",
                hint=_hint(arrays, rule, head),
            )
        tensor = _to_ours(rule, array).to(state[rule.ours].dtype)
        if rule.axes in ("heads", "heads_bias"):
            thirds.setdefault(rule.ours, []).append(tensor)  # rules come in the order q, k, v
        else:
            found[rule.ours] = tensor
    return found | {ours: torch.cat(tensors) for ours, tensors in thirds.items()}


def _to_theirs(rule: Rule, tensor: Tensor) -> Tensor:
    match rule.axes:
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
            return third.T.reshape(third.shape[1], rule.num_heads, -1)
        case "heads_bias":
            return tensor.chunk(3)[rule.part].reshape(rule.num_heads, -1)
        case "merge":
            return tensor.T.reshape(rule.num_heads, -1, tensor.shape[0])
    return tensor


def _to_ours(rule: Rule, array: Tensor) -> Tensor:
    match rule.axes:
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
    model: Classifier,
    rules: Sequence[Rule],
    wanted: Sequence[Rule],
    arrays: Mapping[str, Tensor],
    *,
    head: bool,
) -> None:
    missing = [rule.theirs for rule in wanted if rule.theirs not in arrays]
    known = {rule.theirs for rule in rules}
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
