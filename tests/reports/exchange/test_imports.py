"""Others' numbers: mapped by a TOML, refused where they make no sense, shown with a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reports
from bench.errors import UserError
from bench.specs import PublishedResult
from reports.exchange.imports import read
from reports.printing.files import render
from reports.study.study import Study
from reports.tables import imported

TIMM = """\
model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation
vit_base_patch16_224.augreg_in21k_ft_in1k,84.530,15.470,97.294,2.706,86.57,224,0.900,bicubic
resnetv2_152x4_bit.goog_in21k_ft_in1k,84.936,15.064,97.434,2.566,936.53,480,1.000,bilinear
vit_huge_patch14_224.orig,"1,014.45",0,0,0,0,224,0.9,bicubic
"""
MAP = """\
[[import]]
file = "results.csv"
source = "timm, results-imagenet.csv"
protocol = "timm validate.py"
dataset = "ImageNet"
upstream = "ImageNet-21k"
metric = "test_top1"
[import.columns]
system = "model"
value = "top1"
resolution = "img_size"
[import.systems]
"vit_base_patch16_224.augreg_in21k_ft_in1k" = "ViT-B/16"
"resnetv2_152x4_bit.goog_in21k_ft_in1k" = "R152x4"
"""


def written(folder: Path, *, csv: str = TIMM, toml: str = MAP) -> Path:
    (folder / "results.csv").write_text(csv, encoding="utf-8")
    (folder / "map.toml").write_text(toml, encoding="utf-8")
    return folder / "map.toml"


def test_the_layout_of_timm_is_read(tmp_path: Path) -> None:
    found = read(written(tmp_path))
    assert [(row.system, row.resolution, row.line) for row in found] == [
        ("ViT-B/16", "224", 2), ("R152x4", "480", 3),
    ]  # fmt: skip
    assert [row.value for row in found] == pytest.approx([0.8453, 0.84936])
    assert found[0].printed == "84.530"
    assert found[0].protocol == "timm validate.py"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('value = "top1"', 'value = "top1x"', 'results.csv has no column "top1x". Did you mean'),
        ('value = "top1"', "", r"map.toml: import\[0\].columns.value: field required"),
        ('source = "timm, results-imagenet.csv"', "", r"import\[0\].source: field required"),
        ('dataset = "ImageNet"', 'datset = "x"', 'datset: .*Did you mean "dataset"'),
        ('dataset = "ImageNet"', "", r"import\[0\].dataset: missing. Set it, or"),
        ('metric = "test_top1"', 'metric = "top1"', 'results.csv: line 2: unknown metric "top1"'),
        ('resolution = "img_size"', 'dataset = "img_size"', "for the whole file and as a column"),
        ('file = "results.csv"', 'file = "result.csv"', "result.csv: no such file"),
        ('value = "top1"', 'value = "interpolation"', "line 2: interpolation: 'bicubic' is not a"),
        ('value = "top1"', 'value = "param_count"', "936.53 % is not an accuracy"),
        ('"R152x4"', '"ViT-B/16"', None),
        ("[[import]]", "[[imports]]", r"needs \[\[import\]\] tables"),
        ("[[import]]", "[[import", "--import .*map.toml"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_key(
    tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    path = written(tmp_path, toml=MAP.replace(old, new))
    if message is None:  # told apart by their image size
        assert len(read(path)) == 2
        return
    with pytest.raises(UserError, match=message):
        read(path)


def test_two_numbers_for_one_cell_are_refused(tmp_path: Path) -> None:
    twice = TIMM + TIMM.splitlines()[1].replace("84.530", "84.6") + "\n"
    with pytest.raises(UserError, match=r"ViT-B/16 on ImageNet is listed twice .* lines 2 and 5"):
        read(written(tmp_path, csv=twice))


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (TIMM.replace("84.530,", ""), "line 2: not one value per column"),
        (TIMM.replace("84.530", "nan"), "line 2: top1: 'nan' is not a number"),
        (TIMM.replace("ViT", "V").replace("84.530", "-3"), "-3 % is not an accuracy"),
        ('model,top1,img_size\n"vit', "results.csv: unexpected end of data"),
    ],
)
def test_damaged_files_are_told_with_their_line(tmp_path: Path, csv: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(written(tmp_path, csv=csv))


def test_thousands_are_read_as_printed(tmp_path: Path) -> None:
    toml = MAP.replace('"test_top1"', '"images_per_s"').replace(
        "protocol =", 'unit = "fraction"\nprotocol ='
    )
    path = written(tmp_path, toml=toml.partition("[import.systems]")[0])
    assert [row.value for row in read(path)] == [84.53, 84.936, 1014.45]


@pytest.fixture
def study(made: Any, tmp_path: Path) -> Study:
    csv = "net,acc\nViT-Micro/4,90.5\nsomething else,12\n"
    toml = (
        '[[import]]\nfile = "results.csv"\nsource = "<b>them</b>|"\nprotocol = "=theirs"\n'
        'dataset = "Digits"\nmetric = "test_top1"\n'
        '[import.columns]\nsystem = "net"\nvalue = "acc"\n'
    )
    block = made.graph.suite.report.model_copy(update={"figures": ()})
    suite = made.graph.suite.model_copy(update={"report": block})
    sizes = tuple(job for job in made.graph.jobs if job.labels.upstream_examples == 2048)
    graph = made.graph.model_copy(update={"suite": suite, "jobs": sizes})
    printed = PublishedResult(
        paper="made up", table="", system="ViT-Micro/4", dataset="digits", metric="", value="91.2",
        unit="%", source="", confidence="verified",
    )  # fmt: skip
    rows = read(written(tmp_path, csv=csv, toml=toml))
    return Study(graph, made.results, {}, published=(printed,), imported=rows)


def test_they_stand_beside_measured_and_published_numbers(study: Study) -> None:
    table = imported.table(study)
    keys = [column.key for column in table.columns]
    ours, other = (dict(zip(keys, row, strict=True)) for row in table.rows)
    assert ours["theirs"].value == 0.905
    assert ours["published"].text == "91.2"
    assert ours["measured"].n == 3
    assert ours["difference"].value == pytest.approx(ours["measured"].value - 0.905)
    assert other["measured"].status == "absent"
    assert other["difference"].status == "absent"


def test_their_texts_are_escaped_in_every_form(study: Study) -> None:
    table = imported.table(study)
    assert "'=theirs" in render(table, "csv")[".csv"]
    assert "<b>" not in render(table, "html")[".html"]
    assert "<b>" not in render(table, "md")[".md"]
    assert r"\textbar{}" in render(table, "tex")[".tex"]


def test_the_report_knows_what_was_imported(study: Study, tmp_path: Path) -> None:
    made = reports.build(
        study.graph, study.results, curves={}, out_dir=tmp_path / "out", imported=study.imported
    )
    assert len(made.tables["imported"].rows) == 2
    with_them = reports.key(study.graph, study.results, imported=study.imported)
    assert made.key == with_them
    assert with_them != reports.key(study.graph, study.results)
