"""Presets work on the device of their images: on a stand-in for a GPU, nothing else is mixed in.

Fake tensors carry a device and no data, and an operation on two devices raises as on a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from bench.data import crops, transforms

pytestmark = pytest.mark.ordinary

NUM_IMAGES = 300


class Copies(TorchDispatchMode):
    """Counts what is copied from the CPU to another device, and refuses the way back."""

    num_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and made.device != args[0].device:
            assert args[0].device.type == "cpu", "something was read from the device"
            self.num_bytes += args[0].nbytes
        return made


@pytest.fixture
def real_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers are drawn on the CPU, and drawn again where they do not fit: for real."""

    def really(function: Any) -> Any:
        def drawn(*args: Any) -> Any:
            with unset_fake_temporarily():
                return function(*args)

        return drawn

    monkeypatch.setattr(transforms, "inception_boxes", really(crops.inception_boxes))
    for name in ("integers", "half"):
        monkeypatch.setattr(crops.Draws, name, really(getattr(crops.Draws, name)))


@pytest.fixture
def fake_gpu(real_draws: None) -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.mark.parametrize("side", [300, 224])
@pytest.mark.parametrize("name", transforms.PRESETS)
@pytest.mark.usefixtures("fake_gpu")
def test_presets_work_on_the_device_and_send_a_few_numbers_an_image(name: str, side: int) -> None:
    images_BHWC = torch.empty(NUM_IMAGES, side, side + 7, 3, dtype=torch.uint8, device="cuda")
    randomness = torch.Generator()
    with Copies() as copies:
        x_BCHW = transforms.preset(name, size_px=224)(images_BHWC, randomness)
    assert x_BCHW.device.type == "cuda"
    assert x_BCHW.shape == (NUM_IMAGES, 3, 224, 224)
    assert x_BCHW.dtype == torch.float32
    assert copies.num_bytes <= 40 * NUM_IMAGES  # a box of four int64, and whether it is mirrored


@pytest.mark.usefixtures("fake_gpu")
def test_the_stand_in_raises_where_devices_are_mixed_and_counts_copies() -> None:
    images_BHWC = torch.empty(4, 8, 8, 3, dtype=torch.uint8, device="cuda")
    with pytest.raises(RuntimeError, match="two devices"):
        images_BHWC.view(-1, 3).index_select(0, torch.arange(4))
    with Copies() as copies:
        torch.zeros(10).to("cuda")
    assert copies.num_bytes == 40
