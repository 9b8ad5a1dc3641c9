"""Our models against a second implementation, written here from the papers' formulas.

The test draws random weights in the authors' file layout, writes the file, computes logits from the
arrays in float64 with plain tensor operations (channels last, as the authors), loads the file into
our model and compares. Nothing of the implementation under test is used for the expected values.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from bench.models import build, load_weights

NUM_CLASSES = 5
VIT = {"width": 32, "depth": 3, "num_heads": 4, "mlp_dim": 56}
PATCHES = {"patch_px": 4, "image_size_px": 16}


class Arrays(dict[str, np.ndarray]):
    """Random arrays by official name."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def kernel(self, name: str, *shape: int, fan_in: int | None = None) -> None:
        fan_in = fan_in or math.prod(shape[:-1])
        self[name] = self.rng.normal(size=shape, scale=fan_in**-0.5).astype(np.float32)

    def small(self, name: str, *shape: int, mean: float = 0.0) -> None:
        self[name] = self.rng.normal(size=shape, loc=mean, scale=0.1).astype(np.float32)

    def norm(self, name: str, *shape: int, names: tuple[str, str] = ("scale", "bias")) -> None:
        self.small(f"{name}/{names[0]}", *shape, mean=1.0)
        self.small(f"{name}/{names[1]}", *shape)


def vit_arrays(
    *,
    patch: int,
    channels: int = 3,
    grid: int,
    pooling: str = "token",
    rep: int = 0,
    seed: int = 0,
    width: int = 32,
    depth: int = 3,
    num_heads: int = 4,
    mlp_dim: int = 56,
) -> Arrays:
    a = Arrays(seed)
    a.kernel("embedding/kernel", patch, patch, channels, width)
    a.small("embedding/bias", width)
    if pooling == "token":
        a.small("cls", 1, 1, width)
    num_tokens = grid * grid + (pooling == "token")
    a.small("Transformer/posembed_input/pos_embedding", 1, num_tokens, width)
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        a.norm(f"{block}/LayerNorm_0", width)
        for name in ("query", "key", "value"):
            a.kernel(f"{attention}/{name}/kernel", width, num_heads, width // num_heads, fan_in=8)
            a.small(f"{attention}/{name}/bias", num_heads, width // num_heads)
        a.kernel(f"{attention}/out/kernel", num_heads, width // num_heads, width)
        a.small(f"{attention}/out/bias", width)
        a.norm(f"{block}/LayerNorm_2", width)
        a.kernel(f"{block}/MlpBlock_3/Dense_0/kernel", width, mlp_dim)
        a.small(f"{block}/MlpBlock_3/Dense_0/bias", mlp_dim)
        a.kernel(f"{block}/MlpBlock_3/Dense_1/kernel", mlp_dim, width)
        a.small(f"{block}/MlpBlock_3/Dense_1/bias", width)
    a.norm("Transformer/encoder_norm", width)
    if rep:
        a.kernel("pre_logits/kernel", width, rep)
        a.small("pre_logits/bias", rep)
    a.kernel("head/kernel", rep or width, NUM_CLASSES)
    a.small("head/bias", NUM_CLASSES)
    return a


def layer_norm(x: torch.Tensor, w: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-6) * w[f"{name}/scale"] + w[f"{name}/bias"]


def gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def transformer_logits(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits from a map of patches (B, H, W, C): embedding, blocks, pooling, head."""
    patch = w["embedding/kernel"].shape[0]
    b, h, v, c = x.shape
    x = x.reshape(b, h // patch, patch, v // patch, patch, c).permute(0, 1, 3, 2, 4, 5)
    kernel = w["embedding/kernel"].reshape(-1, w["embedding/kernel"].shape[-1])
    x = x.reshape(b, -1, patch * patch * c) @ kernel + w["embedding/bias"]
    if "cls" in w:
        x = torch.cat([w["cls"].expand(b, 1, -1), x], dim=1)
    x = x + w["Transformer/posembed_input/pos_embedding"]
    depth = sum(name.endswith("MlpBlock_3/Dense_0/bias") for name in w)
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        y = layer_norm(x, w, f"{block}/LayerNorm_0")
        q, k, v_ = (
            torch.einsum("btd,dhe->bthe", y, w[f"{attention}/{n}/kernel"])
            + w[f"{attention}/{n}/bias"]
            for n in ("query", "key", "value")
        )
        weights = torch.einsum("bqhe,bkhe->bhqk", q, k) / math.sqrt(q.shape[-1])
        mixed = torch.einsum("bhqk,bkhe->bqhe", weights.softmax(-1), v_)
        x = x + torch.einsum("bqhe,hed->bqd", mixed, w[f"{attention}/out/kernel"])
        x = x + w[f"{attention}/out/bias"]
        mlp = f"{block}/MlpBlock_3"
        y = layer_norm(x, w, f"{block}/LayerNorm_2") @ w[f"{mlp}/Dense_0/kernel"]
        x = x + gelu(y + w[f"{mlp}/Dense_0/bias"]) @ w[f"{mlp}/Dense_1/kernel"]
        x = x + w[f"{mlp}/Dense_1/bias"]
    x = layer_norm(x, w, "Transformer/encoder_norm")
    z = x[:, 0] if "cls" in w else x.mean(1)
    if "pre_logits/kernel" in w:
        z = torch.tanh(z @ w["pre_logits/kernel"] + w["pre_logits/bias"])
    return z @ w["head/kernel"] + w["head/bias"]


def conv(x: torch.Tensor, kernel: torch.Tensor, stride: int, pads: tuple[int, int]) -> torch.Tensor:
    """Convolution of (B, H, W, C) with (k, k, C, D) by unfolding windows."""
    size = kernel.shape[0]
    before, after = pads
    x = functional.pad(x, (0, 0, before, after, before, after))
    x = x.unfold(1, size, stride).unfold(2, size, stride)  # B, H', W', C, k, k
    return torch.einsum("bhwcij,ijcd->bhwd", x, kernel)


def same(x: torch.Tensor, kernel: int, stride: int) -> tuple[int, int]:
    side = x.shape[1]
    total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def group_norm(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    b, h, w, c = x.shape
    y = x.reshape(b, h, w, 32, c // 32)
    mean = y.mean((1, 2, 4), keepdim=True)
    var = ((y - mean) ** 2).mean((1, 2, 4), keepdim=True)
    return ((y - mean) / torch.sqrt(var + eps)).reshape(x.shape) * scale + bias


def max_pool(x: torch.Tensor, pads: tuple[int, int], value: float) -> torch.Tensor:
    before, after = pads
    x = functional.pad(x, (0, 0, before, after, before, after), value=value)
    return x.unfold(1, 3, 2).unfold(2, 3, 2).amax((-1, -2))


def hybrid_logits(x: torch.Tensor, w: dict[str, torch.Tensor], layers) -> torch.Tensor:
    def std_conv(x, name, stride=1):
        kernel = w[f"{name}/kernel"]
        centred = kernel - kernel.mean((0, 1, 2))
        kernel = centred / (torch.sqrt((centred**2).mean((0, 1, 2))) + 1e-5)
        return conv(x, kernel, stride, same(x, kernel.shape[0], stride))

    def gn(x, name):
        return group_norm(x, w[f"{name}/scale"].flatten(), w[f"{name}/bias"].flatten(), 1e-6)

    x = torch.relu(gn(std_conv(x, "conv_root", 2), "gn_root"))
    x = max_pool(x, same(x, 3, 2), -math.inf)
    for stage, num_blocks in enumerate(layers):
        for index in range(num_blocks):
            unit = f"block{stage + 1}/unit{index + 1}"
            stride = 2 if stage and index == 0 else 1
            residual = x
            if f"{unit}/conv_proj/kernel" in w:
                residual = gn(std_conv(x, f"{unit}/conv_proj", stride), f"{unit}/gn_proj")
            y = torch.relu(gn(std_conv(x, f"{unit}/conv1"), f"{unit}/gn1"))
            y = torch.relu(gn(std_conv(y, f"{unit}/conv2", stride), f"{unit}/gn2"))
            y = gn(std_conv(y, f"{unit}/conv3"), f"{unit}/gn3")
            x = torch.relu(residual + y)
    return transformer_logits(x, w)


def bit_logits(x: torch.Tensor, w: dict[str, torch.Tensor], layers) -> torch.Tensor:
    def std_conv(x, name, stride=1, pad=0):
        kernel = w[f"{name}/standardized_conv2d/kernel"]
        centred = kernel - kernel.mean((0, 1, 2))
        kernel = centred / torch.sqrt((centred**2).mean((0, 1, 2)) + 1e-10)
        return conv(x, kernel, stride, (pad, pad))

    def gn_relu(x, name):
        gamma, beta = w[f"{name}/group_norm/gamma"], w[f"{name}/group_norm/beta"]
        return torch.relu(group_norm(x, gamma, beta, 1e-5))

    x = max_pool(std_conv(x, "resnet/root_block", 2, 3), (1, 1), 0.0)
    for stage, num_blocks in enumerate(layers):
        for index in range(num_blocks):
            unit = f"resnet/block{stage + 1}/unit{index + 1:02d}"
            stride = 2 if stage and index == 0 else 1
            y = gn_relu(x, f"{unit}/a")
            residual = x
            if f"{unit}/a/proj/standardized_conv2d/kernel" in w:
                residual = std_conv(y, f"{unit}/a/proj", stride)
            y = std_conv(y, f"{unit}/a")
            y = std_conv(gn_relu(y, f"{unit}/b"), f"{unit}/b", stride, 1)
            x = residual + std_conv(gn_relu(y, f"{unit}/c"), f"{unit}/c")
    z = gn_relu(x, "resnet").mean((1, 2))
    return z @ w["resnet/head/conv2d/kernel"][0, 0] + w["resnet/head/conv2d/bias"]


def hybrid_arrays(layers, *, factor: float, grid: int, rep: int = 0) -> Arrays:
    a = Arrays(3)
    width = int(64 * factor)
    a.kernel("conv_root/kernel", 7, 7, 3, width)
    a.norm("gn_root", 1, 1, 1, width)
    channels = width
    for stage, num_blocks in enumerate(layers):
        mid = width * 2**stage
        for index in range(num_blocks):
            unit = f"block{stage + 1}/unit{index + 1}"
            if index == 0:
                a.kernel(f"{unit}/conv_proj/kernel", 1, 1, channels, 4 * mid)
                a.norm(f"{unit}/gn_proj", 1, 1, 1, 4 * mid)
            a.kernel(f"{unit}/conv1/kernel", 1, 1, channels, mid)
            a.kernel(f"{unit}/conv2/kernel", 3, 3, mid, mid)
            a.kernel(f"{unit}/conv3/kernel", 1, 1, mid, 4 * mid)
            for number, out in ((1, mid), (2, mid), (3, 4 * mid)):
                a.norm(f"{unit}/gn{number}", 1, 1, 1, out)
            channels = 4 * mid
    a.update(vit_arrays(patch=1, channels=channels, grid=grid, rep=rep, seed=4))
    return a


def bit_arrays(layers, *, factor: float) -> Arrays:
    a = Arrays(5)
    width, names = int(64 * factor), ("gamma", "beta")
    a.kernel("resnet/root_block/standardized_conv2d/kernel", 7, 7, 3, width)
    channels = width
    for stage, num_blocks in enumerate(layers):
        mid = width * 2**stage
        for index in range(num_blocks):
            unit = f"resnet/block{stage + 1}/unit{index + 1:02d}"
            if index == 0:
                name = f"{unit}/a/proj/standardized_conv2d/kernel"
                a.kernel(name, 1, 1, channels, 4 * mid)
            a.kernel(f"{unit}/a/standardized_conv2d/kernel", 1, 1, channels, mid)
            a.kernel(f"{unit}/b/standardized_conv2d/kernel", 3, 3, mid, mid)
            a.kernel(f"{unit}/c/standardized_conv2d/kernel", 1, 1, mid, 4 * mid)
            for letter, size in (("a", channels), ("b", mid), ("c", mid)):
                a.norm(f"{unit}/{letter}/group_norm", size, names=names)
            channels = 4 * mid
    a.norm("resnet/group_norm", channels, names=names)
    a.kernel("resnet/head/conv2d/kernel", 1, 1, channels, NUM_CLASSES)
    a.small("resnet/head/conv2d/bias", NUM_CLASSES)
    return a


def images_NHWC(side: int) -> torch.Tensor:
    values = np.random.default_rng(11).uniform(-1, 1, size=(2, side, side, 3))
    return torch.from_numpy(values)


def doubled(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).double() for name, array in arrays.items()}


def assert_parity(model, tmp_path, arrays, expected, x_NHWC, *, atol: float) -> None:
    np.savez(tmp_path / "official.npz", **arrays)
    load_weights(model, tmp_path / "official.npz")
    model.eval()
    with torch.inference_mode():
        logits = model(x_NHWC.permute(0, 3, 1, 2).float())
    assert expected.std() > 0.1  # the comparison is about something
    torch.testing.assert_close(logits.double(), expected, atol=atol, rtol=0)


@pytest.mark.parametrize("rep", [0, 24, 32])
@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_vit(tmp_path, pooling, rep):
    arrays = vit_arrays(patch=4, grid=4, pooling=pooling, rep=rep)
    x_NHWC = images_NHWC(16)
    expected = transformer_logits(x_NHWC, doubled(arrays))
    model = build(
        "vit-b16",
        num_classes=NUM_CLASSES,
        pooling=pooling,
        representation_dim=rep,
        **PATCHES,
        **VIT,
    )
    assert_parity(model, tmp_path, arrays, expected, x_NHWC, atol=5e-5)


@pytest.mark.parametrize("pooling", ["token", "gap"])
@pytest.mark.parametrize("grid", [3, 7])
def test_vit_at_another_resolution(tmp_path, pooling, grid):
    arrays = vit_arrays(patch=4, grid=4, pooling=pooling, rep=24)
    name = "Transformer/posembed_input/pos_embedding"
    old = arrays[name][0]
    kept, patches = old[: len(old) - 16], old[len(old) - 16 :].reshape(4, 4, -1)
    zoomed = ndimage.zoom(patches, (grid / 4, grid / 4, 1), order=1).reshape(grid * grid, -1)
    resized = Arrays(0)
    resized.update(arrays)
    resized[name] = np.concatenate([kept, zoomed])[None]
    x_NHWC = images_NHWC(4 * grid)
    expected = transformer_logits(x_NHWC, doubled(resized))
    model = build(
        "vit-b16",
        num_classes=NUM_CLASSES,
        patch_px=4,
        image_size_px=4 * grid,
        pooling=pooling,
        representation_dim=24,
        **VIT,
    )
    assert_parity(model, tmp_path, arrays, expected, x_NHWC, atol=5e-5)


@pytest.mark.parametrize("rep", [0, 24])
@pytest.mark.parametrize(("layers", "side"), [((2, 1), 32), ((1, 2, 1), 50)])
def test_hybrid(tmp_path, layers, side, rep):
    grid = math.ceil(side / (4 * 2 ** (len(layers) - 1)))
    arrays = hybrid_arrays(layers, factor=0.5, grid=grid, rep=rep)
    x_NHWC = images_NHWC(side)
    expected = hybrid_logits(x_NHWC, doubled(arrays), layers)
    model = build(
        "hybrid-r50-vit-b16",
        num_classes=NUM_CLASSES,
        image_size_px=side,
        layers=layers,
        width_factor=0.5,
        representation_dim=rep,
        **VIT,
    )
    assert_parity(model, tmp_path, arrays, expected, x_NHWC, atol=5e-4)


@pytest.mark.parametrize("side", [48, 53])
@pytest.mark.parametrize("layers", [(1, 2), (1, 1, 2)])
def test_bit(tmp_path, layers, side):
    arrays = bit_arrays(layers, factor=0.5)
    x_NHWC = images_NHWC(side)
    expected = bit_logits(x_NHWC, doubled(arrays), layers)
    model = build(
        "bit-r50x1", num_classes=NUM_CLASSES, image_size_px=side, layers=layers, width_factor=0.5
    )
    assert_parity(model, tmp_path, arrays, expected, x_NHWC, atol=1e-4)


def test_names_of_linen_and_prefixes_are_the_same_weights(tmp_path):
    arrays = vit_arrays(patch=4, grid=4)
    renamed = {
        "opt/target/"
        + name.replace("Attention_1/", "Attention_0/")
        .replace("LayerNorm_2/", "LayerNorm_1/")
        .replace("MlpBlock_3/", "MlpBlock_0/"): array
        for name, array in arrays.items()
    }
    np.savez(tmp_path / "old.npz", **arrays)
    np.savez(tmp_path / "new.npz", **renamed)
    old, new = (build("vit-b16", num_classes=NUM_CLASSES, **PATCHES, **VIT) for _ in range(2))
    load_weights(old, tmp_path / "old.npz")
    load_weights(new, tmp_path / "new.npz")
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


@pytest.mark.parametrize(
    ("implementation", "low", "high"), [("authors", 0.0, 5e-5), ("timm", 1e-4, 1.0)]
)
def test_timms_gelu_is_measurably_another(tmp_path, implementation, low, high):
    arrays = vit_arrays(patch=4, grid=4)
    x_NHWC = images_NHWC(16)
    expected = transformer_logits(x_NHWC, doubled(arrays))
    np.savez(tmp_path / "official.npz", **arrays)
    model = build(
        "vit-b16", num_classes=NUM_CLASSES, implementation=implementation, **PATCHES, **VIT
    )
    load_weights(model, tmp_path / "official.npz")
    off = (model(x_NHWC.permute(0, 3, 1, 2).float()).double() - expected).abs().max().item()
    assert low <= off <= high
