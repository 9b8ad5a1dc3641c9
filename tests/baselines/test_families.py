"""The contract of every family of systems, and one from outside: planned, built, trained, drawn."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

import baselines
from baselines.contents import looks_like
from baselines.footprint import Numerics
from bench import jobs, plugins
from bench.data import catalog
from bench.errors import UnknownName, UserError
from bench.jobs import JobContext
from bench.models import build, load_weights, save_weights
from bench.plan import plan, suites
from bench.plan.spec import JobGraph
from bench.specs import JobResult, SystemCard, SystemUse, WeightsSource
from reports.drawing import style
from reports.printing.markdown import markdown
from reports.study.study import Study
from reports.tables import pairs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending" / "families.md"
CACHES = (baselines.families, baselines.systems, baselines._names)
SHOWN = (style._family_looks, style.dark_colors)


def forget() -> None:
    """Look for families anew."""
    vars(baselines.FAMILIES).pop("_found", None)
    for cached in (*CACHES, *SHOWN):
        cached.cache_clear()


def smallest(family: baselines.FamilyCard) -> SystemCard:
    return min(family.systems, key=lambda card: card.num_params)


LISTED = [name for name, family in baselines.FAMILIES.items() if family.systems]
"""Families whose systems have cards; others make them by their names: `test_timm.py`."""


@pytest.mark.parametrize("name", LISTED)
def test_the_smallest_system_is_built_and_counted(name: str) -> None:
    family = baselines.FAMILIES[name]
    card = smallest(family)
    size_px = card.image_size_px
    with torch.device("meta"):
        model = build(card, num_classes=5)
        with FlopCounterMode(display=False) as counter:
            z_BD = model.features(torch.zeros(2, 3, size_px, size_px))
    assert z_BD.shape == (2, card.feature_dim)
    assert counter.get_total_flops() == 2 * baselines.forward_flops(card, size_px)
    assert card.num_params == sum(weight.numel() for weight in model.encoder.parameters())
    assert baselines.sizes(card).footprint(size_px, Numerics()).image > 0
    together = any(isinstance(module, _BatchNorm) for module in model.modules())
    assert family.has_batch_statistics(baselines.sizes(card)) == together


@pytest.mark.parametrize("name", baselines.FAMILIES)
def test_a_card_says_what_tables_and_figures_need(name: str) -> None:
    family = baselines.FAMILIES[name]
    assert family.name == name
    assert family.title
    assert family.word
    assert len({card.name for card in family.systems}) == len(family.systems)
    for card in family.systems:
        assert baselines.system(card.title) == card
        for alias in family.aliases(card.title):
            assert baselines.family_of(baselines.system(alias)) == family


def test_looks_of_families_differ() -> None:
    looks = [style.family_look(family.name) for family in baselines.families()]
    assert len({(look.color, look.marker) for look in looks}) == len(looks)


def test_an_unknown_family_or_layout_names_the_nearest() -> None:
    use = SystemUse(family="vti", args={}, version=1)
    with pytest.raises(UnknownName, match=r'unknown family "vti"\. Did you mean "vit"'):
        baselines.sizes(use)
    with pytest.raises(
        UnknownName, match="Known families: bit, hybrid, noisy-student, pixels, timm, vit"
    ):
        baselines.FAMILIES.named("perceiver")
    card = baselines.system("vit-micro")
    weights = WeightsSource(name="mine", url="", licence="", layout="nzp")
    with pytest.raises(UnknownName, match=r'weights mine of vit-micro: .*Did you mean "npz"'):
        one_system(card.model_copy(update={"weights": (weights,)}))
    with pytest.raises(UserError, match='vit-micro is of the family "vit", not "other"'):
        one_system(card, name="other")


def one_system(card: SystemCard, name: str = "vit") -> baselines.FamilyCard:
    known = baselines.FAMILIES["vit"]
    return baselines.FamilyCard(
        name=name, title="x", word="x", sizes=known.sizes, systems=(card,), layouts=known.layouts
    )


# --- a family from outside ----------------------------------------------------------------------

SUITE = """
name = "outside"
title = "A family from outside"
claim = "Others can join."

[dataset.shapes]
reader = "formula"
num_classes = 3
images_per_class = 4
image_size_px = 12

[recipe.one-step]
steps = 1
batch_size = 4
optimizer = "adam"
base_lr = 1e-3
schedule = "constant"

[[pretrain]]
systems = ["vit-micro", "mlp-micro"]
upstream = "shapes"
num_examples = [6, 12]
recipe = "one-step"
protocol = "pretrain-micro"

[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1]
draws = 1
"""


@pytest.fixture
def mlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[baselines.FamilyCard]:
    """The family of the documentation, as another distribution adds it."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "their_mlp.py").write_text(code[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    group = "vitbench.families"
    points = (
        metadata.EntryPoint("broken", "their_nothing:FAMILY", group),
        metadata.EntryPoint("mlp", "their_mlp:FAMILY", group),
    )
    monkeypatch.setattr(plugins, "entry_points", lambda: {group: points})
    forget()
    yield baselines.FAMILIES["mlp"]
    monkeypatch.undo()
    sys.modules.pop("their_mlp", None)
    forget()


def test_a_system_whose_name_is_taken_is_left_out_and_named(
    mlp: baselines.FamilyCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = baselines.system("vit-micro")
    theirs = dataclasses.replace(mlp, systems=(ours.model_copy(update={"family": "mlp"}),))
    found = {**baselines.FAMILIES, "mlp": theirs}
    monkeypatch.setattr(baselines, "families", lambda: tuple(found.values()))
    baselines.systems.cache_clear()
    assert baselines.system("vit-micro").family == "vit"
    broken = dict(plugins.left_out())["mlp, vit-micro"]
    assert "the name 'vit-micro' is taken by vit" in broken


def planned(tmp_path: Path) -> JobGraph:
    toml = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "outside.toml"
    path.write_text(SUITE + toml[0], encoding="utf-8")
    spec = suites.load(str(path))
    own = {
        name: catalog.resolve(name, block, base_dir=tmp_path)
        for name, block in spec.dataset.items()
    }
    return plan(spec, datasets={**catalog.datasets(), **own}, protocols=catalog.protocols())


def done(graph: JobGraph, folder: Path) -> dict[str, JobResult]:
    results: dict[str, JobResult] = {}
    for job in graph.jobs:
        own = folder / job.job_id
        own.mkdir(parents=True)
        results[job.job_id] = jobs.run(
            JobContext(
                spec=job.spec,
                folder=own,
                inputs={key: (results[id_], folder / id_) for key, id_ in job.spec.needs.items()},
                dataset=graph.datasets[job.dataset],
                cache_dir=folder / "cache",
                attempt=1,
                report=lambda line: None,
                resources=job.resources,
            )
        )
    return results


def test_a_family_from_outside_joins_in(mlp: baselines.FamilyCard) -> None:
    assert baselines.families()[-1] == mlp
    assert baselines.system("MLP-micro").num_params == 39_296
    assert "their_nothing" in baselines.FAMILIES.broken["broken"]
    assert style.family_look("mlp").color in style.SPARE_COLORS
    test_the_smallest_system_is_built_and_counted("mlp")
    test_a_card_says_what_tables_and_figures_need("mlp")
    test_looks_of_families_differ()


def test_its_weights_are_read_written_and_recognized(
    mlp: baselines.FamilyCard, tmp_path: Path
) -> None:
    model = build("mlp-micro", num_classes=5)
    path = save_weights(model, tmp_path / "mlp.safetensors", layout="timm")
    again = build("mlp-micro", num_classes=5, generator=torch.Generator().manual_seed(7))
    load_weights(again, path)
    state = model.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in again.state_dict().items())
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert looks_like(shapes) == "The file looks like MLP-micro (mlp-micro)"
    with pytest.raises(UnknownName, match=r'family mlp: unknown layout "npz"\. Known layouts'):
        save_weights(model, tmp_path / "mlp.npz", layout="npz")


@pytest.mark.ordinary
def test_it_is_planned_trained_compared_and_drawn(
    mlp: baselines.FamilyCard, tmp_path: Path
) -> None:
    from reports.figures import pretrain_compute

    graph = planned(tmp_path)
    assert {job.labels.family for job in graph.jobs} == {"vit", "mlp"}
    study = Study(graph, done(graph, tmp_path / "jobs"), {})
    table = pairs.table(study)
    assert table.title == "Pairs"
    assert "mlp_difference" in {column.key for column in table.columns}
    assert {contest.names for contest in pairs.contests(study)} == {("ViT", "MLP")}
    assert {column.group for column in table.columns} == {"", "ViT-micro/4 − MLP-micro"}
    assert "(points)" in markdown(table)
    drawing = pretrain_compute.figure(study)
    assert drawing is not None
    assert style.family_look("mlp").color.encode() in drawing.svg
