"""The pretended GPU: made faults are found, what is read is made up, and storages are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import baselines
from bench import models
from bench.plan.shapes import Shape
from bench.rehearse.backward import Graph
from bench.rehearse.pretend import pretended
from bench.rehearse.work import rehearse
from bench.specs import Recipe

SMALL = {"depth": 2, "width": 32, "num_heads": 2}

RECIPE = Recipe(
    steps=2, batch_size=8, optimizer="adam", base_lr=1e-6, schedule="constant", clip_norm=1.0,
    precision="bfloat16", polyak=0.9, dropout=0.1,
)  # fmt: skip


def shape(**changes: object) -> Shape:
    card = baselines.system("vit-b16")
    use = baselines.use(card)
    use = use.model_copy(update={"args": {**use.args, **SMALL}})
    return Shape(
        work="train", device="cuda", num_threads=1, system=use, image_size_px=32, start_px=16,
        num_classes=5, batch_size=8, transform="shift-flip", precision="bfloat16", recipe=RECIPE,
    ).model_copy(update=changes)  # fmt: skip


@pytest.mark.ordinary
@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        RECIPE.model_copy(update={"optimizer": "sgd", "precision": "float32", "mixup": 0.1}),
        RECIPE.model_copy(update={"precision": "float16", "loss": "sigmoid"}),
        RECIPE.model_copy(update={"objective": "masked-patch", "polyak": None}),
    ],
    ids=["adam", "sgd", "float16", "masked-patch"],
)
def test_sound_work_has_no_fault(recipe: Recipe, tmp_path: Path) -> None:
    start_px = None if recipe.objective == "masked-patch" else 16
    work = shape(recipe=recipe, precision=recipe.precision, start_px=start_px)
    found = rehearse(work, folder=tmp_path)
    assert found.fault == ""
    assert found.image_s is None
    assert found.image_gib > 0


@pytest.mark.ordinary
@pytest.mark.parametrize("start_px", [None, 16])
def test_evaluation_has_no_fault(start_px: int | None, tmp_path: Path) -> None:
    work = shape(work="evaluate", recipe=None, batch_size=0, start_px=start_px, transform="resize")
    assert rehearse(work, folder=tmp_path).fault == ""


def left_on_the_cpu(z_BD: Tensor) -> Tensor:
    return z_BD + torch.ones(z_BD.shape[1])


def half_expected(z_BD: Tensor) -> Tensor:
    with torch.autocast(z_BD.device.type, enabled=False):
        return z_BD.float() @ torch.ones(32, 32, device=z_BD.device, dtype=torch.bfloat16)


def wrong_shape(z_BD: Tensor) -> Tensor:
    return z_BD @ torch.ones(33, 32, device=z_BD.device)


@pytest.mark.ordinary
@pytest.mark.parametrize(
    ("fault", "words"),
    [(left_on_the_cpu, "device"), (half_expected, "dtype"), (wrong_shape, "reduction dim")],
)
def test_a_made_fault_is_found(
    fault: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = models.Classifier.features
    monkeypatch.setattr(
        models.Classifier, "features", lambda self, x_BCHW: fault(features(self, x_BCHW))
    )
    found = rehearse(shape(), folder=tmp_path)
    assert words in found.fault


def test_what_is_read_is_made_up() -> None:
    with pretended("cuda"):
        x_N = torch.ones(3, device="cuda")
        assert x_N.device.type == "cuda"
        assert float(x_N[0]) == 1.0
        assert not x_N.isnan().any()
        assert len((x_N > 0).nonzero()) == 0
        np.testing.assert_array_equal(x_N.cpu().numpy(), np.zeros(3, np.float32))
        with pytest.raises(TypeError, match="can't convert cuda"):
            x_N.numpy()
    assert float(torch.ones(())) == 1.0


def test_bytes_are_counted_once_and_let_go_of() -> None:
    with pretended("cuda") as held:
        x_N = torch.zeros(1024, device="cuda")
        view_N = x_N[:10]
        on_cpu_N = torch.zeros(4096)
        assert held.now_bytes == 4096
        y_N = x_N + 1
        assert held.now_bytes == 8192
        del y_N
        assert (held.now_bytes, held.peak_bytes) == (4096, 8192)
        del x_N
        assert held.now_bytes == 4096  # the view needs it
        del view_N, on_cpu_N
        assert held.now_bytes == 0


@pytest.mark.ordinary
@pytest.mark.parametrize("name", ["vit-micro", "bit-micro"])
def test_the_way_back_gives_the_gradients_of_torch(name: str) -> None:
    model = models.build(name, num_classes=3)
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    x_BCHW = torch.randn(
        2, 3, model.image_size_px, model.image_size_px, generator=torch.Generator().manual_seed(0)
    )

    def loss() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits_BK: Tensor = model(x_BCHW)
        return nn.functional.cross_entropy(logits_BK.float(), torch.tensor([0, 2]))

    loss().backward()
    wanted = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = None
    graph = Graph()
    with graph.recording():
        graph.backward(loss())
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_graph_is_gone_back_through_once() -> None:
    w = torch.ones(3, requires_grad=True)
    graph = Graph()
    with graph.recording():
        loss = (w * w).sum()
    graph.backward(loss)
    torch.testing.assert_close(w.grad, torch.full((3,), 2.0))
    with pytest.raises(RuntimeError, match="second time"):
        graph.backward(loss)
