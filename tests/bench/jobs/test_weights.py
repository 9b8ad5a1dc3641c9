"""Weights as a job: public ones, and files of one's own, in every layout and without a net."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import baselines
from bench import models
from bench.errors import CheckpointError, UserError
from bench.jobs import JobContext, _features
from bench.specs import JobResult, SystemUse
from bench.training import read_tensors

Perform = Callable[..., tuple[JobResult, Path]]

SYSTEMS = {
    name: baselines.use(baselines.system(name)) for name in ("bit-micro", "hybrid-micro")
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(url: str, *args: Any, **kwargs: Any) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


def random_model(system: SystemUse, *, size_px: int = 8, **extra: Any) -> models.Classifier:
    generator = torch.Generator().manual_seed(3)
    model = models.build(system, num_classes=5, image_size_px=size_px, generator=generator, **extra)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def publish(model: models.Classifier, tmp_path: Path, *, layout: Any = "npz") -> dict[str, str]:
    """Put the weights where a download would; returns the job's params."""
    ending = ".npz" if layout == "npz" else ".safetensors"
    path = models.save_weights(model, tmp_path / f"official{ending}", layout=layout)
    url = f"https://storage.googleapis.com/vit_models/toy{ending}"
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-toy{ending}"
    (place / name).write_bytes(path.read_bytes())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"weights": "toy", "url": url, "sha256": sha256}


@pytest.fixture
def spec_of(toy: Any) -> Callable[..., Any]:
    def make(params: dict[str, str], **fields: Any) -> Any:
        fields = {"num_classes": 5, "train_split": "", **fields}
        return toy.spec("weights", params=params, **fields)

    return make


@pytest.mark.parametrize("name", ["vit", *SYSTEMS])
@pytest.mark.parametrize("layout", ["npz", "timm", "safetensors"])
def test_official_files_become_weights_of_ours(
    toy: Any, perform: Perform, spec_of: Any, tmp_path: Path, name: str, layout: str
) -> None:
    system = {"vit": toy.vit, **SYSTEMS}[name]
    model = random_model(system)
    params = publish(model, tmp_path, layout=layout)
    result, folder = perform(spec_of(params, system=system))
    path = folder / "model.safetensors"
    found = read_tensors(path, sha256=result.files[path.name])
    assert found.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(found[key], value), key
    assert result.values == {
        "weights": "toy", "weights_sha256": params["sha256"], "num_classes": 5, "layout": layout,
    }  # fmt: skip
    assert not result.metrics


def test_the_layer_before_the_head_comes_along_and_is_used(
    toy: Any, perform: Perform, spec_of: Any, tmp_path: Path
) -> None:
    """Features of weights with `pre_logits` are those after its tanh."""
    model = random_model(toy.vit, representation_dim=7)
    job = perform(spec_of(publish(model, tmp_path)))
    spec = toy.spec("knn", needs={"checkpoint": job[0].job_id})
    context: JobContext = toy.context(spec, tmp_path / "jobs", {"checkpoint": job})
    x_BCHW = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        z_BD = _features.frozen_model(context).eval().features(x_BCHW)
        assert z_BD.shape == (2, 7)
        torch.testing.assert_close(z_BD, model.eval().features(x_BCHW))


def noisy_student_file(path: Path) -> torch.nn.Module:
    """Write timm's EfficientNet-B0 with random weights and statistics; return it."""
    theirs: torch.nn.Module = timm.create_model("tf_efficientnet_b0.ns_jft_in1k", num_classes=5)
    generator = torch.Generator().manual_seed(0)
    state = theirs.state_dict()
    for name, tensor in state.items():
        if name.endswith(("bias", "running_mean")):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        elif tensor.ndim == 1:  # scales and variances of norms
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    save_file(state, path)
    return theirs.eval()


def test_timms_file_of_a_noisy_student_gives_timms_logits(
    toy: Any, perform: Perform, spec_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding, epsilon, squeeze and order of blocks: by another implementation of the same net."""
    theirs = noisy_student_file(tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *_, **__: str(tmp_path / "model.safetensors")
    )
    b0 = {**baselines.system("noisy-student-b7").args, "width_factor": 1.0, "depth_factor": 1.0}
    system = baselines.use(baselines.system("noisy-student-b7")).model_copy(update={"args": b0})
    params = {"weights": "ns", "url": "hf-hub:timm/tf_efficientnet_b0.ns_jft_in1k", "sha256": ""}
    job = perform(spec_of(params, system=system))
    spec = toy.spec(
        "evaluate", system=system, num_classes=5, size_px=45, needs={"checkpoint": job[0].job_id}
    )
    context: JobContext = toy.context(spec, tmp_path / "jobs", {"checkpoint": job})
    model = _features.frozen_model(context, classifier=True).eval()
    x_BCHW = torch.randn(2, 3, 45, 45, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(x_BCHW)
        assert expected.std() > 0.01
        torch.testing.assert_close(model(x_BCHW), expected, atol=1e-5, rtol=1e-5)


def test_position_embeddings_stay_on_the_grid_of_the_file(
    perform: Perform, spec_of: Any, toy: Any, tmp_path: Path
) -> None:
    """A classifier fine-tuned at a larger size must not pass through a smaller one."""
    model = random_model(toy.vit, size_px=16)
    result, folder = perform(spec_of(publish(model, tmp_path), size_px=8))
    path = folder / "model.safetensors"
    found = read_tensors(path, sha256=result.files[path.name])
    assert torch.equal(found["encoder.pos_embed"], model.state_dict()["encoder.pos_embed"])


def test_a_file_without_a_classifier_gives_weights_without_one(
    perform: Perform, spec_of: Any, toy: Any, tmp_path: Path
) -> None:
    params = publish(random_model(toy.vit), tmp_path)
    place = next((tmp_path / "torch" / "hub" / "checkpoints").iterdir())
    arrays = {name: array for name, array in np.load(place).items() if "head" not in name}
    np.savez(place, **arrays)
    sha256 = hashlib.sha256(place.read_bytes()).hexdigest()
    result, folder = perform(spec_of(params | {"sha256": sha256}))
    path = folder / "model.safetensors"
    found = read_tensors(path, sha256=result.files[path.name])
    assert result.values["num_classes"] is None
    assert all(name.startswith("encoder.") for name in found)


def test_weights_that_are_not_public_are_told(perform: Perform, spec_of: Any) -> None:
    with pytest.raises(UserError, match='weights "jft" are not public'):
        perform(spec_of({"weights": "jft", "url": "", "sha256": ""}))


def test_without_a_network_the_address_is_told(perform: Perform, spec_of: Any) -> None:
    url = "https://storage.googleapis.com/vit_models/missing.npz"
    with pytest.raises(CheckpointError, match=r"missing\.npz could not be downloaded: network is"):
        perform(spec_of({"weights": "toy", "url": url, "sha256": ""}))


def test_another_digest_is_refused(
    perform: Perform, spec_of: Any, toy: Any, tmp_path: Path
) -> None:
    params = publish(random_model(toy.vit), tmp_path)
    with pytest.raises(CheckpointError, match=r"0{64} in the card of the weights"):
        perform(spec_of(params | {"sha256": "0" * 64}))


def test_a_digest_that_nobody_published_is_recorded_by_the_first_job_and_binds_the_next(
    perform: Perform, spec_of: Any, toy: Any, tmp_path: Path
) -> None:
    params = publish(random_model(toy.vit), tmp_path)
    unknown = params | {"sha256": ""}
    first, _ = perform(spec_of(unknown))
    assert first.values["weights_sha256"] == params["sha256"]
    place = next((tmp_path / "torch" / "hub" / "checkpoints").iterdir())
    place.write_bytes(place.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"cache/weights\.json \(first used on 20"):
        perform(spec_of(unknown, seed=1))


@pytest.mark.parametrize("layout", ["npz", "timm"])
def test_another_number_of_classes_is_told(
    perform: Perform, spec_of: Any, toy: Any, tmp_path: Path, layout: str
) -> None:
    params = publish(random_model(toy.vit), tmp_path, layout=layout)
    with pytest.raises(CheckpointError, match="a classifier of 5 classes, and 21,843 were planned"):
        perform(spec_of(params, num_classes=21_843))


def test_weights_of_another_system_are_told(
    perform: Perform, spec_of: Any, toy: Any, tmp_path: Path
) -> None:
    params = publish(random_model(SYSTEMS["bit-micro"]), tmp_path)
    with pytest.raises(CheckpointError, match="weights of another model"):
        perform(spec_of(params))


def test_fine_tuning_starts_from_public_weights(
    toy: Any, perform: Perform, spec_of: Any, tmp_path: Path
) -> None:
    model = random_model(toy.vit)
    job = perform(spec_of(publish(model, tmp_path)))
    spec = toy.finetune(job, 1e-12, eval_split="test", size_px=8)
    result, folder = perform(spec, {"checkpoint": job})
    path = folder / "model.safetensors"
    found = read_tensors(path, sha256=result.files[path.name])
    for key, value in models.encoder_state(model).items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=0)


# --- a file of one's own --------------------------------------------------------------------


def own_file(model: models.Classifier, folder: Path, layout: str) -> Path:
    """Write a file of a layout; `pth` is torch's of a plain state dict."""
    path = folder / {"npz": "mine.npz", "pth": "mine.pth"}.get(layout, "mine.safetensors")
    if layout == "pth":
        torch.save({"model": model.state_dict()}, path)
        return path
    return models.save_weights(model, path, layout=layout)


def own_params(path: Path, **params: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file_sha256": sha256, "num_classes": 5, "image_size_px": 8, **params}


@pytest.fixture
def own_spec(toy: Any) -> Callable[..., Any]:
    def make(params: dict[str, Any], **fields: Any) -> Any:
        spec = toy.spec("weights", params=params, **fields)
        return spec.model_copy(update={"data": None, "protocol": None})

    return make


@pytest.mark.parametrize("name", ["vit", *SYSTEMS])
@pytest.mark.parametrize("layout", ["npz", "timm", "safetensors", "pth"])
def test_features_from_a_file_are_those_of_the_model_that_was_saved(
    toy: Any, perform: Perform, own_spec: Any, tmp_path: Path, name: str, layout: str
) -> None:
    system = {"vit": toy.vit, **SYSTEMS}[name]
    model = random_model(system)
    path = own_file(model, tmp_path, layout)
    job = perform(own_spec(own_params(path), system=system), file=str(path))
    assert job[0].values == {
        "weights": path.name,
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "layout": "safetensors" if layout == "pth" else layout,
        "num_classes": 5,
    }
    spec = toy.spec("knn", system=system, needs={"checkpoint": job[0].job_id})
    context: JobContext = toy.context(spec, tmp_path / "jobs", {"checkpoint": job})
    x_BCHW = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        z_BD = _features.frozen_model(context).eval().features(x_BCHW)
        assert torch.equal(z_BD, model.eval().features(x_BCHW))
        assert z_BD.std() > 0.01


def test_a_file_without_a_classifier_needs_no_number_of_classes(
    perform: Perform, own_spec: Any, toy: Any, tmp_path: Path
) -> None:
    path = own_file(random_model(toy.vit), tmp_path, "npz")
    np.savez(path, **{name: a for name, a in np.load(path).items() if "head" not in name})
    params = own_params(path)
    del params["num_classes"]
    result, folder = perform(own_spec(params), file=str(path))
    found = read_tensors(folder / "model.safetensors", sha256=result.files["model.safetensors"])
    assert result.values["num_classes"] is None
    assert all(name.startswith("encoder.") for name in found)


def test_a_file_that_changed_after_it_was_planned_is_not_loaded(
    perform: Perform, own_spec: Any, toy: Any, tmp_path: Path
) -> None:
    path = own_file(random_model(toy.vit), tmp_path, "npz")
    params = own_params(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"mine\.npz is no longer the file that was planned"):
        perform(own_spec(params), file=str(path))
    path.unlink()
    with pytest.raises(CheckpointError, match=r"mine\.npz: there is no such weights file on this"):
        perform(own_spec(params, seed=1), file=str(path))
