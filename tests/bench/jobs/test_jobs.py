"""The four job kinds on a system and a data set of toy size: same path, milliseconds."""

from __future__ import annotations

import functools
import importlib.util
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import baselines
from bench import jobs, models, training
from bench.checkpoint import Checkpoints, file_sha256, read_tensors, write_tensors
from bench.data import loader, prepare, transforms
from bench.data.prepare import Split
from bench.errors import CheckpointError, JobError, OutOfMemory, UnknownName
from bench.jobs import JobContext, _features, finetune, pretrain
from bench.specs import (
    KIND_VERSIONS,
    DatasetCard,
    DataUse,
    JobResult,
    JobSpec,
    Metric,
    Protocol,
    Recipe,
    SplitCard,
    SystemUse,
)

NUM_TRAIN, NUM_TEST, NUM_CLASSES, DIGEST = 60, 25, 3, "0123456789abcdef"


class ToyData:
    """Three classes of noise around three colours."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.splits = {
            name: self._split(rng, num) for name, num in (("train", NUM_TRAIN), ("test", NUM_TEST))
        }

    @staticmethod
    def _split(rng: np.random.Generator, num: int) -> Split:
        labels_N = rng.permutation(np.arange(num) % NUM_CLASSES)
        colours_N3 = np.array([[150, 90, 90], [90, 150, 90], [90, 90, 150]])[labels_N]
        noise = rng.normal(scale=60, size=(num, 8, 8, 3))
        images = np.clip(colours_N3[:, None, None] + noise, 0, 255).astype(np.uint8)
        return Split(images, labels_N)

    def split(self, name: str) -> Split:
        return self.splits[name]


DATA = ToyData()
CARD = DatasetCard(
    name="toy",
    title="Toy",
    reader="none",
    num_classes=NUM_CLASSES,
    splits={"train": SplitCard(num_examples=NUM_TRAIN), "test": SplitCard(num_examples=NUM_TEST)},
    digest=DIGEST,
)
VIT_ARGS: dict[str, Any] = {"width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16, "patch_px": 4}
VIT = baselines.use(baselines.system("vit-micro")).model_copy(update={"args": VIT_ARGS})
PRETRAINING = Recipe(
    steps=12, batch_size=8, optimizer="adam", base_lr=0.003, schedule="cosine", warmup_steps=2
)
FINETUNING = Recipe(steps=6, batch_size=8, optimizer="sgd", base_lr=0.03, schedule="cosine")


@pytest.fixture(autouse=True)
def _toy_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "packed", lambda card, *, cache_dir: DATA)


def make_spec(
    kind: str, *, recipe: Recipe | None = None, size_px: int = 8, **fields: Any
) -> JobSpec:
    data = {
        "digest": DIGEST,
        "num_classes": NUM_CLASSES,
        "train_split": "train",
        "eval_split": fields.pop("eval_split", ""),
        "num_examples": fields.pop("num_examples", None),
        "held_out": fields.pop("held_out", None),
    }
    protocol = Protocol(
        name="toy", image_size_px=size_px, train_transform="resize", eval_transform="resize"
    )
    return JobSpec(
        kind=kind,
        kind_version=fields.pop("kind_version", KIND_VERSIONS.get(kind, 1)),
        system=fields.pop("system", VIT),
        data=DataUse(**data),
        protocol=protocol,
        recipe=recipe,
        seed=fields.pop("seed", 0),
        **fields,
    )


Inputs = dict[str, tuple[JobResult, Path]]


def make_context(
    spec: JobSpec, folder: Path, inputs: Inputs | None = None, **fields: Any
) -> JobContext:
    defaults: dict[str, Any] = {
        "card": CARD,
        "cache_dir": folder.parent / "cache",
        "device": "cpu",
        "attempt": 1,
        "report": lambda line: None,
    }
    job = folder / spec.job_id
    job.mkdir(parents=True, exist_ok=True)
    return JobContext(spec=spec, folder=job, inputs=inputs or {}, **{**defaults, **fields})


Perform = Callable[..., tuple[JobResult, Path]]


@pytest.fixture
def perform(tmp_path: Path) -> Perform:
    """Run a job as the scheduler would; returns its result and folder."""

    def run(
        spec: JobSpec, inputs: Inputs | None = None, *, folder: str = "jobs", **fields: Any
    ) -> tuple[JobResult, Path]:
        context = make_context(spec, tmp_path / folder, inputs, **fields)
        return jobs.run(context), context.folder

    return run


@pytest.fixture
def pretrained(perform: Perform) -> tuple[JobResult, Path]:
    return perform(make_spec("pretrain", recipe=PRETRAINING))


# --- the kinds ------------------------------------------------------------------------------


def test_every_kind_is_a_file_with_the_version_that_plans_name() -> None:
    assert set(jobs.KINDS) == set(KIND_VERSIONS)
    for kind in jobs.KINDS:
        assert KIND_VERSIONS[kind] == importlib.import_module(f"bench.jobs.{kind}").VERSION


def test_an_unknown_kind_is_told_with_the_nearest(perform: Perform) -> None:
    with pytest.raises(UnknownName, match=r'"fintune".*Did you mean "finetune"'):
        perform(make_spec("fintune"))


def test_a_plan_of_another_version_is_refused(perform: Perform) -> None:
    with pytest.raises(JobError, match="planned for version 99"):
        perform(make_spec("pretrain", recipe=PRETRAINING, kind_version=99))


def test_a_data_set_that_changed_after_planning_is_refused(perform: Perform) -> None:
    changed = CARD.model_copy(update={"digest": "f" * 16})
    with pytest.raises(JobError, match="toy has changed"):
        perform(make_spec("pretrain", recipe=PRETRAINING), card=changed)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
    ids=["host", "cuda", "allocator", "cublas"],
)
def test_exhausted_memory_has_one_name(
    perform: Perform, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(context: JobContext) -> None:
        raise error

    monkeypatch.setattr(pretrain, "run", fail)
    with pytest.raises(OutOfMemory, match="ran out of memory") as raised:
        perform(make_spec("pretrain", recipe=PRETRAINING))
    assert raised.value.__cause__ is error


def test_other_errors_pass_through_and_threads_are_put_back(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fail(context: JobContext) -> None:
        seen.append(torch.get_num_threads())
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(pretrain, "run", fail)
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="shapes differ"):
        perform(make_spec("pretrain", recipe=PRETRAINING, num_threads=before + 1))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(perform: Perform) -> None:
    with pytest.raises(JobError, match="planned for a GPU"):
        perform(make_spec("pretrain", recipe=PRETRAINING), device="cuda")


def test_a_missing_tpu_library_is_told(perform: Perform) -> None:
    if importlib.util.find_spec("torch_tpu"):
        pytest.skip("torch_tpu is installed")
    with pytest.raises(JobError, match="torch_tpu is not installed"):
        perform(make_spec("pretrain", recipe=PRETRAINING), device="tpu")


# --- pretrain -------------------------------------------------------------------------------


def test_pretrain_returns_weights_loss_and_cost(pretrained: tuple[JobResult, Path]) -> None:
    result, folder = pretrained
    assert result.status == "done"
    loss = result.metrics["train_loss"]
    assert loss.value is not None
    assert 0 < loss.value < 3
    assert result.files == {"model.safetensors": file_sha256(folder / "model.safetensors")}
    cost = result.cost
    assert cost is not None
    assert cost.examples == 12 * 8
    assert cost.wall_s > 0
    assert cost.core_s > 0
    assert cost.images_per_s is not None
    assert 0 < cost.peak_memory_gib < 100
    assert result.environment["device_kind"] == "cpu"


def test_the_same_spec_gives_the_same_bits_and_another_seed_others(perform: Perform) -> None:
    def digest(folder: str, seed: int) -> str:
        spec = make_spec("pretrain", recipe=PRETRAINING, seed=seed)
        return perform(spec, folder=folder)[0].files["model.safetensors"]

    assert digest("a", 0) == digest("b", 0) != digest("c", 1)


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_killed_training_job_resumes_to_the_same_bits(
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    module = {"pretrain": pretrain, "finetune": finetune}[kind]
    monkeypatch.setattr(module, "Checkpoints", functools.partial(Checkpoints, interval_s=0))
    if kind == "pretrain":
        spec = make_spec("pretrain", recipe=PRETRAINING)
    else:
        spec = make_spec(
            "finetune",
            recipe=FINETUNING,
            size_px=12,
            eval_split="test",
            needs={"checkpoint": pretrained[0].job_id},
        )
    inputs = {"checkpoint": pretrained}
    whole, _ = perform(spec, inputs, folder="whole")

    def killed(line: dict[str, Any]) -> None:
        if line["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(spec, inputs, folder="resumed", report=killed)
    lines: list[dict[str, Any]] = []
    resumed, _ = perform(spec, inputs, folder="resumed", report=lines.append, attempt=2)
    assert lines[0]["step"] == 5
    assert resumed.attempt == 2
    assert resumed.files == whole.files
    assert resumed.metrics == whole.metrics


def test_pretrain_sees_a_subset_of_the_seed(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def batches(split: Split, indices_N: np.ndarray, *args: Any, **kwargs: Any) -> loader.Batches:
        seen.append(indices_N)
        return real(split, indices_N, *args, **kwargs)

    real = loader.Batches
    monkeypatch.setattr(loader, "Batches", batches)
    for num, seed in ((30, 0), (12, 0), (12, 1), (None, 0)):
        perform(make_spec("pretrain", recipe=PRETRAINING, num_examples=num, seed=seed))
    large, small, other, everything = seen
    assert len(small) == 12
    assert set(small) < set(large) < set(everything) == set(range(NUM_TRAIN))
    assert set(small) != set(other)


# --- finetune and select --------------------------------------------------------------------


def finetune_spec(pretrained: tuple[JobResult, Path], rate: float | None, **fields: Any) -> JobSpec:
    return make_spec(
        "finetune",
        recipe=FINETUNING.model_copy(update={"base_lr": rate}),
        size_px=12,
        needs={"checkpoint": pretrained[0].job_id},
        **fields,
    )


def test_a_candidate_trains_without_the_held_out_part_and_is_scored_on_it(
    perform: Perform, pretrained: tuple[JobResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, np.ndarray] = {}
    real_batches, real_evaluate = loader.Batches, training.evaluate

    def batches(split: Split, indices_N: np.ndarray, *args: Any, **kwargs: Any) -> loader.Batches:
        seen["train"] = indices_N
        return real_batches(split, indices_N, *args, **kwargs)

    def evaluate(model: Any, split: Split, transform: Any, *, indices_N: np.ndarray) -> np.ndarray:
        assert split is DATA.split("train")
        seen["held"] = indices_N
        return real_evaluate(model, split, transform, indices_N=indices_N)

    monkeypatch.setattr(loader, "Batches", batches)
    monkeypatch.setattr(training, "evaluate", evaluate)
    spec = finetune_spec(pretrained, 0.01, held_out=0.2, eval_split="held-out")
    result, folder = perform(spec, {"checkpoint": pretrained})
    assert len(seen["held"]) == 12
    assert sorted([*seen["train"], *seen["held"]]) == list(range(NUM_TRAIN))
    hits = np.load(folder / "hits.npz")["hits"]
    assert set(result.metrics) == {"val_top1"}
    assert result.metrics["val_top1"].n == len(hits) == 12
    assert result.metrics["val_top1"].value == pytest.approx(hits.mean())
    assert result.values == {"learning_rate": 0.01}
    assert set(result.files) == {"hits.npz"}


def test_fine_tuning_starts_from_the_encoder_and_a_zero_head(
    perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    """With a vanishing rate nothing moves: what is written is what training started from."""
    spec = finetune_spec(pretrained, 1e-12, eval_split="test")
    result, folder = perform(spec, {"checkpoint": pretrained})
    before = read_tensors(
        pretrained[1] / "model.safetensors", sha256=pretrained[0].files["model.safetensors"]
    )
    after = read_tensors(folder / "model.safetensors", sha256=result.files["model.safetensors"])
    assert not any(name.startswith("pre_logits") for name in after)
    assert after["head.weight"].abs().max() < 1e-6
    for name, value in after.items():
        if name == "encoder.pos_embed":
            assert value.shape[1] == 10  # 3 x 3 patches and the class token, from 2 x 2
            expected = models.interpolate_positions(before[name], 3)
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
        elif name.startswith("encoder."):
            torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0)


def select_from(
    perform: Perform, tmp_path: Path, found: list[tuple[float, float | None]]
) -> JobResult:
    inputs, needs = {}, {}
    for index, (rate, accuracy) in enumerate(found):
        metric = Metric(name="val_top1", value=accuracy, n=12, reason="" if accuracy else "none")
        job_id = f"{index:016x}"
        needs[f"candidate:{index}"] = job_id
        result = JobResult(
            job_id=job_id,
            status="done",
            metrics={"val_top1": metric},
            values={"learning_rate": rate},
        )
        inputs[f"candidate:{index}"] = (result, tmp_path)
    return perform(make_spec("select", eval_split="held-out", needs=needs), inputs)[0]


def test_select_takes_the_best(perform: Perform, tmp_path: Path) -> None:
    result = select_from(perform, tmp_path, [(0.01, 0.5), (0.03, 0.9), (0.1, 0.7)])
    assert result.values == {"learning_rate": 0.03, "candidate": f"{1:016x}"}
    assert result.metrics["val_top1"].value == 0.9


def test_select_takes_the_smaller_rate_of_equals(perform: Perform, tmp_path: Path) -> None:
    result = select_from(perform, tmp_path, [(0.1, 0.9), (0.03, 0.9), (0.01, 0.8), (0.3, None)])
    assert result.values["learning_rate"] == 0.03


def test_select_needs_candidates(perform: Perform, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no candidates"):
        select_from(perform, tmp_path, [])


def test_the_final_run_takes_the_chosen_rate_and_reports_on_test(
    perform: Perform, pretrained: tuple[JobResult, Path], tmp_path: Path
) -> None:
    selected = select_from(perform, tmp_path, [(0.01, 0.5), (0.05, 0.9)])
    spec = finetune_spec(pretrained, None, eval_split="test")
    inputs = {"checkpoint": pretrained, "select": (selected, tmp_path)}
    result, folder = perform(spec, inputs)
    assert result.values == {"learning_rate": 0.05}
    hits = np.load(folder / "hits.npz")["hits"]
    assert set(result.metrics) == {"test_top1"}
    assert result.metrics["test_top1"].n == len(hits) == NUM_TEST
    assert set(result.files) == {"hits.npz", "model.safetensors"}
    direct = finetune_spec(pretrained, 0.05, eval_split="test")
    assert perform(direct, {"checkpoint": pretrained})[0].files == result.files
    with pytest.raises(JobError, match="no learning rate"):
        perform(spec, {"checkpoint": pretrained}, folder="other")


def test_damaged_weights_are_refused(perform: Perform, pretrained: tuple[JobResult, Path]) -> None:
    path = pretrained[1] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        perform(finetune_spec(pretrained, 0.1, eval_split="test"), {"checkpoint": pretrained})


def test_weights_of_another_system_are_refused(
    perform: Perform, pretrained: tuple[JobResult, Path]
) -> None:
    wider = SystemUse(family="vit", args={**VIT_ARGS, "width": 32}, version=1)
    spec = finetune_spec(pretrained, 0.1, eval_split="test", system=wider)
    with pytest.raises(CheckpointError, match="shape"):
        perform(spec, {"checkpoint": pretrained})


# --- fewshot --------------------------------------------------------------------------------


@pytest.fixture
def fewshot_spec(pretrained: tuple[JobResult, Path]) -> JobSpec:
    return make_spec(
        "fewshot",
        eval_split="test",
        params={"shots": (1, 3, 30), "draws": 2, "l2": 1.0},
        needs={"checkpoint": pretrained[0].job_id},
    )


def literal_fewshot(pretrained: tuple[JobResult, Path]) -> Iterator[tuple[int, int, np.ndarray]]:
    """big_vision's rule on features of a model that is built and loaded by hand."""
    model = models.build(VIT, num_classes=NUM_CLASSES, image_size_px=8, pretraining_head=True)
    model.load_state_dict(
        read_tensors(
            pretrained[1] / "model.safetensors", sha256=pretrained[0].files["model.safetensors"]
        )
    )
    model.eval()
    transform = transforms.preset("resize", size_px=8)
    with torch.no_grad():
        train, test = (
            model.features(transform(torch.from_numpy(DATA.split(name).images_NHWC), None))
            .double()
            .numpy()
            for name in ("train", "test")
        )
    labels = DATA.split("train").labels_N
    for shots in (1, 3, 30):
        for draw in range(2):
            rng = np.random.default_rng(draw)
            order = [rng.permutation(np.where(labels == k)[0]) for k in range(NUM_CLASSES)]
            chosen = np.concatenate([indices[:shots] for indices in order])
            mean, std = train[chosen].mean(axis=0), train[chosen].std(axis=0) + 1e-5
            x = np.pad((train[chosen] - mean) / std, ((0, 0), (0, 1)), constant_values=100)
            t = np.pad((test - mean) / std, ((0, 0), (0, 1)), constant_values=100)
            y = 2.0 * np.eye(NUM_CLASSES)[labels[chosen]] - 1
            weight = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
            yield shots, draw, (t @ weight).argmax(axis=1) == DATA.split("test").labels_N


def test_fewshot_is_the_literal_rule_on_pre_logits(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    result, folder = perform(fewshot_spec, {"checkpoint": pretrained})
    hits = np.load(folder / "hits.npz")
    assert set(result.metrics) == {f"fewshot_top1/{shots}" for shots in (1, 3, 30)}
    for shots, draw, expected in literal_fewshot(pretrained):
        np.testing.assert_array_equal(hits[f"shots_{shots}"][draw], expected)
        metric = result.metrics[f"fewshot_top1/{shots}"]
        assert metric.samples[draw] == pytest.approx(expected.mean())
        assert metric.value == pytest.approx(np.mean(metric.samples))
        assert metric.n == NUM_TEST
    # 30 images of a class are asked for, and each of the three has 20.
    assert result.values == {"short_classes/30": 3}


def test_features_are_computed_once(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    first, _ = perform(fewshot_spec, {"checkpoint": pretrained})
    assert first.cost is not None
    assert first.cost.examples == NUM_TRAIN + NUM_TEST
    assert first.cost.images_per_s is not None
    second, _ = perform(fewshot_spec, {"checkpoint": pretrained}, folder="again")
    assert second.cost is not None
    assert second.cost.examples == 0
    assert second.cost.images_per_s is None
    assert second.metrics == first.metrics
    assert second.files == first.files


@pytest.mark.parametrize("damage", ["bytes", "truncated", "shape", "sidecar"])
def test_damaged_features_are_computed_again(
    perform: Perform,
    pretrained: tuple[JobResult, Path],
    fewshot_spec: JobSpec,
    tmp_path: Path,
    damage: str,
) -> None:
    first, _ = perform(fewshot_spec, {"checkpoint": pretrained})
    for path in (tmp_path / "cache" / "features").glob("*/features.npy"):
        if damage == "bytes":
            data = bytearray(path.read_bytes())
            data[-3] ^= 64
            path.write_bytes(data)
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:50])
        elif damage == "shape":
            _features._write(path.parent, np.load(path)[:-1])
        else:
            path.with_suffix(".json").write_text("{")
    second, _ = perform(fewshot_spec, {"checkpoint": pretrained}, folder="again")
    assert second.cost is not None
    assert second.cost.examples == NUM_TRAIN + NUM_TEST
    assert second.metrics == first.metrics


def test_features_of_other_weights_are_not_mixed_up(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    perform(fewshot_spec, {"checkpoint": pretrained})
    other = perform(make_spec("pretrain", recipe=PRETRAINING, seed=5))
    spec = fewshot_spec.model_copy(update={"needs": {"checkpoint": other[0].job_id}})
    result, _ = perform(spec, {"checkpoint": other})
    assert result.cost is not None
    assert result.cost.examples == NUM_TRAIN + NUM_TEST


def test_features_that_are_not_finite_are_told(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    result, folder = pretrained
    path = folder / "model.safetensors"
    weights = read_tensors(path, sha256=result.files["model.safetensors"])
    weights["encoder.norm.bias"][0] = torch.nan
    broken = result.model_copy(update={"files": {path.name: write_tensors(path, weights)}})
    with pytest.raises(JobError, match="60 of 60 images of toy"):
        perform(fewshot_spec, {"checkpoint": (broken, folder)})


def test_hits_carry_no_time(
    perform: Perform, pretrained: tuple[JobResult, Path], fewshot_spec: JobSpec
) -> None:
    """A date inside the archive would make equal results differ."""
    _, folder = perform(fewshot_spec, {"checkpoint": pretrained})
    with zipfile.ZipFile(folder / "hits.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
